"""The whole decision as one ONNX graph: states and candidates in, the final order out.

    inputs   user_features [B, U], history_item_id [B, L], history_feedback [B, L, H],
             history_dwell_s [B, L], history_gap_s [B, L], history_mask [B, L], gap_s [B],
             step [B], item_id [B, K], mask [B, K]
    outputs  order [B, K], q [B, K], utility [B, K], supported [B, K] and, where the support asks
             for the density of the logs too, log_density [B, K]

`B` and `K` are free; types are those of `SessionState` and `Candidates`. The graph carries the
tables of items. The outputs are those of `PolicyScorer.rank_supported`: `order` holds slots from
best to worst, and q is -inf in padding.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recomind.errors import ConfigError
from recomind.export.golden import Golden, make_golden
from recomind.export.scorer import PolicyScorer, ordered_slots
from recomind.ranker.capabilities import two_tower_part
from recomind.streams import make_generator
from recomind.types import SessionState

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
_EXTERNAL_BYTES = 2**30  # protobuf holds no more than 2 GiB; larger weights lie beside the file
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_CHUNK = 64  # states asked at once


class DecisionGraph(nn.Module):
    """A scorer with tensors for arguments, which is all that ONNX knows."""

    def __init__(self, scorer: PolicyScorer) -> None:
        super().__init__()
        self.network, self._supported = scorer.network, scorer.supported

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Tensors by position, in the order of `INPUTS`; outputs in that of `OUTPUTS`."""
        *of_state, item_id, mask = inputs
        fields: dict[str, Any] = dict(zip(STATE_INPUTS, of_state, strict=True))
        # No output depends on the user's id, so it is no input.
        state = SessionState(user_id=fields["step"], **fields, batch_size=[])
        encoding = self.network.encode_state(state)
        q, utility = self.network.score_encoded(encoding, item_id)
        density = self.network.log_density(encoding, item_id)
        supported = self._supported(utility, mask, density)
        order = ordered_slots(q, supported, utility, item_id, mask)
        answers = (order, q.masked_fill(~mask, -torch.inf), utility, supported)
        return answers if density is None else (*answers, density)


def trace(scorer: PolicyScorer) -> torch.onnx.ONNXProgram:
    """The graph of `scorer`, not yet written; this takes most of an export's time."""
    sample = make_golden(scorer, make_generator(0), num_states=3, num_candidates=5)
    batch, candidates = torch.export.Dim("batch"), torch.export.Dim("candidates")
    pool = {0: batch, 1: candidates}
    shapes = (*({0: batch} for _ in STATE_INPUTS), pool, pool)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # a remark for each folded constant
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            DecisionGraph(scorer).eval(),
            tuple(torch.from_numpy(array) for array in feeds(sample).values()),
            dynamo=True,
            dynamic_shapes=(shapes,),  # one entry: `*inputs` is one tuple
            input_names=list(INPUTS),
            output_names=list(OUTPUTS if scorer.network.density is None else (*OUTPUTS, DENSITY)),
            custom_translation_table={torch.ops.aten.sort.stable: _stable_sort},
            verbose=False,
        )
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


def _num_bytes(scorer: PolicyScorer) -> int:
    table = scorer.network.trunk.table
    tensors = list(scorer.network.state_dict().values())
    tensors += [] if table is None else [getattr(table, f.name) for f in fields(table)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def feeds(golden: Golden) -> dict[str, np.ndarray]:
    """The inputs of the graph for the requests of `golden`, by name."""
    tensors = {name: getattr(golden.state, name) for name in STATE_INPUTS}
    tensors |= {"item_id": golden.item_id, "mask": golden.mask}
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
    size = len(inputs["mask"])
    parts = [
        session.run(names, {name: array[at : at + _CHUNK] for name, array in inputs.items()})
        for at in range(0, size, _CHUNK)
    ]
    return {
        name: np.concatenate(p) for name, p in zip(names, zip(*parts, strict=True), strict=True)
    }


def check_possible(scorer: PolicyScorer) -> None:
    """Raise ConfigError unless `scorer` can become an ONNX graph here."""
    frozen = two_tower_part(scorer.network.frozen)
    if frozen is None:
        raise ConfigError(
            "a policy on an external ranker has no ONNX form: that model is a file of its own",
            got=type(scorer.network.frozen).__name__,
            expected="a policy that started from a ranker of ours",
            mend="export without ONNX and serve the scorer's folder, which holds the model",
        )
    if frozen.table is None:
        raise ConfigError(
            "ONNX needs the table of item vectors",
            got=f"{scorer.catalogue.num_items} items, more than ranker.max_table_items",
            mend="raise ranker.max_table_items, or serve the scorer without ONNX",
        )
    absent = [name for name in _PACKAGES if not importlib.util.find_spec(name)]
    if absent:
        raise ConfigError(
            "packages for ONNX are absent", got=absent, mend=f"pip install {' '.join(absent)}"
        )
