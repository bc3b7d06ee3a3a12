"""The format of every state and step; part of `recomind.simulation.check`."""

# Torch's stubs leave the types of some members open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import torch
from torch import Tensor

from recomind.errors import SchemaError, require
from recomind.simulation.states import state_tensors
from recomind.types import SessionEnvironment, SessionState, Step


def _require_tensor(value: object, name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if not isinstance(value, Tensor):
        raise SchemaError(f"{name} is not a tensor", got=type(value).__name__)
    require(value.dtype == dtype, f"{name} has the wrong type", value.dtype, dtype)
    require(tuple(value.shape) == shape, f"{name} has the wrong shape", tuple(value.shape), shape)
    if value.is_floating_point():
        require(bool(torch.isfinite(value).all()), f"{name} is not finite", value.tolist())


def check_state(env: SessionEnvironment, state: SessionState, num: int) -> None:
    """Check the fields of `state` [num] and its padding."""
    length, num_tasks = env.history_length, len(env.tasks)
    width = state.user_features.shape[-1]
    fields = {
        "user_id": (torch.int64, (num,)),
        "user_features": (torch.float32, (num, width)),
        "history_item_id": (torch.int64, (num, length)),
        "history_feedback": (torch.bool, (num, length, num_tasks)),
        "history_dwell_s": (torch.float32, (num, length)),
        "history_gap_s": (torch.float32, (num, length)),
        "history_mask": (torch.bool, (num, length)),
        "gap_s": (torch.float32, (num,)),
        "step": (torch.int64, (num,)),
    }
    for name, (dtype, shape) in fields.items():
        _require_tensor(getattr(state, name), f"state.{name}", dtype, shape)
    _check_padding(env, state)
    _check_gaps(state)


def _check_padding(env: SessionEnvironment, state: SessionState) -> None:
    mask, item_id = state.history_mask, state.history_item_id
    require(
        not bool((mask[:, :-1] & ~mask[:, 1:]).any()),
        "state.history_mask has a gap; padding is on the left",
    )
    require(
        bool(((item_id >= 0) & (item_id < env.catalogue.num_items)).all()),
        "state.history_item_id names items that are not in the catalogue",
        (int(item_id.min()), int(item_id.max())),
        f"in [0, {env.catalogue.num_items})",
    )
    for name in ("history_item_id", "history_feedback", "history_dwell_s", "history_gap_s"):
        require(
            not bool(state_tensors(state)[name][~mask].any()),
            f"state.{name} is not 0 where the mask is False",
        )
    require(
        bool((mask.sum(1) >= state.step.clamp(max=env.history_length)).all()),
        "state.history_mask hides events of the present session",
    )


def _check_gaps(state: SessionState) -> None:
    for name in ("history_gap_s", "gap_s"):
        seconds = state_tensors(state)[name]
        require(bool((seconds >= 0).all()), f"state.{name} is negative", float(seconds.min()))
    require(
        not bool(state.gap_s[~state.history_mask.any(1)].any()),
        "state.gap_s is not 0 where there is no history",
        state.gap_s.tolist(),
    )


def check_step(env: SessionEnvironment, step: Step, num: int) -> None:
    """Check the fields of `step` [num]."""
    fields = {
        "response.feedback": (step.response.feedback, torch.bool, (num, len(env.tasks))),
        "response.dwell_s": (step.response.dwell_s, torch.float32, (num,)),
        "response.left": (step.response.left, torch.bool, (num,)),
        "reward": (step.reward, torch.float32, (num,)),
        "terminated": (step.terminated, torch.bool, (num,)),
        "truncated": (step.truncated, torch.bool, (num,)),
        "valid": (step.valid, torch.bool, (num,)),
    }
    for name, (value, dtype, shape) in fields.items():
        _require_tensor(value, name, dtype, shape)
    seconds = step.response.dwell_s
    require(bool((seconds >= 0).all()), "response.dwell_s is negative", float(seconds.min()))
    check_state(env, step.state, num)


def check_history(before: SessionState, item_id: Tensor, step: Step) -> None:
    """After a valid step, the history must be the earlier one with the event at its end."""
    after, valid = step.state, step.valid
    require(
        torch.equal(after.step, before.step + valid),
        "state.step must count the valid steps",
        after.step.tolist(),
        (before.step + valid).tolist(),
    )
    require(torch.equal(after.user_id, before.user_id), "state.user_id changes within a session")
    latest = {
        "history_item_id": item_id,
        "history_feedback": step.response.feedback,
        "history_dwell_s": step.response.dwell_s,
        "history_gap_s": before.gap_s,
        "history_mask": valid,
    }
    tensors, earlier = state_tensors(after), state_tensors(before)
    for name, event in latest.items():
        kept = torch.equal(tensors[name][valid][:, :-1], earlier[name][valid][:, 1:])
        require(
            kept and torch.equal(tensors[name][valid][:, -1], event[valid]),
            f"state.{name} is not the earlier history followed by the latest event",
            mend="append with recomind.simulation.append_event",
        )
    require(
        torch.equal(after.gap_s[valid], step.response.dwell_s[valid]),
        "state.gap_s is not the dwell time of the latest event",
        after.gap_s.tolist(),
        step.response.dwell_s.tolist(),
        mend="append with recomind.simulation.append_event",
    )
