"""Settings of the learned simulator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from recomind.errors import ConfigError


class Pessimism(Enum):
    """What the ensemble's disagreement does to a probability; lower case for Hydra."""

    none = "none"  # mean of the members
    minimum = "minimum"  # the worst of the members
    deviation = "deviation"  # mean - k standard deviations


@dataclass(kw_only=True, slots=True)
class SimulatorConfig:
    """Response, dwell and leave models, and how the simulator guards against itself."""

    pessimism: Pessimism = Pessimism.minimum  # towards less reward and earlier leaving
    deviation_k: float = 1.0  # k of `deviation`
    gate: bool = True  # False: the response is the ranker's alone, without fatigue
    # Responses are calibrated on decisions of later days that are known to be chance, where there
    # are enough of them: what a logger chose by what it knew looks better than it is for others.
    calibrate_exploring: bool = True
    # Items also get the effects on leaving and on later responses that the logs show, item by item
    # (`effects`): for items whose content does not tell what tires users or drives them away.
    item_effects: bool = False
    # A session is cut where the members' expected rewards of the shown item lie further apart
    # than this (largest - smallest, in units of reward); 0 never cuts.
    uncertainty_stop: float = 0.0
    horizon: int = 40  # steps after which a session is truncated
    hidden: int = 32  # width of gate and leave networks
    num_epochs: int = 6  # of gate and leave model; the best on calibration rows is kept
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
