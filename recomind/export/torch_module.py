"""The format `torch_module`: a policy on a torch module of a company's own, as that module.

    model.safetensors      a `state_dict` that the company's own loader takes with `strict=True`
    module.json            how the policy got there, and how far it is from the policy
    residual.safetensors   only where the module's own weights cannot hold the policy:
    policy_module.py       then `model.safetensors` is as it was, and this adds the rest

The policy is first distilled into the module's own weights. Where these hold less than
`MIN_NDCG` of its order, such as in a small network or one that does not look at the history, they
stay untouched, and a network over the module's own inputs learns what is to be added. What neither
input nor weights can tell of the policy is lost, and measured; the format `onnx` loses nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from recomind.adapters import ExternalKind, OutputKind, StateBatch
from recomind.adapters.torch_module import load_torch
from recomind.artifacts import write_json
from recomind.errors import ConfigError
from recomind.export import policy_module
from recomind.export.distilling import Lessons, Logits, agreement, distil, is_untrained
from recomind.export.formats import ExportJob
from recomind.export.onnx.theirs import TracedModule, external_part, flat_rows
from recomind.export.policy_module import PolicyModule, float_columns
from recomind.export.scorer import PolicyScorer
from recomind.policy import QNetwork
from recomind.ranker import CompletedRanker, ExternalRanker
from recomind.types import SessionState

MODEL, RESIDUAL = "model.safetensors", "residual.safetensors"
MIN_NDCG = 0.9  # of the policy's order, for weights to be said to hold it


@dataclass(frozen=True, slots=True)
class TorchModuleFormat:
    """See the module."""

    name: str = "torch_module"

    def check_possible(self, scorer: PolicyScorer) -> None:
        """Raise ConfigError unless the policy's ranker is a torch module of the user's."""
        external = external_part(scorer.network.frozen)
        if external is not None and external.config.kind is ExternalKind.torch:
            return
        kind = "a ranker of ours" if external is None else external.config.kind.value
        raise ConfigError(
            "export.formats=[torch_module] writes the policy as a torch module of yours",
            got=f"a policy on {kind}",
            expected="ranker.external.kind=torch",
            mend="export.target=ranker for a ranker of ours, export.formats=[onnx] for others",
        )

    def write(self, job: ExportJob, folder: Path) -> dict[str, Any]:
        """Write the folder; returns how far the module is from the policy."""
        network, external = job.scorer.network, external_part(job.scorer.network.frozen)
        assert external is not None
        lessons, theirs = (
            job.lessons_for(self.name),
            load_torch(external.config, external.model_path),
        )
        before = agreement(module_logits(network, theirs), network.weights_H, lessons.held_out)
        report: dict[str, Any] = {"ndcg_at_10_bound": before["ndcg_at_10"]}
        if is_untrained(network):
            shutil.copyfile(external.model_path, folder / MODEL)
            report |= before | {"how": "untouched", "passed": True}
        else:
            report |= _taught(network, external, lessons, folder)
            report["passed"] = report["ndcg_at_10"] > report["ndcg_at_10_bound"]
        write_json(folder / "module.json", report)
        return report


def _taught(
    network: QNetwork, external: ExternalRanker, lessons: Lessons, folder: Path
) -> dict[str, Any]:
    """Write the module's weights where they hold the policy, else a residual beside them."""
    module = load_torch(external.config, external.model_path).requires_grad_(True)
    found = _learn(network, module, list(module.parameters()), lessons)
    inputs = float_inputs(network, lessons)
    if found["ndcg_at_10"] >= MIN_NDCG or inputs is None:
        state = {name: t.detach().clone() for name, t in module.state_dict().items()}
        safetensors.torch.save_file(state, folder / MODEL)
        return found | {"how": "weights"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(lessons.seed)
        theirs = load_torch(external.config, external.model_path)
        beside = PolicyModule(
            theirs,
            inputs.shape[1],
            len(external.tasks),
            probabilities=external.config.output is OutputKind.probabilities,
        )
    beside.mean.copy_(inputs.mean(0))
    beside.scale.copy_(inputs.std(0).clamp(min=1e-3))
    of_weights = found["ndcg_at_10"]
    found = _learn(network, beside, list(beside.net.parameters()), lessons)
    shutil.copyfile(external.model_path, folder / MODEL)
    safetensors.torch.save_file(beside.residual_state(), folder / RESIDUAL)
    source = Path(policy_module.__file__)
    shutil.copyfile(source, folder / source.name)
    return found | {"how": "residual", "ndcg_at_10_of_weights": of_weights}


def _learn(
    network: QNetwork, module: nn.Module, parameters: list[nn.Parameter], lessons: Lessons
) -> dict[str, float]:
    student = module_logits(network, module)
    distil(student, parameters, network.weights_H, lessons)
    module.requires_grad_(False)
    return agreement(student, network.weights_H, lessons.held_out)


def module_logits(network: QNetwork, module: nn.Module) -> Logits:
    """The calibrated logits of the policy's ranker with `module` in place of the one it has."""
    frozen, external = network.frozen, external_part(network.frozen)
    assert external is not None
    traced, catalogue = TracedModule(external.config, module, network.catalogue), network.catalogue

    def logits(state: SessionState, item_id: Tensor) -> Tensor:
        encoding = traced.encode(StateBatch(state=state, catalogue=catalogue))
        theirs = external.calibration(traced.score(encoding, item_id, catalogue, None))
        if not isinstance(frozen, CompletedRanker):
            return theirs
        return frozen.completed(theirs, frozen.own.encode_state(state), item_id)

    return logits


def float_inputs(network: QNetwork, lessons: Lessons) -> Tensor | None:
    """[R, F] floating-point inputs of the module for some states; None where it has none.

    A module with `encode` and `score` takes states, not rows, so that nothing can be added to it.
    """
    external = external_part(network.frozen)
    assert external is not None
    traced = TracedModule(external.config, nn.Identity(), network.catalogue)
    if traced.inputs is None:
        return None
    some = lessons.train.head(64)
    made = traced.inputs(flat_rows(some.state, some.item_id, traced.catalogue))
    parts = made.values() if isinstance(made, Mapping) else made
    parts = [parts] if isinstance(parts, Tensor) else list(parts)
    floats = [p for p in parts if isinstance(p, Tensor) and p.is_floating_point()]
    return float_columns(floats) if floats else None


FORMAT = TorchModuleFormat()
