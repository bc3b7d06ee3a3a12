"""Users of the embedded world, who are shown what a service recommends."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from recomind.simulation import World
from recomind.types import SessionState

Json = dict[str, Any]
Ask = Callable[[list[Json]], list[Json]]  # requests -> answers of /recommend
_DAY_MS = 86_400_000


def requests_of(state: SessionState, sessions: Sequence[str], tasks: Sequence[str]) -> list[Json]:
    """Requests for one item each, from states [B] and the names of their sessions."""
    return [_request(state, row, name, tasks) for row, name in enumerate(sessions)]


def _request(state: SessionState, row: int, session: str, tasks: Sequence[str]) -> Json:
    history = [
        {
            "item_id": int(state.history_item_id[row, at]),
            "feedback": dict(zip(tasks, state.history_feedback[row, at].tolist(), strict=True)),
            "dwell_s": float(state.history_dwell_s[row, at]),
            "gap_s": float(state.history_gap_s[row, at]),
        }
        for at in state.history_mask[row].nonzero()[:, 0].tolist()
    ]
    return {
        "user_id": int(state.user_id[row]),
        "user_features": state.user_features[row].tolist(),
        "history": history,
        "step": int(state.step[row]),
        "gap_s": float(state.gap_s[row]),
        "session_id": session,
        "num": 1,
    }


def play(world: World, seeds: Tensor, ask: Ask, name: str) -> list[Json]:
    """Whole sessions of `seeds` [B]; returns an outcome for each decision that was shown.

    Args:
        world: the truth; its hidden state stays in it.
        seeds: one a session.
        ask: answers /recommend.
        name: begins the names of the sessions.
    """
    state, outcomes = world.reset_to(seeds), []
    alive = torch.arange(len(seeds))
    while len(alive):
        names = [f"{name}-{seed}" for seed in seeds[alive].tolist()]
        answers = ask(requests_of(state[alive], names, world.tasks))
        items = torch.zeros(len(seeds), dtype=torch.int64)
        items[alive] = torch.tensor([answer["item_ids"][0] for answer in answers])
        step = world.step(items)
        for row, answer in zip(alive.tolist(), answers, strict=True):
            feedback = step.response.feedback[row].int().tolist()
            outcomes.append(
                {
                    "decision_id": answer["decision_id"],
                    "dwell_s": float(step.response.dwell_s[row]),
                    "left": bool(step.terminated[row]),  # False also where the horizon cut it
                    **dict(zip(world.tasks, feedback, strict=True)),
                }
            )
        state = step.state
        alive = alive[~(step.terminated | step.truncated)[alive]]
    return outcomes


def deliver(
    outcomes: Sequence[Json], folder: Path, now_ms: int, draw: random.Random, *, never: float
) -> dict[str, int]:
    """Write outcomes as a company's pipeline may: late, out of order, some twice, some never.

    Args:
        outcomes: from `play`.
        folder: gets two Parquet files.
        now_ms: the service's clock.
        draw: all the randomness.
        never: share that is not written; a fifth of it comes after the time limit of a day.

    Returns:
        Rows written, and how many of them are late, repeated or of no decision.
    """
    rows, said = [], {"late": 0, "repeated": 0, "unknown": 0}
    for outcome in outcomes:
        luck = draw.random()
        if luck < 0.8 * never:
            continue
        is_late = luck < never
        delay_ms = draw.randrange(2 * _DAY_MS, 3 * _DAY_MS) if is_late else draw.randrange(600_000)
        rows.append(outcome | {"time_ms": now_ms + delay_ms})
        said["late"] += is_late
        if luck > 0.98 and not is_late:
            rows.append(rows[-1])
            said["repeated"] += 1
        if luck > 0.995:
            rows.append(rows[-1] | {"decision_id": f"unheard-of-{len(rows)}"})
            said["unknown"] += 1
    draw.shuffle(rows)
    folder.mkdir(parents=True, exist_ok=True)
    for part in (0, 1):
        pl.DataFrame(rows[part::2]).write_parquet(folder / f"{now_ms}-{part}.parquet")
    return said | {"rows": len(rows)}
