"""Runs a policy in an environment and keeps what a production log would keep.

The hidden state of a world never reaches the log; propensities are those that the policy returned.
"""

# Torch's stubs leave the types of some members open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import polars as pl
import torch
from torch import Tensor

from recomind.errors import SchemaError
from recomind.simulation.environment import World
from recomind.streams import LANE_ACT, SessionStreams, hash_uniform
from recomind.types import CandidateSource, Decision, Policy, SessionEnvironment, SessionState, Step

_SECOND_MS = 1000
_CHUNK = 1024  # sessions whose pools are held at once
_SALT_HOLDOUT = 71


def collect_sessions(
    environment: SessionEnvironment,
    policy: Policy,
    candidates: CandidateSource,
    *,
    num_sessions: int,
    generator: torch.Generator,
    user_feature_names: Sequence[str],
    calibration_share: float = 0.15,
    test_share: float = 0.15,
    holdout_share: float = 0.2,
    progress: Callable[[int, int], None] | None = None,
) -> pl.DataFrame:
    """Run `num_sessions` sessions to their end and return their events as a sessions frame.

    Sessions stand in the order of their beginnings where a world dates them, else in that of their
    seeds: the last `test_share` of them is the test split, the `calibration_share` before it the
    calibration split. The end of a session that the horizon cut is unknown. Without dates its first
    item is shown at 0 ms. Time between events comes from the states, where they know it.

    Raises:
        SchemaError: the environment continued after its horizon, or returned NaN or infinity.
        RecomindError: the policy's scores are not finite.
    """
    state = environment.reset(num_sessions, generator)
    clock_ms = _begins_ms(environment, num_sessions)
    columns = _Columns(environment.tasks, user_feature_names, clock_ms.argsort(stable=True))
    columns.add_history(state, clock_ms)
    alive = torch.ones(num_sessions, dtype=torch.bool)
    for step_index in range(environment.horizon):
        rows = alive.nonzero()[:, 0]
        decision = _decide(rows, state, policy, candidates, environment.streams)
        item_id = torch.zeros(num_sessions, dtype=torch.int64)
        item_id[rows] = decision.item_id  # the environment ignores the items of ended sessions
        step = environment.step(item_id)
        clock_ms += _milliseconds(state.gap_s) * (state.step > 0)
        columns.add(rows, clock_ms[rows], state, decision, step)
        alive = alive & ~(step.terminated | step.truncated)
        state = step.state
        if progress is not None:
            progress(step_index + 1, environment.horizon)
        if not bool(alive.any()):
            break
    if bool(alive.any()):
        raise SchemaError(
            "sessions continued after the horizon",
            got=f"{int(alive.sum())} alive after {environment.horizon} steps",
            mend="the environment must set `truncated` at its horizon",
        )
    return columns.frame(num_sessions, calibration_share, test_share, holdout_share)


def _begins_ms(environment: SessionEnvironment, num_sessions: int) -> Tensor:
    """[B] int64: when the sessions begin; 0 without dates."""
    dates_ms = environment.begins_ms() if isinstance(environment, World) else None
    return torch.zeros(num_sessions, dtype=torch.int64) if dates_ms is None else dates_ms.clone()


def _milliseconds(seconds: Tensor) -> Tensor:
    """[...] int64, rounded."""
    return (seconds.double() * _SECOND_MS).round().long()


def _decide(
    rows: Tensor,
    state: SessionState,
    policy: Policy,
    candidates: CandidateSource,
    streams: SessionStreams,
) -> Decision:
    """Decisions of the sessions `rows` [A], in chunks, which bounds the memory of the pools."""
    decisions = []
    for chunk in rows.split(_CHUNK):
        part, chunk_streams = state[chunk], SessionStreams(streams.seeds[chunk])
        pools = candidates.candidates(part, chunk_streams)
        uniforms = chunk_streams.uniform(part.step, 4, LANE_ACT)
        decisions.append(policy.act(part, pools, uniforms))
    return cast(Decision, torch.cat(decisions))


class _Columns:
    """Accumulates events column by column."""

    def __init__(
        self, tasks: Sequence[str], user_feature_names: Sequence[str], order_S: Tensor
    ) -> None:
        self.tasks, self.names = list(tasks), list(user_feature_names)
        self.rank_S = order_S.argsort()  # place of each session in the log
        self.parts: list[dict[str, Tensor]] = []

    def add_history(self, state: SessionState, begin_ms: Tensor) -> None:
        """Events before the sessions, which begin at `begin_ms` [S], at position -1."""
        session, slot = state.history_mask.nonzero(as_tuple=True)
        gap_ms = _milliseconds(torch.cat([state.history_gap_s[:, 1:], state.gap_s[:, None]], 1))
        time_ms = -gap_ms.flip(1).cumsum(1).flip(1)  # the last one is `gap_s` before the session
        self._append(
            session,
            torch.full_like(session, -1),
            (begin_ms[:, None] + time_ms)[session, slot],
            state.history_item_id[session, slot],
            state.history_feedback[session, slot],
            state.history_dwell_s[session, slot],
            state[session],
            left=torch.zeros(len(session), dtype=torch.bool),
            left_known=torch.zeros(len(session), dtype=torch.bool),
            log_propensity=torch.full((len(session),), torch.nan),
        )

    def add(
        self, rows: Tensor, time_ms: Tensor, state: SessionState, decision: Decision, step: Step
    ) -> None:
        """One step of the sessions `rows` [A], which saw `decision` [A] at `time_ms` [A]."""
        self._append(
            rows,
            state.step[rows],
            time_ms,
            decision.item_id,
            step.response.feedback[rows],
            step.response.dwell_s[rows],
            state[rows],
            left=step.terminated[rows],
            left_known=~step.truncated[rows],
            log_propensity=decision.log_propensity,
        )

    def _append(
        self,
        session: Tensor,
        position: Tensor,
        time_ms: Tensor,
        item_id: Tensor,
        feedback: Tensor,
        dwell_s: Tensor,
        state: SessionState,
        *,
        left: Tensor,
        left_known: Tensor,
        log_propensity: Tensor,
    ) -> None:
        part = {
            "session_id": self.rank_S[session],
            "position": position,
            "time_ms": time_ms,
            "item_id": item_id,
            "dwell_s": dwell_s,
            "user_id": state.user_id,
            "left": left,
            "left_known": left_known,
            "propensity": log_propensity.double().exp(),
        }
        part |= {task: feedback[:, h].to(torch.uint8) for h, task in enumerate(self.tasks)}
        part |= {f"u_{n}": state.user_features[:, u] for u, n in enumerate(self.names)}
        self.parts.append(part)

    def frame(
        self, num_sessions: int, calibration_share: float, test_share: float, holdout_share: float
    ) -> pl.DataFrame:
        """All events, with splits by session order and hold-out users by a hash of their id."""
        columns = {k: torch.cat([p[k] for p in self.parts]).numpy() for k in self.parts[0]}
        holdout = hash_uniform(torch.from_numpy(columns["user_id"]), _SALT_HOLDOUT)
        test_from = round(num_sessions * (1 - test_share))
        calibration_from = round(num_sessions * (1 - test_share - calibration_share))
        frame = pl.DataFrame(columns).with_columns(
            pl.col("position").cast(pl.Int32),
            pl.col("propensity").fill_nan(None),
            history_id=pl.col("session_id"),
            snapshot=pl.lit(0, pl.Int32),
            holdout=pl.Series((holdout < holdout_share).numpy()),
            split=pl.when(pl.col("position") < 0)
            .then(pl.lit("history"))
            .when(pl.col("session_id") >= test_from)
            .then(pl.lit("test"))
            .when(pl.col("session_id") >= calibration_from)
            .then(pl.lit("calibration"))
            .otherwise(pl.lit("train")),
        )
        return frame.sort("session_id", "time_ms", "position", maintain_order=True)
