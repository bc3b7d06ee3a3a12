"""Replay memory: the last `T` steps of `B` lock-step sessions, with n-step returns on demand.

`T` rows of time (a ring), `B` sessions, `N` sampled transitions, `n` steps of a return.

Rows are stored as simulated. With NEXT_STEP auto-reset, a session of two events is

    row           0      1      2      3
    state         s0     s1     s2     s0'     s2: the true last state; s0': of the next session
    valid         T      T      F      T
    terminated    F      T      F      F

so a return that begins in row 0 with n = 3 sums two rewards and ends in row 2, bootstrapping from
s2: with weight 0 where the user left in a world, in which the probability of leaving is unknown;
with the probability of staying where a simulator gave it; and in full where row 1 was truncated.

Rewards and endings are expectations where the environment knows them. Then only the next state is
random, and a target is far less noisy with the same mean (ours; Rao-Blackwell). A sampled end that
cuts the n steps short does not change the mean either: both continuations, bootstrap and further
steps, estimate the value of the same state.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from recomind.errors import ConfigError
from recomind.training.rows import SessionRows, require_utilities, unpack_state
from recomind.types import Candidates, SessionState, Transition


class SessionReplay:
    """Steps of one runner.

    Args:
        num_rows: time steps kept.
        n_step: rewards in a return.
        gamma: discount per event.
    """

    def __init__(self, *, num_rows: int, n_step: int, gamma: float) -> None:
        if num_rows < n_step + 2:
            raise ConfigError(
                "the replay is too short", got=num_rows, expected=f">= {n_step + 2} rows"
            )
        self.num_rows, self.n_step, self.gamma = num_rows, n_step, gamma
        self._columns: dict[str, Tensor] = {}
        self._num_tasks = 0
        self._written = 0  # rows ever written; the next goes to row `_written % num_rows`
        self._starts: Tensor | None = None  # flat indices of starting points, built when needed

    def __len__(self) -> int:
        """Transitions that can be sampled."""
        return len(self._starting_points())

    def add(self, rows: SessionRows) -> None:
        """Append time steps; if they do not follow the last ones, no return spans the gap."""
        num_new = len(rows.columns["valid"])
        if num_new > self.num_rows:
            raise ConfigError(
                "the rollout is longer than the replay", got=num_new, expected=self.num_rows
            )
        if not self._columns:
            self._allocate(rows)
        if not rows.follows:
            self._columns["valid"][self._newest(self.n_step)] = False
        position = torch.arange(self._written, self._written + num_new) % self.num_rows
        for name, column in rows.columns.items():
            self._columns[name][position] = column
        self._written += num_new
        self._starts = None

    def _allocate(self, rows: SessionRows) -> None:
        self._num_tasks = rows.num_tasks
        for name, column in rows.columns.items():
            self._columns[name] = column.new_zeros((self.num_rows, *column.shape[1:]))

    def _newest(self, num: int) -> Tensor:
        first = max(0, self._written - num)
        return torch.arange(first, self._written) % self.num_rows

    def _starting_points(self) -> Tensor:
        """Flat indices [M] of valid rows whose whole return is within the ring."""
        if self._starts is None and self._columns:
            start = self._columns["valid"].clone()
            start[self._newest(self.n_step)] = False
            self._starts = start.view(-1).nonzero()[:, 0]
        return torch.zeros(0, dtype=torch.int64) if self._starts is None else self._starts

    def sample(self, batch_size: int, generator: torch.Generator) -> Transition:
        """Transitions [batch_size], uniform with replacement over all starting points.

        `next_candidates.log_propensity` is NaN: the propensities of a pool are not stored.

        Raises:
            ConfigError: nothing can be sampled yet.
        """
        starts = self._starting_points()
        if not len(starts):
            raise ConfigError(
                "the replay is empty", mend="simulate more events, or raise learning_starts"
            )
        draws = torch.randint(len(starts), (batch_size,), generator=generator)
        return self._transition(starts[draws])

    def _transition(self, start_N: Tensor) -> Transition:
        reward_N, discount_N, last_N = self._returns(start_N)
        item_id = self._take("pool_item_id", last_N).long()
        return Transition(
            state=self._state(start_N),
            item_id=self._take("item_id", start_N).long(),
            log_propensity=self._take("log_propensity", start_N),
            reward=reward_N,
            discount=discount_N,
            utility=self._take("utility", start_N),
            next_state=self._state(last_N),
            next_utility=self._take("pool_utility", last_N),
            next_candidates=Candidates(
                item_id=item_id,
                mask=self._take("pool_mask", last_N),
                log_propensity=torch.full(item_id.shape, torch.nan),
                batch_size=start_N.shape,
            ),
            batch_size=start_N.shape,
        )

    def _returns(self, start_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Discounted rewards [N], discounts of the bootstrap [N], flat index [N] of s'.

        After each step the rest is weighted by `gamma` times the probability of staying, or where
        that is unknown by 0 or 1 as observed.
        """
        num_sessions = self._columns["valid"].shape[1]
        row_N, session_N = start_N // num_sessions, start_N % num_sessions
        steps_n = torch.arange(self.n_step)
        index_Nn = ((row_N[:, None] + steps_n) % self.num_rows) * num_sessions + session_N[:, None]
        ended_Nn = (self._take("terminated", index_Nn) | self._take("truncated", index_Nn)).long()
        running_Nn = (ended_Nn.cumsum(1) - ended_Nn) == 0  # no end before this step
        stays_Nn = self.gamma * (1.0 - self._take("leave_rate", index_Nn))
        weight_Nn = torch.where(running_Nn, stays_Nn, 1.0).cumprod(
            1
        )  # weight of what follows a step
        before_Nn = torch.nn.functional.pad(weight_Nn[:, :-1], (1, 0), value=1.0)
        reward_N = (self._take("reward", index_Nn) * running_Nn * before_Nn).sum(1)
        last_N = ((row_N + running_Nn.sum(1)) % self.num_rows) * num_sessions + session_N
        return reward_N, weight_Nn[:, -1], last_N

    def _take(self, name: str, index: Tensor) -> Tensor:
        return self._columns[name].flatten(0, 1)[index]

    def _state(self, index_N: Tensor) -> SessionState:
        names = [name for name in self._columns if name.startswith("state.")]
        columns = {name[6:]: self._take(name, index_N) for name in names}
        return unpack_state(columns, self._num_tasks)

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors from which `load_state_dict` continues exactly."""
        counters = torch.tensor([self._written, self._num_tasks])
        return {"counters": counters} | dict(self._columns)

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue where `state_dict` was taken.

        Raises:
            ConfigError: the replay had another length, or was written by an earlier version.
        """
        columns = {name: value.clone() for name, value in tensors.items() if name != "counters"}
        if columns and len(columns["valid"]) != self.num_rows:
            raise ConfigError(
                "the checkpoint's replay has another length",
                got=len(columns["valid"]),
                expected=self.num_rows,
                mend="keep replay_capacity, num_sessions and num_runners, or start over",
            )
        require_utilities(columns)
        self._written, self._num_tasks = (int(v) for v in tensors["counters"])
        self._columns, self._starts = columns, None


def sample_across(
    replays: list[SessionReplay], batch_size: int, generator: torch.Generator
) -> Transition:
    """One batch [batch_size], in equal parts from the non-empty replays of the runners."""
    filled = [replay for replay in replays if len(replay)]
    if len(filled) <= 1:
        return (filled or replays)[0].sample(batch_size, generator)
    share, rest = divmod(batch_size, len(filled))
    parts = [r.sample(share + (i < rest), generator) for i, r in enumerate(filled)]
    return torch.cat(parts)  # type: ignore[return-value]
