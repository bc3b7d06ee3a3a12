"""Events of one rollout with their advantages; each is learned from once.

`T` time steps, `B` sessions, `N` events of a batch, `K` candidates.

The sessions of a runner go on from one rollout to the next. The last time step of a rollout has no
next state yet: it only bootstraps the step before, and is kept, with its exact behaviour
probability, to be learned from with the next rollout.

The row after the one that ended a session holds its true last state and is not valid
(`recomind.training.dqn.replay` draws an example), so a truncated session bootstraps from where it
was cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from torch import Tensor

from recomind.simulation.states import state_from, state_tensors
from recomind.training.rows import SessionRows, require_utilities, unpack_state
from recomind.types import SessionState

_STATE = "state."


@dataclass(kw_only=True, slots=True)
class PolicyBatch:
    """`N` events to learn from."""

    state: SessionState  # [N]
    item_id: Tensor  # [N, K] int64, the pool
    utility: Tensor  # [N, K] float32, by the frozen ranker when the policy acted
    allowed: Tensor  # [N, K] bool, candidates that the policy could draw
    slot: Tensor  # [N] int64, which candidate was drawn
    log_propensity: Tensor  # [N] float32, log-probability with which it was drawn
    advantage: Tensor  # [N] float32, normalised over the rollout
    value_target: Tensor  # [N] float32, what the critic should have said

    def take(self, index: Tensor) -> PolicyBatch:
        """The events of `index` [M]."""
        return PolicyBatch(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def __len__(self) -> int:
        return len(self.slot)


def to_batch(batch: PolicyBatch, *, numpy: bool) -> MultiAgentBatch:
    """RLlib's batch; numpy arrays where it goes to another process."""
    columns: dict[str, Tensor] = {
        f.name: getattr(batch, f.name) for f in fields(batch) if f.name != "state"
    }
    columns |= {_STATE + name: value for name, value in state_tensors(batch.state).items()}
    shipped = {k: v.numpy() for k, v in columns.items()} if numpy else columns
    return MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(shipped)}, env_steps=len(batch))


def from_batch(columns: Mapping[str, Tensor]) -> PolicyBatch:
    """Inverse of `to_batch`."""
    start = len(_STATE)
    state = {k[start:]: columns[k] for k in columns if k.startswith(_STATE)}
    plain = {f.name: columns[f.name] for f in fields(PolicyBatch) if f.name != "state"}
    return PolicyBatch(state=state_from(state), **plain)


def joined(batches: list[PolicyBatch]) -> PolicyBatch:
    """All events of several runners."""
    merged = {}
    for field in fields(PolicyBatch):
        merged[field.name] = torch.cat([getattr(batch, field.name) for batch in batches])
    return PolicyBatch(**merged)


def generalised_advantages(
    columns: Mapping[str, Tensor], value_TB: Tensor, gamma: float, lam: float
) -> Tensor:
    """[T - 1, B] advantages (Schulman et al., arXiv:1506.02438, equation 16).

    Within a session `A_t = d_t + gamma c_t lam A_(t+1)`, where
    `d_t = r_t + gamma c_t V(s_(t+1)) - V(s_t)` and `c_t` is the probability that the user stays;
    where it is unknown, 0 or 1 as observed.

    Args:
        columns: reward, leave_rate, terminated and truncated, each [T, B].
        value_TB: V of the state before each step; the last row only bootstraps.
        gamma: discount per event.
        lam: lambda.
    """
    stays_TB = 1.0 - columns["leave_rate"]
    runs_TB = stays_TB * ~(columns["terminated"] | columns["truncated"])
    delta_TB = columns["reward"][:-1] + gamma * value_TB[1:] * stays_TB[:-1] - value_TB[:-1]
    advantage_TB, later_B = torch.zeros_like(delta_TB), torch.zeros_like(delta_TB[0])
    for row in reversed(range(len(delta_TB))):
        later_B = delta_TB[row] + gamma * lam * runs_TB[row] * later_B
        advantage_TB[row] = later_B
    return advantage_TB


class OnPolicyRows:
    """The rows of one runner that are yet to be learned from."""

    def __init__(self) -> None:
        self._columns: dict[str, Tensor] = {}
        self._num_tasks = 0

    def __len__(self) -> int:
        """Time steps that have a next state."""
        return max(0, len(self._columns["valid"]) - 1) if self._columns else 0

    def add(self, rows: SessionRows) -> None:
        """Add new rows; only the last old row is kept, and only if the new ones follow it."""
        before, self._num_tasks = self._columns, rows.num_tasks
        self._columns = dict(rows.columns)
        if rows.follows and before:
            self._columns = {k: torch.cat([before[k][-1:], v]) for k, v in rows.columns.items()}

    def states(self) -> SessionState:
        """[T * B] states before each step, time-major."""
        return self._unpacked({k: v.flatten(0, 1) for k, v in self._columns.items()})

    def _unpacked(self, columns: Mapping[str, Tensor]) -> SessionState:
        start = len(_STATE)
        state = {k[start:]: v for k, v in columns.items() if k.startswith(_STATE)}
        return unpack_state(state, self._num_tasks)

    def batch(self, value_TB: Tensor, gamma: float, lam: float) -> PolicyBatch:
        """All valid events, with advantages before normalisation."""
        advantage_TB = generalised_advantages(self._columns, value_TB, gamma, lam)
        happened = self._columns["valid"][:-1].flatten()
        flat = {k: v[:-1].flatten(0, 1)[happened] for k, v in self._columns.items()}
        item_NK = flat["pool_item_id"].long()
        shown_NK = (item_NK == flat["item_id"].long()[:, None]) & flat["pool_mask"]
        advantage_N = advantage_TB.flatten()[happened]
        return PolicyBatch(
            state=self._unpacked(flat),
            item_id=item_NK,
            utility=flat["pool_utility"],
            allowed=flat["pool_mask"],
            slot=shown_NK.int().argmax(1),
            log_propensity=flat["log_propensity"],
            advantage=advantage_N,
            value_target=advantage_N + value_TB[:-1].flatten()[happened],
        )

    def shape(self) -> tuple[int, int]:
        """T and B."""
        num_rows, num_sessions = self._columns["valid"].shape
        return num_rows, num_sessions

    def state_dict(self) -> dict[str, Tensor]:
        """The row that the next rollout continues from."""
        last = {name: column[-1:] for name, column in self._columns.items()}
        return {"counters": torch.tensor([self._num_tasks])} | last

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue where `state_dict` was taken.

        Raises:
            ConfigError: an earlier version wrote it.
        """
        self._columns = {k: v.clone() for k, v in tensors.items() if k != "counters"}
        require_utilities(self._columns)
        self._num_tasks = int(tensors["counters"][0])
