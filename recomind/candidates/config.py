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
    """How a pool of `num_candidates` slots is filled; what the `num_*` leave are random draws."""

    num_candidates: int = 64  # K, slots of a pool
    num_nearest: int = 32  # nearest items to the state's query vector, where there is an index
    num_fresh: int = 4  # draws from the newest items, where they are known
    num_generated: int = 0  # items of the generator below
    generator: dict[str, Any] = field(default_factory=dict)  # `_target_` and arguments of an
    # `ItemGenerator`; {} for none
    stratified: bool = False  # where there is an index, random draws are of a cell of it, each as
    # likely as another, and then of an item in the cell; otherwise of any item
    blocked: list[int] = field(default_factory=list)  # ids of items that are never offered
    exclude_recent: int = 20  # items of so many latest history events are left out; 0 for none
    duplicate_cosine: float = 0.0  # where there is an index, items whose vectors are at least this
    # close to an earlier item of the pool are left out; 0 keeps all

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
                "duplicate_cosine is no cosine of near-duplicates",
                got=self.duplicate_cosine,
                expected="in (0, 1]; 0 keeps all",
            )
        if self.generator and not self.num_generated:
            raise ConfigError(
                "a generator without slots",
                got="candidates.num_generated=0",
                mend="say how many items it may bring with candidates.num_generated",
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
    """What chance decides; lower case, since Hydra matches the names in YAML."""

    subset = "subset"  # which candidates are looked at, of which the best is taken
    uniform = "uniform"  # everything
    softmax = "softmax"  # everything, in favour of large scores
    ensemble = "ensemble"  # which member's best is taken


@dataclass(kw_only=True, slots=True)
class ExplorationConfig:
    """How a decision explores: see `recomind.candidates.interface`."""

    kind: ExplorationKind = ExplorationKind.subset  # what chance decides
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
