"""Settings of the candidate pool and of the exploration inside it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from recomind.errors import ConfigError


@dataclass(kw_only=True, slots=True)
class CandidatesConfig:
    """How a pool of `num_candidates` slots is filled; what the first two leave is uniform."""

    num_candidates: int = 64  # K, slots of a pool
    num_nearest: int = 32  # nearest items to the state's query vector, where there is an index
    num_fresh: int = 4  # draws from the newest items, where they are known
    exclude_recent: int = 20  # items of so many latest history events are left out; 0 for none
    duplicate_cosine: float = 0.0  # where there is an index, items whose vectors are at least this
    # close to an earlier item of the pool are left out; 0 keeps all

    def __post_init__(self) -> None:
        if self.num_candidates < 1:
            raise ConfigError(
                "a pool needs a slot", got=f"num_candidates={self.num_candidates}", expected=">= 1"
            )
        for name in ("num_nearest", "num_fresh", "exclude_recent"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    "a count is negative", got=f"{name}={getattr(self, name)}", expected=">= 0"
                )
        if not 0.0 <= self.duplicate_cosine <= 1.0:
            raise ConfigError(
                "duplicate_cosine is no cosine of near-duplicates",
                got=self.duplicate_cosine,
                expected="in (0, 1]; 0 keeps all",
            )
        if self.num_nearest + self.num_fresh > self.num_candidates:
            raise ConfigError(
                "more nearest and fresh items than slots",
                got=f"num_nearest={self.num_nearest} + num_fresh={self.num_fresh}",
                expected=f"<= num_candidates={self.num_candidates}",
                mend="raise num_candidates or lower one of the two",
            )


class ExplorationKind(Enum):
    """What chance decides; lower case, since Hydra matches the names in YAML."""

    subset = "subset"  # which candidates are looked at, of which the best is taken
    uniform = "uniform"  # everything
    softmax = "softmax"  # everything, in favour of large scores
    ensemble = "ensemble"  # which member's best is taken


@dataclass(kw_only=True, slots=True)
class ExplorationConfig:
    """How a decision explores: see `recomind.candidates.interface`."""

    kind: ExplorationKind = ExplorationKind.subset
    epsilon: float = 0.3  # probability of exploring, in [0, 1]; of a uniform draw in `ensemble`
    subset_size: int = 20  # m, candidates of a subset; 1 is uniform exploration
    temperature: float = 0.1  # of `softmax`, in units of the scores

    def __post_init__(self) -> None:
        check_exploration(self.epsilon, self.subset_size)
        check_temperature(self.temperature)


def check_exploration(epsilon: float, subset_size: int) -> None:
    """Raise a ConfigError unless `epsilon` is a probability and a subset can hold an item."""
    check_epsilon(epsilon)
    if subset_size < 1:
        raise ConfigError("a subset needs a candidate", got=subset_size, expected=">= 1")


def check_epsilon(epsilon: float) -> None:
    """Raise a ConfigError unless `epsilon` is a probability."""
    if not 0.0 <= epsilon <= 1.0:
        raise ConfigError("epsilon is no probability", got=epsilon, expected="0 <= epsilon <= 1")


def check_temperature(temperature: float) -> None:
    """Raise a ConfigError unless a softmax can be made with `temperature`."""
    if not (temperature > 0.0 and math.isfinite(temperature)):
        raise ConfigError(
            "a temperature", got=temperature, expected="> 0", mend="epsilon=0 is greedy"
        )
