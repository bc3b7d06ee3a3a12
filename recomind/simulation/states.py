"""States and responses of sessions in lock-step, as tensors by field.

Symbols: `B` sessions, `r` some of them.
"""

# Torch's stubs leave the types of some members open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from recomind.errors import SchemaError
from recomind.types import Response, SessionState

STATE_FIELDS = [field.name for field in dataclasses.fields(SessionState)]


def append_event(state: SessionState, item_id: Tensor, response: Response) -> SessionState:
    """`state` [B] after the event (`item_id` [B], `response` [B]); the oldest event drops out.

    The next decision comes when the event ends: its `gap_s` is the event's dwell time.
    """
    seen = torch.ones_like(item_id, dtype=torch.bool)
    return SessionState(
        user_id=state.user_id,
        user_features=state.user_features,
        history_item_id=_push(state.history_item_id, item_id),
        history_feedback=_push(state.history_feedback, response.feedback),
        history_dwell_s=_push(state.history_dwell_s, response.dwell_s),
        history_gap_s=_push(state.history_gap_s, state.gap_s),
        history_mask=_push(state.history_mask, seen),
        gap_s=response.dwell_s.to(state.gap_s.dtype, copy=True),
        step=state.step + 1,
        batch_size=state.batch_size,
    )


def _push(history: Tensor, latest: Tensor) -> Tensor:
    return torch.cat([history[:, 1:], latest[:, None].to(history.dtype)], dim=1)


def state_tensors(state: SessionState) -> dict[str, Tensor]:
    """Copies of the fields of `state` [B] by name."""
    return {name: value.clone() for name, value in tensors_of(state).items()}


def tensors_of(state: SessionState) -> dict[str, Tensor]:
    """The state's own tensors by name."""
    return {name: getattr(state, name) for name in STATE_FIELDS}


def state_from(tensors: Mapping[str, Any]) -> SessionState:
    """The state [B] whose fields `state_tensors` returned.

    Raises:
        SchemaError: they are not the fields of a state, such as those of an older version.
    """
    if sorted(tensors) != sorted(STATE_FIELDS):
        raise SchemaError("not the fields of a state", got=sorted(tensors), expected=STATE_FIELDS)
    return SessionState(**tensors, batch_size=[len(tensors["step"])])


def rows_of(state: SessionState, index: Tensor) -> SessionState:
    """The states [r] at `index` [r], in tensors of their own."""
    return state_from({k: v.index_select(0, index) for k, v in tensors_of(state).items()})


def no_response(num: int, num_tasks: int) -> Response:
    """The responses [num] of sessions that have all ended."""
    return Response(
        feedback=torch.zeros(num, num_tasks, dtype=torch.bool),
        dwell_s=torch.zeros(num),
        left=torch.zeros(num, dtype=torch.bool),
        batch_size=[num],
    )


def spread(response: Response, rows: Tensor, num: int) -> Response:
    """`response` [r] in the places `rows` [r] of `num`, with zeros in the others."""
    parts = {field.name: getattr(response, field.name) for field in dataclasses.fields(Response)}
    return Response(
        **{
            name: value.new_zeros(num, *value.shape[1:]).index_copy_(0, rows, value)
            for name, value in parts.items()
            if value is not None
        },
        batch_size=[num],
    )
