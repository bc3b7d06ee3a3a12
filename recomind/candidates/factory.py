"""The exploration that a config names."""

from __future__ import annotations

from typing import assert_never

from recomind.candidates.config import ExplorationConfig, ExplorationKind
from recomind.candidates.ensemble import EnsembleExploration
from recomind.candidates.exploration import SubsetExploration, UniformExploration
from recomind.candidates.interface import Exploration
from recomind.candidates.softmax import SoftmaxExploration


def make_exploration(config: ExplorationConfig) -> Exploration:
    """A fresh exploration; settings of other kinds are not looked at."""
    match config.kind:
        case ExplorationKind.subset:
            return SubsetExploration(config.epsilon, config.subset_size)
        case ExplorationKind.uniform:
            return UniformExploration(config.epsilon)
        case ExplorationKind.softmax:
            return SoftmaxExploration(config.temperature, config.epsilon)
        case ExplorationKind.ensemble:
            return EnsembleExploration(config.epsilon)
    assert_never(config.kind)
