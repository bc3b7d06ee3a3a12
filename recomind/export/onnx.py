"""The scorer as one ONNX file: state and candidates in, Q and utility out.

    inputs   user_features [B, U], history_item_id [B, L], history_feedback [B, L, H],
             history_dwell_s [B, L], history_gap_s [B, L], history_mask [B, L], gap_s [B],
             step [B], item_id [B, K]
    outputs  q [B, K], utility [B, K] and, where the support is by density too, log_density [B, K]

`B` and `K` are free; types are those of `SessionState`. The file carries the table of item
vectors. The support constraint is left to the caller: `recomind.policy.support.support_mask` says
who is allowed, `recomind.export.scorer.order_slots` in what order they are shown.
"""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recomind.errors import ConfigError, ParityError
from recomind.export.golden import Golden, make_golden
from recomind.export.scorer import PolicyScorer
from recomind.policy import QNetwork
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
INPUTS, OUTPUTS, DENSITY = (*STATE_INPUTS, "item_id"), ("q", "utility"), "log_density"
_EXTERNAL_BYTES = 2**30  # protobuf holds no more than 2 GiB; larger weights lie beside the file


class _Flat(nn.Module):
    """The network with tensors for arguments, which is all that ONNX knows."""

    def __init__(self, network: QNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        fields: dict[str, Any] = dict(zip(STATE_INPUTS, inputs[:-1], strict=True))
        # No output depends on the user's id, so it is no input.
        state = SessionState(user_id=fields["step"], **fields, batch_size=[])
        encoding = self.network.encode_state(state)
        values = self.network.score_encoded(encoding, inputs[-1])
        log_density = self.network.log_density(encoding, inputs[-1])
        return values if log_density is None else (*values, log_density)


def export_onnx(scorer: PolicyScorer, path: Path, golden: Golden) -> dict[str, Any]:
    """Write `scorer` as ONNX and check it on ONNX Runtime.

    Args:
        scorer: with a precomputed table of item vectors.
        path: of the file.
        golden: requests and the answers that the file must repeat.

    Returns:
        `max_abs_difference`, `num_states`, `tolerance`.

    Raises:
        ConfigError: no table, or a package that the exporter needs is absent.
        ParityError: ONNX Runtime answers otherwise; the file is removed.
    """
    check_possible(scorer)
    sample = make_golden(scorer, make_generator(0), num_states=3, num_candidates=5)
    batch, candidates = torch.export.Dim("batch"), torch.export.Dim("candidates")
    shapes = (*({0: batch} for _ in STATE_INPUTS), {0: batch, 1: candidates})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            _Flat(scorer.network).eval(),
            tuple(_inputs(sample).values()),
            dynamo=True,
            dynamic_shapes=(shapes,),  # of `*inputs`, which is one tuple
            input_names=list(INPUTS),
            output_names=list(OUTPUTS if scorer.network.density is None else (*OUTPUTS, DENSITY)),
            verbose=False,
        )
    assert program is not None
    program.save(str(path), external_data=_num_bytes(scorer) > _EXTERNAL_BYTES)
    return _checked(path, golden)


def run_onnx(path: Path, golden: Golden) -> tuple[np.ndarray, ...]:
    """The outputs [S, K] each, of the golden requests by ONNX Runtime on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = {name: tensor.numpy() for name, tensor in _inputs(golden).items()}
    return tuple(np.asarray(output) for output in session.run(None, inputs))


def _checked(path: Path, golden: Golden, tolerance: float = 1e-5) -> dict[str, Any]:
    answers = [golden.q, golden.utility, golden.log_density]
    expected = [answer.numpy() for answer in answers if answer is not None]
    found, mask = run_onnx(path, golden), golden.mask.numpy()
    difference = max(
        float(np.abs(ours - theirs)[mask].max())
        for ours, theirs in zip(found, expected, strict=True)
    )
    if not difference <= tolerance:
        path.unlink()
        raise ParityError(
            "the ONNX file does not answer as the network does",
            got=f"largest difference {difference}",
            expected=f"<= {tolerance}",
        )
    return {
        "max_abs_difference": difference,
        "num_states": len(mask),
        "tolerance": tolerance,
    }


def _inputs(golden: Golden) -> dict[str, Tensor]:
    state = {name: getattr(golden.state, name) for name in STATE_INPUTS}
    return state | {"item_id": golden.item_id}


def _num_bytes(scorer: PolicyScorer) -> int:
    table = scorer.network.trunk.table
    tensors = list(scorer.network.state_dict().values())
    tensors += [] if table is None else [getattr(table, f.name) for f in fields(table)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def check_possible(scorer: PolicyScorer) -> None:
    """Raise ConfigError unless `scorer` can become an ONNX file here."""
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
    absent = [n for n in ("onnx", "onnxscript", "onnxruntime") if not importlib.util.find_spec(n)]
    if absent:
        raise ConfigError(
            "packages for ONNX are absent", got=absent, mend=f"pip install {' '.join(absent)}"
        )
