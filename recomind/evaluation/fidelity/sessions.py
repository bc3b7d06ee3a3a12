"""Whole sessions side by side: logged ones, and simulated ones that are shown the same items.

Symbols: `S` sessions, `T` positions in a session up to the horizon, `H` tasks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recomind.data import SessionDataset
from recomind.simulation import FittedSessions, state_tensors
from recomind.streams import draw_seeds

_BATCH_SESSIONS = 512


@dataclass(kw_only=True, slots=True)
class SessionTable:
    """`S` sessions event by event; what lies behind a session's end is 0."""

    depth_S: Tensor  # int64, events, at most the horizon
    left_S: Tensor  # bool: the user left after the last event; False where that is censored
    feedback_STH: Tensor  # bool
    dwell_ST: Tensor  # float32, seconds

    @property
    def mask_ST(self) -> Tensor:
        """[S, T] bool: which events there are."""
        return torch.arange(self.dwell_ST.shape[1]) < self.depth_S[:, None]


@dataclass(kw_only=True, slots=True)
class LoggedSessions:
    """Sessions of a log, cut at a horizon, and what a replay of them needs."""

    table: SessionTable
    start_S: Tensor  # int64, rows that open them
    item_ST: Tensor  # int64: as shown; behind the end, items drawn from the log of that day


def logged_sessions(
    dataset: SessionDataset, rows: Tensor, horizon: int, num: int, generator: torch.Generator
) -> LoggedSessions:
    """At most `num` sessions out of the events `rows`, drawn at random, cut at `horizon` events.

    Only sessions whose first event is among the rows count. Items behind a session's end are
    drawn from those that the rows show in the same snapshot, as often as they were shown.
    """
    rows = rows[dataset.position(rows) < horizon]
    start_S = rows[dataset.position(rows) == 0]
    chosen = torch.randperm(len(start_S), generator=generator)[:num].sort().values
    start_S = start_S[chosen]
    rows = rows[torch.isin(dataset.session_index(rows), dataset.session_index(start_S))]
    session = torch.searchsorted(dataset.session_index(start_S), dataset.session_index(rows))
    place = (session, dataset.position(rows))
    num_tasks, num_sessions = len(dataset.tasks), len(start_S)
    feedback = torch.zeros(num_sessions, horizon, num_tasks, dtype=torch.bool)
    feedback[place] = dataset.labels(rows).bool()
    dwell = torch.zeros(num_sessions, horizon)
    dwell[place] = dataset.dwell_s(rows)
    left = torch.zeros(num_sessions, dtype=torch.bool)
    ended = dataset.left_known(rows) & dataset.left(rows)
    left[session[ended]] = True
    item = _behind(dataset, rows, start_S, horizon, generator)
    item[place] = dataset.item_id(rows)
    depth = torch.bincount(session, minlength=num_sessions)
    table = SessionTable(depth_S=depth, left_S=left, feedback_STH=feedback, dwell_ST=dwell)
    return LoggedSessions(table=table, start_S=start_S, item_ST=item)


def _behind(
    dataset: SessionDataset,
    rows: Tensor,
    start_S: Tensor,
    horizon: int,
    generator: torch.Generator,
) -> Tensor:
    """[S, T] items drawn from the logged ones of each session's snapshot."""
    item_ST = torch.zeros(len(start_S), horizon, dtype=torch.int64)
    day_S, day_R = dataset.snapshot(start_S), dataset.snapshot(rows)
    for day in day_S.unique():
        shown = dataset.item_id(rows[day_R == day])
        own = (day_S == day).nonzero()[:, 0]
        draw = torch.randint(len(shown), (len(own), horizon), generator=generator)
        item_ST[own] = shown[draw]
    return item_ST


@torch.no_grad()
def replay(
    simulator: FittedSessions,
    dataset: SessionDataset,
    logged: LoggedSessions,
    generator: torch.Generator,
) -> SessionTable:
    """Simulated sessions that begin as the logged ones did and are shown the same items."""
    parts = []
    for chunk in torch.arange(len(logged.start_S)).split(_BATCH_SESSIONS):
        seeds = draw_seeds(len(chunk), generator)
        fields = state_tensors(dataset.state(logged.start_S[chunk]))
        begin = {f"state.{name}": value for name, value in fields.items()}
        begin |= {"seeds": seeds, "ended": torch.zeros(len(chunk), dtype=torch.bool)}
        simulator.set_state(begin, auto_reset=False)
        parts.append(_play(simulator, logged.item_ST[chunk]))
    return SessionTable(
        depth_S=torch.cat([p.depth_S for p in parts]),
        left_S=torch.cat([p.left_S for p in parts]),
        feedback_STH=torch.cat([p.feedback_STH for p in parts]),
        dwell_ST=torch.cat([p.dwell_ST for p in parts]),
    )


def _play(simulator: FittedSessions, item_ST: Tensor) -> SessionTable:
    num, horizon = item_ST.shape
    table = SessionTable(
        depth_S=torch.zeros(num, dtype=torch.int64),
        left_S=torch.zeros(num, dtype=torch.bool),
        feedback_STH=torch.zeros(num, horizon, len(simulator.tasks), dtype=torch.bool),
        dwell_ST=torch.zeros(num, horizon),
    )
    for t in range(horizon):
        step = simulator.step(item_ST[:, t])
        table.depth_S += step.valid
        table.left_S |= step.terminated
        table.feedback_STH[:, t] = step.response.feedback & step.valid[:, None]
        table.dwell_ST[:, t] = step.response.dwell_s * step.valid
        if bool((step.terminated | step.truncated | ~step.valid).all()):
            break
    return table


def cut_alike(simulated: SessionTable, logged: SessionTable) -> SessionTable:
    """The simulated sessions, each censored where its logged twin is.

    What could not be seen of the one must not be seen of the other. The twin of a session whose
    end is known, or that the horizon cut, is left whole.
    """
    horizon = simulated.dwell_ST.shape[1]
    whole_S = logged.left_S | (logged.depth_S >= horizon)
    limit_S = torch.where(whole_S, horizon, logged.depth_S)
    seen_S = whole_S | (simulated.depth_S < limit_S)
    cut = SessionTable(
        depth_S=simulated.depth_S.minimum(limit_S),
        left_S=simulated.left_S & seen_S,
        feedback_STH=simulated.feedback_STH,
        dwell_ST=simulated.dwell_ST,
    )
    cut.feedback_STH = cut.feedback_STH & cut.mask_ST[..., None]
    cut.dwell_ST = cut.dwell_ST * cut.mask_ST
    return cut
