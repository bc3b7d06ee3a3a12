"""The ranker alone and the policy on it, in eager torch and as the files that production opens."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recomind.export import PolicyScorer
from recomind.export.onnx import graph
from recomind.export.onnx.joint import FusedJoint, fused_utility
from recomind.export.scorer import order_slots, ordered_slots
from recomind.policy import QNetwork
from recomind.ranker import SessionRanker, utility
from recomind.types import SessionState

Way = Callable[[Sequence[Tensor]], Any]  # inputs of the graphs, in order -> order and scores


def state_of(inputs: Sequence[Tensor]) -> tuple[SessionState, Tensor, Tensor]:
    """The state, candidates and mask of a graph's inputs."""
    *of_state, item_id, mask = inputs
    fields: dict[str, Any] = dict(zip(graph.STATE_INPUTS, of_state, strict=True))
    return SessionState(**fields, user_id=fields["step"], batch_size=[]), item_id, mask


class RankerGraph(nn.Module):
    """What a supervised team serves: the ranker's utility and its order, traced as a policy is."""

    def __init__(self, network: QNetwork) -> None:
        super().__init__()
        assert isinstance(network.frozen, SessionRanker)
        self.ranker, self.joint = network.frozen, FusedJoint([network.frozen])
        self.weights_H = network.weights_H

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Order and utility, each [B, K]."""
        state, item_id, mask = state_of(inputs)
        encoding = self.ranker.encode_state(state)
        (joint,), wide = self.joint([encoding], item_id)
        found = fused_utility(self.ranker, joint, wide, encoding, self.weights_H)
        return ordered_slots(found, mask, found, item_id, mask), found


def eager_ways(scorer: PolicyScorer) -> dict[str, Way]:
    """Both arms as the service asks them, in torch."""
    network = scorer.network
    ranker = network.frozen

    def ranked(inputs: Sequence[Tensor]) -> Any:
        state, item_id, mask = state_of(inputs)
        found = utility(ranker.score(ranker.encode_state(state), item_id), network.weights_H)
        return order_slots(found, mask, found, item_id, mask), found

    def decided(inputs: Sequence[Tensor]) -> Any:
        return scorer.rank(*state_of(inputs))

    return {"ranker": ranked, "policy": decided}


def modules(scorer: PolicyScorer) -> dict[str, nn.Module]:
    """Both arms as modules of tensors alone."""
    return {
        "ranker": RankerGraph(scorer.network).eval(),
        "policy": graph.DecisionGraph(scorer).eval(),
    }


def onnx_ways(scorer: PolicyScorer, folder: Path) -> dict[str, Way]:
    """Both arms on ONNX Runtime, one thread."""
    names, (arguments, shapes) = graph.input_names(scorer), graph.sample_arguments(scorer)
    ways: dict[str, Way] = {}
    for arm, module in modules(scorer).items():
        outputs = ("order", "utility") if arm == "ranker" else graph.OUTPUTS
        path = folder / f"{arm}.onnx"
        graph.to_onnx(module, arguments, shapes, names, outputs).save(str(path))
        session = graph.open_session(path)
        taken = {each.name for each in session.get_inputs()}

        def run(inputs: Sequence[Tensor], session: Any = session, taken: Any = taken) -> Any:
            fed = {n: t.numpy() for n, t in zip(names, inputs, strict=True) if n in taken}
            return session.run(None, fed)

        ways[arm] = run
    return ways


def aot_ways(scorer: PolicyScorer, folder: Path) -> dict[str, Way]:
    """Both arms compiled ahead of time by torch's AOTInductor; needs a C++ compiler."""
    inductor: Any = importlib.import_module("torch._inductor")
    arguments, shapes = graph.sample_arguments(scorer)
    ways: dict[str, Way] = {}
    for arm, module in modules(scorer).items():
        program = torch.export.export(module, tuple(arguments), dynamic_shapes=(tuple(shapes),))
        path = inductor.aoti_compile_and_package(program, package_path=str(folder / f"{arm}.pt2"))
        package = inductor.aoti_load_package(path)
        ways[arm] = lambda inputs, package=package: package(*inputs)
    return ways
