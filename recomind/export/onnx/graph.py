"""The whole decision as one ONNX graph: states and candidates in, the final order out.

    inputs   user_features [B, U], history_item_id [B, L], history_feedback [B, L, H],
             history_dwell_s [B, L], history_gap_s [B, L], history_mask [B, L], gap_s [B],
             step [B], item_id [B, K], mask [B, K]
    outputs  order [B, K], q [B, K], utility [B, K], supported [B, K] and, where the support asks
             for the density of the logs too, log_density [B, K]

`B` and `K` are free; types are those of `SessionState` and `Candidates`. The graph carries the
tables of items. The outputs are those of `PolicyScorer.rank_supported`: `order` holds slots from
best to worst, and q is -inf in padding. A ranker that existed already may look at the user's id,
so a policy on one has `user_id` [B] among its inputs; where it answers outside the graph, its
outputs `theirs` [B, K, H] are an input too.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from recomind.errors import ConfigError
from recomind.export.golden import Golden, random_states
from recomind.export.onnx.joint import fused_scores
from recomind.export.onnx.theirs import Given, external_part
from recomind.export.scorer import PolicyScorer, ordered_slots
from recomind.ranker.capabilities import two_tower_part
from recomind.streams import make_generator
from recomind.types import SessionState

if TYPE_CHECKING:
    import onnx

USER, THEIRS = "user_id", "theirs"
STATE_INPUTS = (
    "user_features",
    "history_item_id",
    "history_feedback",
    "history_dwell_s",
    "history_gap_s",
    "history_mask",
    "gap_s",
    "step",
)
INPUTS = (*STATE_INPUTS, "item_id", "mask")
OUTPUTS, DENSITY = ("order", "q", "utility", "supported"), "log_density"
BATCH, CANDIDATES = torch.export.Dim("batch"), torch.export.Dim("candidates")
_EXTERNAL_BYTES = 2**30  # protobuf holds no more than 2 GiB; larger weights lie beside the file
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_CHUNK = 64  # states asked at once


class DecisionGraph(nn.Module):
    """A scorer with tensors for arguments, which is all that ONNX knows.

    Args:
        scorer: what decides.
        given: takes the outputs of a ranker that answers outside the graph, where one does.
    """

    def __init__(self, scorer: PolicyScorer, given: Given | None = None) -> None:
        super().__init__()
        self.network, self._supported = scorer.network, scorer.supported
        self._fields, self._given = state_inputs(scorer), given
        self._fused = fused_scores(scorer.network)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Tensors by position, in the order of `input_names`; outputs in that of `OUTPUTS`."""
        if self._given is not None:
            self._given.values, inputs = inputs[-1], inputs[:-1]
        *of_state, item_id, mask = inputs
        fields: dict[str, Any] = dict(zip(self._fields, of_state, strict=True))
        # No output of ours depends on the user's id.
        fields.setdefault(USER, fields["step"])
        state = SessionState(**fields, batch_size=[])
        encoding = self.network.encode_state(state)
        if self._fused is None:
            q, utility = self.network.score_encoded(encoding, item_id)
        else:
            q, utility = self._fused(encoding.frozen, encoding.trunk, item_id)
        density = self.network.log_density(encoding, item_id)
        supported = self._supported(utility, mask, density)
        order = ordered_slots(q, supported, utility, item_id, mask)
        answers = (order, q.masked_fill(~mask, -torch.inf), utility, supported)
        return answers if density is None else (*answers, density)


def state_inputs(scorer: PolicyScorer) -> tuple[str, ...]:
    """Names of the tensors of a state that the graph takes."""
    on_theirs = external_part(scorer.network.frozen) is not None
    return (USER, *STATE_INPUTS) if on_theirs else STATE_INPUTS


def input_names(scorer: PolicyScorer) -> tuple[str, ...]:
    """Names of the graph's inputs, in order; `theirs` is not among them."""
    return (*state_inputs(scorer), "item_id", "mask")


def trace(scorer: PolicyScorer, given: Given | None = None) -> torch.onnx.ONNXProgram:
    """The graph of `scorer`, not yet written; this takes most of an export's time."""
    names, (arguments, shapes) = input_names(scorer), sample_arguments(scorer)
    if given is not None:
        width = len(given.config.tasks)
        arguments.append(torch.full((*arguments[-1].shape, width), 0.4))
        names, shapes = (*names, THEIRS), [*shapes, shapes[-1]]
    outputs = OUTPUTS if scorer.network.density is None else (*OUTPUTS, DENSITY)
    return to_onnx(DecisionGraph(scorer, given).eval(), arguments, shapes, names, outputs)


def sample_arguments(scorer: PolicyScorer) -> tuple[list[Tensor], list[dict[int, Any]]]:
    """The inputs of `sample_feeds` in the graph's order, and the free dimensions of each."""
    sample, names = sample_feeds(scorer), input_names(scorer)
    pool = {0: BATCH, 1: CANDIDATES}
    shapes = [pool if name in ("item_id", "mask") else {0: BATCH} for name in names]
    return [torch.from_numpy(sample[name]) for name in names], shapes


def sample_feeds(scorer: PolicyScorer) -> dict[str, np.ndarray]:
    """Inputs of a few requests, to trace by."""
    generator = make_generator(0)
    state = random_states(
        scorer.catalogue,
        scorer.feedback_tasks,
        scorer.num_user_features,
        scorer.history_length,
        3,
        generator,
    )
    shape = (3, 5)
    item_id = torch.randint(scorer.catalogue.num_items, shape, generator=generator)
    return _arrays(state, item_id, torch.ones(shape, dtype=torch.bool))


def to_onnx(
    module: nn.Module,
    arguments: Sequence[Tensor],
    shapes: Sequence[Mapping[int, Any]],
    names: Sequence[str],
    outputs: Sequence[str],
) -> torch.onnx.ONNXProgram:
    """The graph of a module of `*inputs`.

    Raises:
        ConfigError: torch cannot trace it.
    """
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # a remark for each folded constant
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        try:
            program = torch.onnx.export(
                module,
                tuple(arguments),
                dynamo=True,
                dynamic_shapes=(tuple(shapes),),  # one entry: `*inputs` is one tuple
                input_names=list(names),
                output_names=list(outputs),
                custom_translation_table={torch.ops.aten.sort.stable: _stable_sort},
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ConfigError(
                "torch cannot trace the policy for ONNX",
                got=str(error.__cause__ or error).strip()[:600],
                mend="a ranker of yours must be free of branches on values; "
                "without ONNX the scorer's folder holds it and serves it",
            ) from error
    assert program is not None
    for node in program.model.graph:
        node.metadata_props.clear()  # where in this machine's files each node came from
    return program


def _stable_sort(
    values: Any, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> Any:
    """A stable sort, which torch's exporter lacks: among equals, TopK takes the lower index first.

    Source: ONNX operators, TopK, "the element with the lower index will appear first".
    """
    import onnxscript

    del stable
    op: Any = onnxscript.opset18
    size = op.Gather(op.Shape(values), op.Constant(value_ints=[dim]))
    return op.TopK(values, size, axis=dim, largest=int(descending), sorted=1)


def save(program: torch.onnx.ONNXProgram, scorer: PolicyScorer, path: Path) -> None:
    """Write the graph to `path`; weights beyond 1 GiB lie beside it."""
    program.save(str(path), external_data=_num_bytes(scorer) > _EXTERNAL_BYTES)


def save_proto(model: onnx.ModelProto, scorer: PolicyScorer, path: Path) -> None:
    """Write a graph that is a protobuf already, likewise."""
    import onnx

    onnx.save(model, path, save_as_external_data=_num_bytes(scorer) > _EXTERNAL_BYTES)


def _num_bytes(scorer: PolicyScorer) -> int:
    table = scorer.network.trunk.table
    tensors = list(scorer.network.state_dict().values())
    tensors += [] if table is None else [getattr(table, f.name) for f in fields(table)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def feeds(golden: Golden) -> dict[str, np.ndarray]:
    """All that a graph may take for the requests of `golden`, by name."""
    return _arrays(golden.state, golden.item_id, golden.mask)


def _arrays(state: SessionState, item_id: Tensor, mask: Tensor) -> dict[str, np.ndarray]:
    tensors = {name: getattr(state, name) for name in (USER, *STATE_INPUTS)}
    tensors |= {"item_id": item_id, "mask": mask}
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def open_session(path: Path) -> Any:
    """An `onnxruntime.InferenceSession` of the file on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def ask(session: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs [S, ...] by name, asked for a few states at a time."""
    names = [output.name for output in session.get_outputs()]
    taken = {each.name for each in session.get_inputs()}
    inputs = {name: array for name, array in inputs.items() if name in taken}
    size = len(next(iter(inputs.values())))
    parts = [
        session.run(names, {name: array[at : at + _CHUNK] for name, array in inputs.items()})
        for at in range(0, size, _CHUNK)
    ]
    return {
        name: np.concatenate(p) for name, p in zip(names, zip(*parts, strict=True), strict=True)
    }


def check_possible(scorer: PolicyScorer, packages: Sequence[str] = _PACKAGES) -> None:
    """Raise ConfigError unless `scorer` can become a graph here, which takes `packages`."""
    frozen, trunk = two_tower_part(scorer.network.frozen), scorer.network.trunk
    if frozen is None and external_part(scorer.network.frozen) is None:
        raise ConfigError(
            "a policy on a ranker of this class has no ONNX form",
            got=type(scorer.network.frozen).__name__,
            expected="a policy on a ranker of ours, or on one of ranker.external",
        )
    if (frozen or trunk).table is None:
        raise ConfigError(
            "ONNX needs the table of item vectors",
            got=f"{scorer.catalogue.num_items} items, more than ranker.max_table_items",
            mend="raise ranker.max_table_items, or serve the scorer without ONNX",
        )
    absent = [name for name in packages if not importlib.util.find_spec(name)]
    if absent:
        raise ConfigError(
            "packages for ONNX are absent", got=absent, mend=f"pip install {' '.join(absent)}"
        )
