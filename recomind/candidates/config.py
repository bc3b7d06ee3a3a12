"""Settings of the candidate pool and of the exploration inside it."""

from __future__ import annotations

from dataclasses import dataclass

from recomind.errors import ConfigError


@dataclass(kw_only=True, slots=True)
class CandidatesConfig:
    """How a pool of `num_candidates` slots is filled; what the first two leave is uniform."""

    num_candidates: int = 64  # K, slots of a pool
    num_nearest: int = 32  # nearest items to the state's query vector, where there is an index
    num_fresh: int = 4  # draws from the newest items, where they are known
    exclude_recent: int = 20  # items of so many latest history events are left out; 0 for none

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
        if self.num_nearest + self.num_fresh > self.num_candidates:
            raise ConfigError(
                "more nearest and fresh items than slots",
                got=f"num_nearest={self.num_nearest} + num_fresh={self.num_fresh}",
                expected=f"<= num_candidates={self.num_candidates}",
                mend="raise num_candidates or lower one of the two",
            )


@dataclass(kw_only=True, slots=True)
class ExplorationConfig:
    """Candidate-subset exploration: see `recomind.candidates.exploration`."""

    epsilon: float = 0.3  # probability of choosing inside a random subset, in [0, 1]
    subset_size: int = 20  # m, candidates of that subset; 1 is uniform exploration

    def __post_init__(self) -> None:
        check_exploration(self.epsilon, self.subset_size)


def check_exploration(epsilon: float, subset_size: int) -> None:
    """Raise a ConfigError unless `epsilon` is a probability and a subset can hold an item."""
    if not 0.0 <= epsilon <= 1.0:
        raise ConfigError("epsilon is no probability", got=epsilon, expected="0 <= epsilon <= 1")
    if subset_size < 1:
        raise ConfigError("a subset needs a candidate", got=subset_size, expected=">= 1")
