"""Paired rollouts: every session once, to its end.

Symbols: `S` sessions, `B` sessions of a chunk, `A` of them still alive, `H` tasks, `T` horizon.

A session is a function of its seed and of the items it is shown, so two arms that are rolled out
on the same seeds meet the same users with the same luck, and row s of one is paired with row s of
the other (common random numbers).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recomind.errors import ConfigError, SchemaError
from recomind.evaluation.shown import item_measures
from recomind.streams import LANE_ACT, SessionStreams
from recomind.types import CandidateSource, Policy, SessionEnvironment, SessionState, Step

LONG_WATCH_S = 10.0  # a watch counts for `watch_10s_per_session` if it lasts longer than this
_OPTIONAL = (
    "env_reward",
    "user_id",
    "user_features",
    "num_events_before",
    "spread",
    "num_new",
)
_NOTHING = -1  # fills the slots of the item table after a session's end


@dataclass(kw_only=True, slots=True)
class SessionOutcomes:
    """What happened in `S` sessions; row s belongs to seed s."""

    tasks: tuple[str, ...]
    num_items: int  # items of the catalogue
    horizon: int  # steps after which a session was cut
    reward: Tensor  # [S] float64, sum over the session
    task_counts: Tensor  # [S, H] int64, positive responses
    num_long_watches: Tensor  # [S] int64, events watched for more than 10 s
    depth: Tensor  # [S] int64, interactions
    num_distinct: Tensor  # [S] int64, distinct items shown
    left: Tensor  # [S] bool: the user left; False where the horizon cut the session
    shown_item_id: Tensor  # [D] int64, sorted: the distinct items of all sessions together
    env_reward: Tensor | None = None  # [S] float64, the environment's own, where it has one
    user_id: Tensor | None = None  # [S] int64: whose session it is
    user_features: Tensor | None = None  # [S, U] float32, as they were before the first step
    num_events_before: Tensor | None = None  # [S] int64, of the user's history at the start
    spread: Tensor | None = None  # [S] float64: mean squared distance of two of its items
    num_new: Tensor | None = None  # [S] int64, interactions with new items, where ages are known

    @property
    def num_repeats(self) -> Tensor:
        """[S] int64: interactions with an item that the session had shown before."""
        return self.depth - self.num_distinct

    def survival(self) -> list[float]:
        """[T + 1] share of users who had not left after t interactions, t = 0 .. horizon."""
        after = torch.arange(self.horizon + 1)
        gone_ST = self.left[:, None] & (self.depth[:, None] <= after)
        return (1.0 - gone_ST.double().mean(0)).tolist()


@torch.no_grad()
def rollout(
    environment: SessionEnvironment,
    policy: Policy,
    candidates: CandidateSource,
    seeds: Tensor,
    batch_size: int = 2048,
) -> SessionOutcomes:
    """Run one session for each seed to its end.

    Args:
        environment: a world or a simulator; left at the end of the last chunk.
        policy: the arm that is measured.
        candidates: where the arm's pools come from.
        seeds: [S] int64, one a session; equal seeds are equal users with equal luck.
        batch_size: sessions that run in lock-step.

    Raises:
        ConfigError: no seeds, or seeds or batch size of the wrong kind.
        SchemaError: the policy chose an item outside the catalogue, or the environment went on
            after its horizon.
    """
    _check_request(seeds, batch_size)
    chunks = [_run(environment, policy, candidates, chunk) for chunk in seeds.split(batch_size)]
    return joined(chunks)


def _run(
    environment: SessionEnvironment, policy: Policy, candidates: CandidateSource, seeds_B: Tensor
) -> SessionOutcomes:
    state = environment.reset_to(seeds_B)
    tally = _Tally(environment, state)
    alive_B = torch.ones(len(seeds_B), dtype=torch.bool)
    for step in range(environment.horizon):
        item_B = choose_items(environment, policy, candidates, state, alive_B)
        result = environment.step(item_B)
        tally.add(step, item_B, result)
        state, alive_B = result.state, alive_B & ~(result.terminated | result.truncated)
        if not bool(alive_B.any()):
            return tally.outcomes()
    raise SchemaError(
        "sessions went on after the horizon",
        got=f"{int(alive_B.sum())} alive after {environment.horizon} steps",
        mend="the environment must set `truncated` at its horizon",
    )


def choose_items(
    environment: SessionEnvironment,
    policy: Policy,
    source: CandidateSource,
    state: SessionState,
    alive_B: Tensor,
) -> Tensor:
    """[B] int64 item ids; sessions that have ended get item 0, which the environment ignores."""
    streams = SessionStreams(environment.streams.seeds[alive_B])
    state_A = state[alive_B]
    pool = source.candidates(state_A, streams)
    decision = policy.act(state_A, pool, streams.uniform(state_A.step, 4, LANE_ACT))
    num_items = environment.catalogue.num_items
    if bool(((decision.item_id < 0) | (decision.item_id >= num_items)).any()):
        raise SchemaError(
            "the policy chose an item outside the catalogue",
            got=f"ids {int(decision.item_id.min())} to {int(decision.item_id.max())}",
            expected=f"0 to {num_items - 1}",
        )
    item_B = torch.zeros(len(alive_B), dtype=torch.int64)
    item_B[alive_B] = decision.item_id
    return item_B


class _Tally:
    """Sums of a chunk of sessions, which begin with `start`, while it runs."""

    def __init__(self, environment: SessionEnvironment, start: SessionState) -> None:
        self.environment, num = environment, len(start.step)
        self.before = {
            "user_id": start.user_id.clone(),
            "user_features": start.user_features.clone(),
            "num_events_before": start.history_mask.sum(1),
        }
        self.reward = torch.zeros(num, dtype=torch.float64)
        self.counts = torch.zeros(num, len(environment.tasks), dtype=torch.int64)
        self.long_watches = torch.zeros(num, dtype=torch.int64)
        self.depth = torch.zeros(num, dtype=torch.int64)
        self.left = torch.zeros(num, dtype=torch.bool)
        self.env_reward: Tensor | None = None
        self.item_BT = torch.full((num, environment.horizon), _NOTHING, dtype=torch.int64)

    def add(self, step: int, item_B: Tensor, result: Step) -> None:
        valid = result.valid
        self.reward += result.reward.double() * valid
        self.counts += result.response.feedback & valid[:, None]
        self.long_watches += (result.response.dwell_s > LONG_WATCH_S) & valid
        self.depth += valid
        self.left |= result.terminated
        if (own := result.response.env_reward) is not None:
            so_far = torch.zeros_like(self.reward) if self.env_reward is None else self.env_reward
            self.env_reward = so_far + own.double() * valid
        self.item_BT[:, step] = torch.where(valid, item_B, _NOTHING)

    def outcomes(self) -> SessionOutcomes:
        shown = self.item_BT.unique()
        return SessionOutcomes(
            tasks=tuple(self.environment.tasks),
            num_items=self.environment.catalogue.num_items,
            horizon=self.environment.horizon,
            reward=self.reward,
            task_counts=self.counts,
            num_long_watches=self.long_watches,
            depth=self.depth,
            num_distinct=_distinct_per_row(self.item_BT),
            left=self.left,
            shown_item_id=shown[shown != _NOTHING],
            env_reward=self.env_reward,
            **self.before,
            **item_measures(self.environment.catalogue, self.item_BT),
        )


def _distinct_per_row(item_BT: Tensor) -> Tensor:
    """[B] number of distinct ids in each row, `_NOTHING` apart."""
    ordered = item_BT.sort(dim=1).values
    first = ordered[:, :1] != _NOTHING
    changed = (ordered[:, 1:] != ordered[:, :-1]) & (ordered[:, 1:] != _NOTHING)
    return torch.cat([first, changed], dim=1).sum(1)


def joined(chunks: Sequence[SessionOutcomes]) -> SessionOutcomes:
    """The sessions of several rollouts of one arm in one environment, in order."""
    first = chunks[0]
    rows = ("reward", "task_counts", "num_long_watches", "depth", "num_distinct", "left")
    columns: dict[str, Any] = {
        name: torch.cat([getattr(chunk, name) for chunk in chunks]) for name in rows
    } | {name: _joined_column(chunks, name) for name in _OPTIONAL}
    return SessionOutcomes(
        tasks=first.tasks,
        num_items=first.num_items,
        horizon=first.horizon,
        shown_item_id=torch.cat([chunk.shown_item_id for chunk in chunks]).unique(),
        **columns,
    )


def _joined_column(chunks: Sequence[SessionOutcomes], name: str) -> Tensor | None:
    parts = [value for chunk in chunks if (value := getattr(chunk, name)) is not None]
    return torch.cat(parts) if parts else None


def _check_request(seeds: Tensor, batch_size: int) -> None:
    if seeds.dim() != 1 or len(seeds) == 0 or seeds.dtype != torch.int64:
        raise ConfigError(
            "seeds of the sessions",
            got=f"{seeds.dtype} of shape {tuple(seeds.shape)}",
            expected="int64 [S], S >= 1",
        )
    if batch_size < 1:
        raise ConfigError("batch size of a rollout", got=batch_size, expected=">= 1")
