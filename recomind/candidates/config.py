"""Settings of the candidate pool and of the exploration inside it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from recomind.errors import ConfigError

_SHARES = ("num_nearest", "num_fresh", "num_generated")


@dataclass(kw_only=True, slots=True)
class CandidatesConfig:
    """How a pool of `num_candidates` slots is filled; the rest of the slots are random draws."""

    num_candidates: int = 64  # K, slots of a pool
    num_nearest: int = 32  # items nearest to the state's query vector, where there is an index
    num_fresh: int = 4  # draws from the newest items, where their age is known
    num_generated: int = 0  # items from the generator below
    # `_target_` and arguments of an `ItemGenerator`; {} for none.
    generator: dict[str, Any] = field(default_factory=dict)
    # With an index, draw a uniformly random cell and then an item in it; otherwise draw any item.
    stratified: bool = False
    blocked: list[int] = field(default_factory=list)  # ids of items that are never candidates
    exclude_recent: int = 20  # leave out the items of this many latest history events
    # With an index, leave out items whose vectors have at least this cosine with an earlier item of
    # the pool; 0 keeps all.
    duplicate_cosine: float = 0.0

    def __post_init__(self) -> None:
        if self.num_candidates < 1:
            raise ConfigError(
                "a pool needs a slot", got=f"num_candidates={self.num_candidates}", expected=">= 1"
            )
        for name in (*_SHARES, "exclude_recent"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    "a count is negative", got=f"{name}={getattr(self, name)}", expected=">= 0"
                )
        if not 0.0 <= self.duplicate_cosine <= 1.0:
            raise ConfigError(
                "duplicate_cosine is not a cosine of near-duplicates",
                got=self.duplicate_cosine,
                expected="in (0, 1]; 0 keeps all",
            )
        if self.generator and not self.num_generated:
            raise ConfigError(
                "a generator without slots",
                got="candidates.num_generated=0",
                mend="set candidates.num_generated to the number of items that it may add",
            )
        _check_shares(self)


def _check_shares(config: CandidatesConfig) -> None:
    taken = {name: getattr(config, name) for name in _SHARES}
    if sum(taken.values()) > config.num_candidates:
        raise ConfigError(
            "more nearest, fresh and generated items than slots",
            got=" + ".join(f"{name}={num}" for name, num in taken.items()),
            expected=f"<= num_candidates={config.num_candidates}",
            mend="raise num_candidates or lower one of them",
        )


class ExplorationKind(Enum):
    """What is random in an exploring decision; lower case, since Hydra matches names in YAML."""

    subset = "subset"  # the subset of candidates, of which the best is chosen
    uniform = "uniform"  # the candidate, uniformly
    softmax = "softmax"  # the candidate, in favour of large scores
    ensemble = "ensemble"  # the member, whose best candidate is chosen


@dataclass(kw_only=True, slots=True)
class ExplorationConfig:
    """How a decision explores: see `recomind.candidates.interface`."""

    kind: ExplorationKind = ExplorationKind.subset  # how a decision explores
    epsilon: float = 0.3  # probability of exploring, in [0, 1]; in `ensemble` of a uniform draw
    subset_size: int = 20  # m, candidates of a subset; 1 is uniform exploration
    temperature: float = 0.1  # for `softmax`, in units of the scores

    def __post_init__(self) -> None:
        check_exploration(self.epsilon, self.subset_size)
        check_temperature(self.temperature)


def check_exploration(epsilon: float, subset_size: int) -> None:
    """Raise a ConfigError unless `epsilon` is a probability and `subset_size` is positive."""
    check_epsilon(epsilon)
    if subset_size < 1:
        raise ConfigError("a subset needs a candidate", got=subset_size, expected=">= 1")


def check_epsilon(epsilon: float) -> None:
    """Raise a ConfigError unless `epsilon` is a probability."""
    if not 0.0 <= epsilon <= 1.0:
        raise ConfigError("epsilon is not a probability", got=epsilon, expected="0 <= epsilon <= 1")


def check_temperature(temperature: float) -> None:
    """Raise a ConfigError unless `temperature` is positive and finite."""
    if not (temperature > 0.0 and math.isfinite(temperature)):
        raise ConfigError(
            "temperature", got=temperature, expected="> 0", mend="epsilon=0 is greedy"
        )
