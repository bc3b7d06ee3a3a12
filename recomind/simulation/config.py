"""Settings of the learned simulator."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

from recomind.errors import ConfigError


class Pessimism(Enum):
    """How the ensemble's disagreement changes a probability; lower case for Hydra."""

    none = "none"  # mean of the members
    minimum = "minimum"  # the worst of the members
    deviation = "deviation"  # mean - k standard deviations


class Moving(Enum):
    """What becomes of user features that change within logged sessions; lower case for Hydra."""

    learn = "learn"  # move those that the events tell, keep the others, and say which
    freeze = "freeze"  # keep all as they were at the start
    refuse = "refuse"  # as `learn`, but fit nothing where the events do not tell one


@dataclass(kw_only=True, slots=True)
class SimulatorConfig:
    """Response, dwell and leave models, and guards against their errors."""

    pessimism: Pessimism = Pessimism.minimum  # lowers reward and shortens sessions
    deviation_k: float = 1.0  # k of `deviation`
    # A further member of another kind: trees, fitted to the same users. On what the logs hardly
    # show, rankers of one kind err alike, and trees seldom err with them (ADR 21).
    tree_member: bool = True
    fatigue: bool = True  # False: the response is the ranker's alone, and nobody tires
    # Calibrate responses on decisions of the calibration split that are known to be random, where
    # there are enough: what a logging policy chose by its knowledge looks better than it is.
    calibrate_exploring: bool = True
    # Sum sessions up by the categories of items too, and by what an item has in common with the
    # session: without it nobody tires of a topic that is a category and no number (ADR 15)
    item_categories: bool = True
    # Estimate each item's effects on leaving and on later responses from the logs (`effects`), for
    # items whose content does not say what tires users or drives them away.
    item_effects: bool = False
    moving_features: Moving = Moving.learn  # user features that change within a session
    # Truncate a session where the members' expected rewards of the shown item differ by more than
    # this (largest - smallest, in units of reward); 0 never does.
    uncertainty_stop: float = 0.0
    # What a session is worth, by task; empty: as the utility of the ranker
    reward_weights: dict[str, float] = field(default_factory=dict)
    horizon: int = 40  # steps after which a session is truncated
    hidden: int = 32  # width of the fatigue and leave networks
    num_epochs: int = 6  # epochs of each model; the best epoch on the calibration split is kept
    batch_size: int = 1024  # rows of a batch
    learning_rate: float = 5e-3  # learning rate of AdamW
    dwell_quantiles: int = 64  # resolution of the dwell-time distribution
    max_start_states: int = 50_000  # states that sessions may begin from

    def __post_init__(self) -> None:
        for name in (
            "horizon",
            "hidden",
            "num_epochs",
            "batch_size",
            "dwell_quantiles",
            "max_start_states",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"simulation.{name}", got=getattr(self, name), expected=">= 1")
        if self.deviation_k < 0 or self.learning_rate <= 0:
            raise ConfigError(
                "simulation.deviation_k must not be negative, learning_rate positive",
                got=(self.deviation_k, self.learning_rate),
            )
        if not 0.0 <= self.uncertainty_stop < math.inf:
            raise ConfigError(
                "simulation.uncertainty_stop is a difference of rewards",
                got=self.uncertainty_stop,
                expected=">= 0; 0 never cuts a session",
            )
