"""Responses that are amounts, such as seconds or money, as ladders of 0/1 tasks.

A ranker, a simulator and a policy know tasks. An amount x with steps t_1 < ... < t_K becomes the
tasks x > t_k, and its mean follows from their rates, since E[x] is the integral of P(x > t) over t
(the layer-cake formula): E[x] ~ sum_k (m_k - m_{k-1}) P(x > t_k), where m_0 = 0 and m_k is the
middle of the step above t_k; the last step is as wide as the one before it. Ours.

    steps 10, 30, 60    middles 20, 45, 75    weights 20, 25, 30
    x = 40              tasks   1, 1, 0       counts as 45
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recomind.data.sources.settings import named, typed
from recomind.errors import ConfigError


@dataclass(kw_only=True, slots=True)
class Amount:
    """An amount, and where its ladder has steps."""

    value: str = ""  # column or SQL expression; empty: the amount's own name
    steps: list[float] = field(default_factory=list)  # rising, in the amount's unit

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.steps, self.steps[1:], strict=False))
        if not self.steps or not rising or self.steps[0] < 0 or not math.isfinite(self.steps[-1]):
            raise ConfigError(
                "the steps of an amount do not rise from 0 or above",
                got=self.steps,
                expected="such as [10, 30, 60, 180]",
            )

    def tasks(self, name: str) -> dict[str, str]:
        """Name -> SQL of each step's task."""
        return {task_name(name, step): f"({self.value}) > {step!r}" for step in self.steps}

    def weights(self, name: str) -> dict[str, float]:
        """What each step's task adds to the amount, in its unit."""
        before = [0.0, *self.steps[:-1]]
        ends = [*self.steps[1:], 2 * self.steps[-1] - before[-1]]
        middles = [0.0, *((a + b) / 2 for a, b in zip(self.steps, ends, strict=True))]
        return {
            task_name(name, step): high - low
            for step, low, high in zip(self.steps, middles, middles[1:], strict=False)
        }


def task_name(name: str, step: float) -> str:
    """The task of one step.

    >>> task_name("minutes", 0.5)
    'minutes_over_0_5'
    """
    return f"{name}_over_{f'{step:g}'.replace('.', '_')}"


def amounts_of(value: Any) -> dict[str, Amount]:
    """The amounts that `data.amounts` names."""
    found = {}
    for name, settings in named(value, "data.amounts").items():
        if not isinstance(settings, Mapping):
            raise ConfigError(
                f"data.amounts.{name} has no steps",
                got=settings,
                expected="{value: read_seconds / 60, steps: [0.25, 1, 3]}",
            )
        amount = typed(Amount, settings, f"data.amounts.{name}")
        amount.value = amount.value or name
        found[name] = amount
    return found


def expanded(reward: Mapping[str, float], amounts: Mapping[str, Amount]) -> dict[str, float]:
    """Weights of tasks, from weights of tasks and amounts."""
    weights: dict[str, float] = {}
    for name, weight in reward.items():
        parts = amounts[name].weights(name) if name in amounts else {name: 1.0}
        for task, part in parts.items():
            weights[task] = weights.get(task, 0.0) + weight * part
    return weights
