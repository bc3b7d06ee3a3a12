"""A search waits for the slowest of F shards: percentiles by simulation.

Symbols: `S` decisions, `F` shards.

    T = median * exp(sigma z) + pause        z normal; a pause with probability q, exponential
    plain      max over F of T
    hedged     max over F of min(T, h + T')  T' the replica's, asked after h, the 95th percentile
                                             of T: Dean and Barroso, "The tail at scale", CACM 2013
    deadline   min(max over F of T, d)       shards with T > d are left out; d is where 1 in 1,000
                                             searches without a pause would end

Shards are independent, and so are a shard and its replica. The nearest items of a query are spread
evenly over the shards, so a share of shards left out is, on average, that share of recall lost.
The model is ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from experiments.result import figure

FAN_OUTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p99_9": 0.999}
NUM_DECISIONS, CHUNK = 40_000, 4_000  # a seed; held at once
HEDGE_AT, DEADLINE_AT = 0.95, 0.999
TOLERANCE = 0.02  # of a simulated percentile against its closed form


@dataclass(kw_only=True, slots=True)
class Service:
    """Times of one shard, in ms."""

    median: float
    sigma: float  # of the logarithm
    pause_share: float = 0.0  # q
    pause_mean: float = 0.0

    def draw(self, generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        """Times [S, F]."""
        times = np.exp(self.sigma * generator.standard_normal(shape, dtype=np.float32))
        times *= self.median
        if self.pause_share:
            paused = generator.random(shape, dtype=np.float32) < self.pause_share
            times[paused] += self.pause_mean * generator.standard_exponential(int(paused.sum()))
        return times

    def quantile_without_pauses(self, share: float, fan_out: int = 1) -> float:
        """Closed form for the slowest of `fan_out`: median exp(sigma Phi^-1(share^(1/F)))."""
        return self.median * math.exp(self.sigma * NormalDist().inv_cdf(share ** (1 / fan_out)))

    @property
    def deadline(self) -> float:
        """`d`."""
        return self.quantile_without_pauses(DEADLINE_AT)

    def hedge_after(self) -> float:
        """`h`, from a million draws of its own."""
        draws = self.draw(np.random.default_rng(2**32), (1000, 1000))
        return float(np.quantile(draws, HEDGE_AT))


Sample = dict[str, np.ndarray]  # name -> [S, fan-outs]


def simulate(service: Service, seed: int) -> Sample:
    """Times of `NUM_DECISIONS` decisions and shares of shards left out, at every fan-out."""
    chunks = list(_chunks(service, seed, service.hedge_after()))
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _chunks(service: Service, seed: int, hedge_after: float) -> Iterator[Sample]:
    generator, most = np.random.default_rng(seed), FAN_OUTS[-1]
    columns, counts = np.array(FAN_OUTS) - 1, np.array(FAN_OUTS)
    for _ in range(NUM_DECISIONS // CHUNK):
        first_SF = service.draw(generator, (CHUNK, most))
        second_SF = hedge_after + service.draw(generator, (CHUNK, most))
        plain = np.maximum.accumulate(first_SF, axis=1)[:, columns]
        hedged = np.maximum.accumulate(np.minimum(first_SF, second_SF), axis=1)[:, columns]
        late = (first_SF > service.deadline).cumsum(axis=1)[:, columns] / counts
        yield {
            "plain": plain,
            "hedged": hedged,
            "deadline": np.minimum(plain, service.deadline),
            "lost": late,
            "again": (first_SF > hedge_after).cumsum(axis=1)[:, columns] / counts,
        }


def figures_of(name: str, service: Service, seeds: list[int]) -> dict[str, Any]:
    """Percentiles over all seeds, between the least and the largest seed's."""
    samples = [simulate(service, seed) for seed in seeds]
    found: dict[str, Any] = {}
    for way in ("plain", "hedged", "deadline"):
        for label, share in SHARES.items():
            quantiles = [np.quantile(sample[way], share, axis=0) for sample in samples]
            pooled = np.quantile(np.concatenate([s[way] for s in samples]), share, axis=0)
            found |= _entries(f"{name}.{way}.{label}_ms", pooled, quantiles, "ms")
    for label, of in (
        ("recall_lost", lambda sample: sample["lost"]),
        ("partial_share", lambda sample: sample["lost"] > 0),
        ("asked_again", lambda sample: sample["again"]),
    ):
        means = [of(sample).mean(axis=0) for sample in samples]
        found |= _entries(f"{name}.{label}", np.mean(means, axis=0), means, "ratio")
    found[f"{name}.hedge_after_ms"] = figure(service.hedge_after(), unit="ms")
    return found | {f"{name}.deadline_ms": figure(service.deadline, unit="ms")}


def _entries(name: str, value: np.ndarray, of_seeds: list[np.ndarray], unit: str) -> dict[str, Any]:
    low, high = np.min(of_seeds, axis=0), np.max(of_seeds, axis=0)
    return {
        f"{name}.f{fan_out}": figure(
            float(value[i]),
            unit=unit,
            low=float(min(low[i], value[i])),
            high=float(max(high[i], value[i])),
            n=len(of_seeds),
        )
        for i, fan_out in enumerate(FAN_OUTS)
    }


def check_closed_form(service: Service, seeds: list[int]) -> float:
    """Largest relative error of simulated percentiles without pauses; stop where it is large."""
    quiet = Service(median=service.median, sigma=service.sigma)
    plain = np.concatenate([simulate(quiet, seed)["plain"] for seed in seeds])
    errors = [
        abs(np.quantile(plain[:, i], share) / quiet.quantile_without_pauses(share, fan_out) - 1)
        for i, fan_out in enumerate(FAN_OUTS)
        for share in SHARES.values()
    ]
    if not max(errors) <= TOLERANCE:
        raise SystemExit(f"simulation and closed form differ by {max(errors):.3f}, > {TOLERANCE}")
    return float(max(errors))
