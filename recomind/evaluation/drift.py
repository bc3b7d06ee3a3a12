"""Alarms: have inputs, the ranker's calibration, or leaving changed since a model was made?

Each session gives one number for each thing that is watched. A day's mean is held against that of
the reference sessions:

    z = (mean of the day - mean of the reference) / sqrt( var (1 / n_day + 1 / n_ref) )

with the variance of both together: what hardly ever happens may not vary at all in the reference
alone. An alarm of one kind goes off where the largest |z| of its numbers lies beyond the normal
quantile of `alpha` shared among them (Bonferroni). How often that happens without any change is
measured, not assumed: the reference sessions are split at random, and the alarms are counted. Ours.

Symbols: `S` sessions, `F` numbers of a kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from recomind.streams import make_generator

INPUT, CALIBRATION, EXIT = "input", "calibration", "exit"
ALPHA = 0.01  # wanted false alarms a day of each kind
_FEW = 30  # sessions below which nothing is said


@dataclass(kw_only=True, slots=True)
class Watched:
    """What is watched of one kind, for each session of a day or of the reference."""

    names: list[str]  # F
    values: Tensor  # [S, F] float64; NaN where a session says nothing


@dataclass(kw_only=True, slots=True)
class Alarm:
    """What one kind of alarm says of a day."""

    raised: bool
    most: str  # the name that changed most
    z: float  # by how many standard errors
    false_alarm_rate: float | None  # share of random splits of the reference that raise it


def drift_alarms(
    reference: Mapping[str, Watched],
    day: Mapping[str, Watched],
    seed: int,
    *,
    alpha: float = ALPHA,
    num_splits: int = 200,
) -> dict[str, dict[str, Any]]:
    """Kind -> alarm; a kind with fewer than 30 sessions on either side is left out.

    Args:
        reference: kind -> what is watched, of the sessions that models were made from.
        day: the same of the sessions that are looked at.
        seed: of the random splits.
        alpha: false alarms to expect of each kind.
        num_splits: random splits of the reference that count false alarms; 0 for no rate.
    """
    found = {}
    for kind, before in reference.items():
        after = day[kind]
        if min(len(before.values), len(after.values)) < _FEW:
            continue
        z_F = _z(before.values, after.values)
        most = int(z_F.abs().argmax())
        limit = NormalDist().inv_cdf(1.0 - alpha / (2.0 * len(z_F)))
        alarm = Alarm(
            raised=float(z_F[most].abs()) > limit,
            most=before.names[most],
            z=float(z_F[most]),
            false_alarm_rate=_false_alarms(
                before.values, len(after.values), limit, make_generator(seed), num_splits
            ),
        )
        found[kind] = asdict(alarm)
    return found


def _z(before_SF: Tensor, after_SF: Tensor) -> Tensor:
    """[F]; 0 where nothing varies."""
    num_before, num_after = ((~each.isnan()).sum(0) for each in (before_SF, after_SF))
    change = after_SF.nanmean(0) - before_SF.nanmean(0)
    both_SF = torch.cat([before_SF, after_SF])
    variance = (both_SF - both_SF.nanmean(0)).square().nanmean(0)
    error = (variance * (1.0 / num_before + 1.0 / num_after)).sqrt()
    return torch.nan_to_num(change / error, nan=0.0)


def _false_alarms(
    values_SF: Tensor, num_day: int, limit: float, generator: torch.Generator, num_splits: int
) -> float | None:
    num, raised = min(num_day, len(values_SF) // 2), 0
    for _ in range(num_splits):
        order = torch.randperm(len(values_SF), generator=generator)
        z_F = _z(values_SF[order[num:]], values_SF[order[:num]])
        raised += bool((z_F.abs() > limit).any())
    return raised / num_splits if num_splits else None
