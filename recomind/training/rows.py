"""Simulated steps on their way from a runner to the learner, in compact types.

`T` steps, `B` sessions, `L` history length, `H` tasks, `K` candidates kept at a step.
"""

# Torch's stubs leave the types of some members open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from recomind.errors import ConfigError
from recomind.types import Decision, SessionState, Step

_UTILITIES = {"utility", "pool_utility"}  # by the frozen ranker, which is not asked twice


def pack_bits(flags: Tensor) -> Tensor:
    """[..., H] bool -> [..., ceil(H / 8)] uint8, flag 0 in the lowest bit."""
    num_bytes = -(-flags.shape[-1] // 8)
    padded = torch.nn.functional.pad(flags.to(torch.uint8), (0, num_bytes * 8 - flags.shape[-1]))
    bits = padded.view(*flags.shape[:-1], num_bytes, 8)
    return (bits << torch.arange(8, dtype=torch.uint8, device=flags.device)).sum(
        -1, dtype=torch.uint8
    )


def unpack_bits(packed: Tensor, num_flags: int) -> Tensor:
    """Inverse of `pack_bits` for `num_flags` flags."""
    shifts = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return ((packed[..., None] >> shifts) & 1).flatten(-2)[..., :num_flags].bool()


def pack_state(state: SessionState) -> dict[str, Tensor]:
    """Compact columns of `state` [B]; item ids fit 32 bits, feedback becomes bits."""
    return {
        "user_id": state.user_id,
        "user_features": state.user_features,
        "history_item_id": state.history_item_id.to(torch.int32),
        "history_feedback": pack_bits(state.history_feedback),
        "history_dwell_s": state.history_dwell_s,
        "history_gap_s": state.history_gap_s,
        "history_mask": state.history_mask,
        "gap_s": state.gap_s,
        "step": state.step.to(torch.int32),
    }


def unpack_state(columns: dict[str, Tensor], num_tasks: int) -> SessionState:
    """Inverse of `pack_state`."""
    return SessionState(
        user_id=columns["user_id"],
        user_features=columns["user_features"],
        history_item_id=columns["history_item_id"].long(),
        history_feedback=unpack_bits(columns["history_feedback"], num_tasks),
        history_dwell_s=columns["history_dwell_s"],
        history_gap_s=columns["history_gap_s"],
        history_mask=columns["history_mask"],
        gap_s=columns["gap_s"],
        step=columns["step"].long(),
        batch_size=columns["step"].shape,
    )


@dataclass(kw_only=True, slots=True)
class KeptPool:
    """Candidates for the maximum at a state."""

    item_id: Tensor  # [B, K] int64
    mask: Tensor  # [B, K] bool
    utility: Tensor  # [B, K] float32, by the frozen ranker

    def taken(self, slots_BS: Tensor) -> KeptPool:
        """The candidates in `slots_BS` [B, S]."""
        item_BS, mask_BS, utility_BS = (
            column.gather(1, slots_BS) for column in (self.item_id, self.mask, self.utility)
        )
        return KeptPool(item_id=item_BS, mask=mask_BS, utility=utility_BS)


def pack_step(
    state: SessionState, pool: KeptPool, utility_B: Tensor, decision: Decision, step: Step
) -> dict[str, Tensor]:
    """Compact columns of one step: its state, the choice, and the outcome.

    Args:
        state: [B] before the event.
        pool: [B, K], the candidates for the maximum at `state`.
        utility_B: [B], the frozen ranker's, of the choice.
        decision: [B], the choice.
        step: [B], as the environment returned it.
    """
    return {f"state.{name}": column for name, column in pack_state(state).items()} | {
        "pool_item_id": pool.item_id.to(torch.int32),
        "pool_mask": pool.mask,
        "pool_utility": pool.utility,
        "item_id": decision.item_id.to(torch.int32),
        "utility": utility_B,
        "log_propensity": decision.log_propensity,
        "reward": step.expected_reward,
        "leave_rate": step.leave_rate,
        "terminated": step.terminated,
        "truncated": step.truncated,
        "valid": step.valid,
    }


def require_utilities(columns: Mapping[str, Tensor]) -> None:
    """Raise a ConfigError if rows of a checkpoint lack the utilities that were acted on."""
    absent = _UTILITIES - columns.keys()
    if columns and absent:
        raise ConfigError(
            "the checkpoint's rows are of an earlier version",
            got=f"without {', '.join(sorted(absent))}",
            mend="delete the round's checkpoints folder: its training starts over",
        )


class RowMemory(Protocol):
    """Where an algorithm keeps the rows of one runner until it has learned from them."""

    def __len__(self) -> int:
        """What there is to learn from; 0 while nothing can be learned yet."""
        ...

    def add(self, rows: SessionRows) -> None:
        """Append rows."""
        ...

    def state_dict(self) -> Mapping[str, Tensor]:
        """Tensors from which `load_state_dict` continues exactly."""
        ...

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue where `state_dict` was taken."""
        ...


@dataclass(kw_only=True)
class SessionRows:
    """The result of one rollout of a runner.

    Tensors stay tensors inside a process and travel between processes as numpy arrays, which is
    4 times faster through Ray's object store.
    """

    columns: dict[str, Tensor]  # each [T, B, ...], time-major
    num_tasks: int  # H
    runner: int  # index of the runner, 0 in the learning process
    follows: bool  # whether the first step continues the runner's previous rows
    num_valid: int  # steps that were valid
    returns: list[float]  # sum of rewards of each session that ended in these rows
    weights_seq_no: int = 0  # updates behind the acting weights; -1 for the initial ones
    weights_env_steps: int = 0  # events before those weights were sent

    def env_steps(self) -> int:
        """Valid steps, under the name that RLlib expects."""
        return self.num_valid

    def agent_steps(self) -> int:
        """The same, as there is one agent."""
        return self.num_valid

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"columns": {k: v.numpy() for k, v in self.columns.items()}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Arrays from the object store are read-only, which torch does not support.
        tensors = {k: torch.from_numpy(np.array(v)) for k, v in state["columns"].items()}
        self.__dict__.update(state | {"columns": tensors})
