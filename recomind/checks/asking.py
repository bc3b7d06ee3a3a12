"""Asks a ranker for logits and refuses invalid answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from recomind.errors import RecomindError, SchemaError, require
from recomind.types import Ranker, SessionState

TOLERANCE = 1e-5  # a network's sums depend a little on the size of the batch


@torch.no_grad()
def ask(ranker: Ranker, state: SessionState, item_id: Tensor, where: str = "") -> Tensor:
    """Checked logits [B, K, H] of `item_id` [B, K]; `where` describes the case in an error."""
    return answer(ranker, encode(ranker, state, where), item_id, where)


@torch.no_grad()
def encode(
    ranker: Ranker, state: SessionState, where: str = "", snapshot: Tensor | None = None
) -> Any:
    """The result of `encode_state` for `state` [B]."""
    with _said(ranker, "encode_state", where):
        if snapshot is None:  # as serving calls it
            return ranker.encode_state(state)
        return ranker.encode_state(state, snapshot)


@torch.no_grad()
def answer(
    ranker: Ranker, encoding: Any, item_id: Tensor, where: str = "", snapshot: Tensor | None = None
) -> Tensor:
    """The checked result of `score`: logits [B, K, H]."""
    with _said(ranker, "score", where):
        if snapshot is None:
            logits = ranker.score(encoding, item_id)
        else:
            logits = ranker.score(encoding, item_id, snapshot)
    _check_logits(ranker, logits, item_id, where)
    return logits


def _check_logits(ranker: Ranker, logits: object, item_id: Tensor, where: str) -> None:
    where = where and f" {where}"
    if not isinstance(logits, Tensor):
        raise SchemaError(f"score() returns no tensor{where}", got=type(logits).__name__)
    shape = (*item_id.shape, len(ranker.tasks))
    require(
        tuple(logits.shape) == shape,
        f"score() returns the wrong shape{where}",
        tuple(logits.shape),
        f"[B, K, H] = {shape}",
        mend="one logit a candidate and task",
    )
    require(
        logits.is_floating_point(),
        f"score() returns no floating-point logits{where}",
        logits.dtype,
        torch.float32,
    )
    finite = torch.isfinite(logits)
    require(
        bool(finite.all()),
        f"score() returns logits that are not finite{where}",
        f"{int((~finite).sum())} of {logits.numel()}",
        mend="look for a log or a division by 0, "
        "an attention over nothing, NaN in the weights, or a probability of exactly 0 or 1",
    )
    require(
        not logits.requires_grad,
        f"score() returns a graph under no_grad{where}",
        mend="take the enable_grad out of it: scoring must need no gradient",
    )


@contextmanager
def _said(ranker: Ranker, method: str, where: str) -> Iterator[None]:
    """Turn whatever the ranker raises into one line."""
    what = f"{method}() fails{where and ' ' + where}"
    try:
        yield
    except RecomindError as error:
        raise SchemaError(
            f"{what}: {error.what}", got=error.got, expected=error.expected, mend=error.mend
        ) from error
    except Exception as error:
        line = (str(error).strip().splitlines() or [""])[0]
        hint = train_mode_hint(ranker).removeprefix("; ")
        raise SchemaError(what, got=f"{type(error).__name__}: {line}", mend=hint) from error


def require_same(ranker: Ranker, ours: Tensor, theirs: Tensor, what: str, mend: str) -> None:
    """Logits [B, K, H] that must agree within `TOLERANCE`, absolutely and relatively."""
    if torch.allclose(theirs, ours, rtol=TOLERANCE, atol=TOLERANCE):
        return
    difference = (ours - theirs).abs()
    state, slot, task = (int(i) for i in torch.unravel_index(difference.argmax(), ours.shape))
    raise SchemaError(
        what,
        got=f"logits that differ by up to {float(difference.max()):.2g} "
        f"(state {state}, candidate {slot}, task {ranker.tasks[task]!r})",
        expected=f"<= {TOLERANCE:g}",
        mend=mend + train_mode_hint(ranker),
    )


def train_mode_hint(ranker: Ranker) -> str:
    """The most common reason, where it applies."""
    return "; it is in training mode: call .eval()" if getattr(ranker, "training", False) else ""
