"""Metrics of a rollout, each as a ratio of two per-session sums.

A mean per session has denominator 1; the others (`session_depth_10plus`, `repeat_share`,
`<task>_per_interaction`) are ratios of sums over sessions. One form for all of them means one
estimator and one interval for all. `coverage` belongs to the sessions as a set, has no value per
session and hence no interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from recomind.errors import SchemaError
from recomind.evaluation.rollout import SessionOutcomes

COVERAGE = "coverage"
ENV_REWARD = "env_reward_per_session"  # only where an environment pays a reward of its own
LONG_WATCH_TASK = "watch_10s"
DEEP_SESSION = 10  # interactions from which a session counts for `session_depth_10plus`


@dataclass(kw_only=True, slots=True)
class SessionRatio:
    """A metric that is sum(numerator) / sum(denominator) over `S` sessions."""

    numerator: Tensor  # [S] float64
    denominator: Tensor  # [S] float64, >= 0

    @property
    def n(self) -> int:
        """Sessions that count for the metric."""
        return int((self.denominator > 0).sum())

    @property
    def value(self) -> float | None:
        """The metric, None where no session counts for it."""
        total = float(self.denominator.sum())
        return float(self.numerator.sum()) / total if total > 0 else None

    def influence(self) -> Tensor:
        """[S] float64: first-order effect of each session on the metric, times `S`.

        The linearisation of a ratio of sums (Cochran, "Sampling Techniques", chapter 6); the
        variance of the metric is the variance of this over `S`.
        """
        value = self.value or 0.0
        return (self.numerator - value * self.denominator) / self.denominator.mean()

    def standard_error(self) -> float | None:
        """Standard error by the delta method; None with fewer than two sessions that count."""
        if self.n < 2:
            return None
        return float(self.influence().std()) / math.sqrt(len(self.numerator))


def session_ratios(outcomes: SessionOutcomes) -> dict[str, SessionRatio]:
    """Every metric of `outcomes` that has a value per session, by name.

    Each task has its `<task>_per_session`, and its `<task>_per_interaction`, which a longer session
    does not raise; the others are those of `METRICS` that these sessions have.
    `watch_10s_per_session` counts the task `watch_10s` where the environment has it, else the
    events with a dwell of more than 10 s.
    """
    ratios = {
        f"{task}_per_session": per_session(outcomes.task_counts[:, index])
        for index, task in enumerate(outcomes.tasks)
    }
    ratios.setdefault(f"{LONG_WATCH_TASK}_per_session", per_session(outcomes.num_long_watches))
    ratios |= {
        f"{task}_per_interaction": _share(outcomes.task_counts[:, index], outcomes)
        for index, task in enumerate(outcomes.tasks)
    }
    found = {name: measure(outcomes) for name, measure in METRICS.items()}
    return ratios | {name: ratio for name, ratio in found.items() if ratio is not None}


def per_session(values: Tensor) -> SessionRatio:
    """The mean over sessions of `values` [S]."""
    numerator = values.double()
    return SessionRatio(numerator=numerator, denominator=torch.ones_like(numerator))


def _deep_sessions(outcomes: SessionOutcomes) -> SessionRatio:
    deep = (outcomes.depth >= DEEP_SESSION).double()
    return SessionRatio(numerator=outcomes.depth.double() * deep, denominator=deep)


def _env_reward(outcomes: SessionOutcomes) -> SessionRatio | None:
    """None where the environment pays nothing of its own, or a task has that name."""
    absent = outcomes.env_reward is None or "env_reward" in outcomes.tasks
    return None if absent else per_session(cast(Tensor, outcomes.env_reward))


def _some_share(num: Tensor | None, outcomes: SessionOutcomes) -> SessionRatio | None:
    return None if num is None else _share(num, outcomes)


def _share(num: Tensor, outcomes: SessionOutcomes) -> SessionRatio:
    """The share `num` [S] of a session's interactions, over all sessions."""
    return SessionRatio(numerator=num.double(), denominator=outcomes.depth.double())


def _diversity(outcomes: SessionOutcomes) -> SessionRatio | None:
    return None if outcomes.spread is None else per_session(outcomes.spread)


# Name -> how it is measured; None where the sessions do not have it. A new metric is a line here.
METRICS: dict[str, Callable[[SessionOutcomes], SessionRatio | None]] = {
    "session_depth": lambda outcomes: per_session(outcomes.depth),
    "session_depth_10plus": _deep_sessions,
    "reward_per_session": lambda outcomes: per_session(outcomes.reward),
    ENV_REWARD: _env_reward,
    "repeat_share": lambda outcomes: _some_share(outcomes.num_repeats, outcomes),
    "new_item_share": lambda outcomes: _some_share(outcomes.num_new, outcomes),
    "session_diversity": _diversity,
}
_SOMETIMES = (ENV_REWARD, "new_item_share", "session_diversity")  # depends on the environment


def metric_names(tasks: Sequence[str]) -> list[str]:
    """Metrics with a value per session that every environment of these tasks has.

    >>> metric_names(["watch_10s"])[:2]
    ['watch_10s_per_session', 'watch_10s_per_interaction']
    """
    per_task = [f"{task}_per_session" for task in (*tasks, LONG_WATCH_TASK)]
    per_task += [f"{task}_per_interaction" for task in tasks]
    return list(dict.fromkeys([*per_task, *(name for name in METRICS if name not in _SOMETIMES)]))


def coverage(outcomes: SessionOutcomes) -> float:
    """Share of the catalogue that was shown at least once, to anybody."""
    return len(outcomes.shown_item_id) / outcomes.num_items


def summarise(outcomes: SessionOutcomes) -> dict[str, dict[str, float | int | None]]:
    """`{metric: {mean, standard_error, n}}` of one arm.

    Raises:
        SchemaError: a session's outcome is not a finite number.
    """
    summary: dict[str, dict[str, float | int | None]] = {}
    for name, ratio in session_ratios(outcomes).items():
        require_finite(name, ratio)
        summary[name] = {
            "mean": ratio.value,
            "standard_error": ratio.standard_error(),
            "n": ratio.n,
        }
    summary[COVERAGE] = {
        "mean": coverage(outcomes),
        "standard_error": None,
        "n": len(outcomes.depth),
    }
    return summary


def require_finite(name: str, ratio: SessionRatio) -> None:
    """Raise SchemaError where a session's outcome is not a finite number."""
    finite = torch.isfinite(ratio.numerator) & torch.isfinite(ratio.denominator)
    if not bool(finite.all()):
        raise SchemaError(
            f"{name} has sessions whose outcome is not a finite number",
            got=f"{int((~finite).sum())} of {len(finite)} sessions",
            mend="look at the rewards and weights of the environment",
        )
