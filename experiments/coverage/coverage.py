"""How often intervals cover the truth, and how often the gate releases a policy that is no better.

`python -m experiments.coverage.coverage`: 400 repetitions of each kind, on sessions whose truth is
known, and on blocks of sessions of the embedded world. About five minutes on one core.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from experiments.result import figure, write_result
from recomind.candidates import CandidatesConfig, make_pool
from recomind.evaluation.config import EvaluationConfig, GateConfig
from recomind.evaluation.gate import decide
from recomind.evaluation.metrics import SessionRatio
from recomind.evaluation.ope import ESTIMATORS, LoggedSessions, Settings, Target, estimate_all
from recomind.evaluation.power import cuped
from recomind.evaluation.report import environment_entry
from recomind.evaluation.rollout import SessionOutcomes, rollout
from recomind.evaluation.sequential import anytime_half_width
from recomind.evaluation.statistics import paired_lift
from recomind.policy import RandomPolicy
from recomind.streams import draw_seeds, make_generator
from simulators.video_feed.world import VideoFeed

COMMAND = "experiments/coverage/run"
METRIC = "watch_10s_per_session"
REPETITIONS, SESSIONS, SEED = 400, 400, 0
Draw = Callable[[torch.Generator], bool | None]  # whether one interval covers the truth


def per_session(values: Tensor) -> SessionRatio:
    """A mean per session."""
    return SessionRatio(numerator=values.double(), denominator=torch.ones(len(values)).double())


def paired(lift: float, users: int = SESSIONS) -> Draw:
    """Videos of two arms that share user and luck; several sessions a user where users are few."""

    def draw(generator: torch.Generator) -> bool:
        user = torch.arange(SESSIONS) % users
        taste = (0.5 + torch.rand(users, generator=generator))[user]
        # What the policy does to a user is the user's own: sessions of one are not independent.
        own = (1 + 0.5 * torch.randn(users, generator=generator)).clamp(0, 2)[user]
        base = torch.poisson(4 * taste, generator=generator) + 0.5
        policy = base * (1 + lift * own) + 0.5 * torch.randn(SESSIONS, generator=generator)
        found = paired_lift(per_session(policy), per_session(base), 0.95, user)
        return _covers(found.low, found.high, lift)

    return draw


def unpaired_cuped(effect: float) -> Draw:
    """A real test: arms of different users, adjusted by what was known of them before."""

    def draw(generator: torch.Generator) -> bool:
        before = torch.randn(2 * SESSIONS, 1, generator=generator).double()
        luck = torch.randn(2 * SESSIONS, generator=generator).double()
        values = 5 + 2 * before[:, 0] + luck
        values[:SESSIONS] += effect
        means, arms = before.mean(0), (slice(None, SESSIONS), slice(SESSIONS, None))
        adjusted = [cuped(values[arm], before[arm], means) for arm in arms]
        gap = float(adjusted[0].mean() - adjusted[1].mean())
        error = math.sqrt(sum(float(each.var()) for each in adjusted) / SESSIONS)
        return abs(gap - effect) <= 1.96 * error

    return draw


def anytime(effect: float) -> Draw:
    """At every look, each tenth of ten times the sessions planned for."""

    def draw(generator: torch.Generator) -> bool:
        values = effect + torch.randn(10 * SESSIONS, generator=generator).double()
        for num in range(SESSIONS // 4, len(values) + 1, SESSIONS // 4):
            part = values[:num]
            half = anytime_half_width(float(part.std()), num, planned=SESSIONS)
            if abs(float(part.mean()) - effect) > half:
                return False
        return True

    return draw


def off_policy(name: str) -> Draw:
    """Three steps, two candidates, three sessions a user; the model's Q values are half wrong."""

    def draw(generator: torch.Generator) -> bool | None:
        users = SESSIONS // 2
        user = torch.arange(SESSIONS) % users
        taste = torch.rand(users, generator=generator).double()[user]
        slot = torch.randint(2, (SESSIONS, 3), generator=generator)
        luck = torch.randn(SESSIONS, 3, generator=generator)
        logs = LoggedSessions(
            reward=slot + taste[:, None] + 0.3 * luck,
            pscore=torch.full((SESSIONS, 3), 0.5),
            slot=slot,
            mask=torch.ones(SESSIONS, 3, dtype=torch.bool),
            state_id=torch.zeros(SESSIONS, 3, dtype=torch.int64),
            user_id=user,
        )
        likes, left = 0.6, torch.tensor([2.0, 1.0, 0.0])[:, None]
        exact = torch.tensor([0.0, 1.0]) + left * (likes + 0.5) + 0.5
        own = (taste[:, None, None] - 0.5) * (left + 1)
        wrong = 0.3 * torch.tensor([1.0, -1.0]) if name not in ("dm", "fqe") else 0.0
        target = Target(
            prob=torch.tensor([1 - likes, likes]).expand(SESSIONS, 3, 2), q=exact + own + wrong
        )
        found = estimate_all(logs, target, Settings(clip=1e9), [name])["estimates"][name]
        return _covers(found["low"], found["high"], 3 * (likes + 0.5))

    return draw


def covered(draw: Draw) -> dict[str, object]:
    """Share of the repetitions whose interval covers the truth."""
    generator = make_generator(SEED)
    found = [covers for _ in range(REPETITIONS) if (covers := draw(generator)) is not None]
    share = sum(found) / len(found)
    return figure(share, n=len(found), standard_error=math.sqrt(share * (1 - share) / len(found)))


def world_sessions() -> tuple[SessionOutcomes, SessionOutcomes]:
    """Two arms of the embedded world on the same sessions: its logging policy, and chance."""
    world = VideoFeed(
        preset_name="fatigue", num_items=300, horizon=6, history_length=8, reward_weights=WEIGHTS
    )
    pool = make_pool(CandidatesConfig(num_candidates=12, num_nearest=0), world.catalogue)
    seeds = draw_seeds(REPETITIONS * WORLD_SESSIONS, make_generator(SEED))
    policies = (world.logging_policy(), RandomPolicy())
    ours, theirs = (rollout(world, policy, pool, seeds, 4096) for policy in policies)
    return ours, theirs


WEIGHTS, WORLD_SESSIONS = {"watch_10s": 1.0}, 100


def world_figures() -> dict[str, object]:
    """Coverage of the lift in blocks of the world's sessions; releases of an A/A gate."""
    ours, theirs = world_sessions()
    column = ours.tasks.index("watch_10s")
    counts = [arm.task_counts[:, column] for arm in (ours, theirs)]
    truth = float(counts[0].double().mean() / counts[1].double().mean() - 1.0)
    hits = []
    for part in torch.arange(len(counts[0])).split(WORLD_SESSIONS):
        lift = paired_lift(per_session(counts[0][part]), per_session(counts[1][part]))
        hits.append(_covers(lift.low, lift.high, truth))
    share = sum(hits) / len(hits)
    error = math.sqrt(share * (1 - share) / len(hits))
    released = [decide([entry], GATE)["released"] for entry in _aa_entries(theirs)]
    return {
        "coverage.world": figure(share, n=len(hits), standard_error=error, true_lift=truth),
        "aa_released": figure(sum(released) / len(released), n=len(released)),
    }


GATE = GateConfig(must_not_fall=[], must_not_rise=[])  # nothing but the target stands in the way


def _aa_entries(arm: SessionOutcomes) -> Iterator[dict]:
    """The same policy twice, on other users: whatever the gate releases is luck."""
    settings = EvaluationConfig(num_sessions=WORLD_SESSIONS)
    blocks = torch.arange(len(arm.depth)).split(WORLD_SESSIONS)
    for ours, theirs in zip(blocks, blocks[1:] + blocks[:1], strict=True):
        arms = {"policy": _part(arm, ours), "ranker": _part(arm, theirs)}
        yield environment_entry("world", "world", arms, settings, target_metric=METRIC)


def _part(arm: SessionOutcomes, rows: Tensor) -> SessionOutcomes:
    columns = {
        name: getattr(arm, name)[rows]
        for name in ("reward", "task_counts", "num_long_watches", "depth", "num_distinct", "left")
    }
    return SessionOutcomes(
        tasks=arm.tasks,
        num_items=arm.num_items,
        horizon=arm.horizon,
        shown_item_id=arm.shown_item_id,
        **columns,
    )


def _covers(low: float | None, high: float | None, truth: float) -> bool:
    return low is not None and high is not None and low <= truth <= high


def main() -> None:
    """Write `result.json`."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    kinds: dict[str, Draw] = {
        "paired_ab": paired(0.05),
        "paired_aa": paired(0.0),
        "clustered": paired(0.05, users=SESSIONS // 8),
        "cuped": unpaired_cuped(0.2),
        "anytime": anytime(0.1),
    }
    kinds |= {name: off_policy(name) for name in ESTIMATORS if name != "fqe"}  # `dm` of a fitted q
    figures: dict[str, object] = {}
    for kind, draw in kinds.items():
        figures[f"coverage.{kind}"] = covered(draw)
        print(kind, figures[f"coverage.{kind}"], flush=True)
    figures |= world_figures()
    write_result(Path(__file__).parent, COMMAND, figures, seeds=[SEED])


if __name__ == "__main__":
    main()
