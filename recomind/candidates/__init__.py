"""Pools of candidates, and exploration inside them with exact propensities."""

from typing import TYPE_CHECKING

from recomind.lazy import lazy

if TYPE_CHECKING:
    from recomind.candidates.config import CandidatesConfig, ExplorationConfig, ExplorationKind
    from recomind.candidates.duplicates import NearDuplicates, miss_probability
    from recomind.candidates.ensemble import EnsembleExploration
    from recomind.candidates.exploration import (
        GreedyChoice,
        SubsetExploration,
        UniformExploration,
        log_propensity_of_rank,
    )
    from recomind.candidates.factory import make_exploration, make_pool
    from recomind.candidates.fresh import fresh_items
    from recomind.candidates.generator import ItemGenerator
    from recomind.candidates.interface import Exploration
    from recomind.candidates.pool import CandidatePool
    from recomind.candidates.slots import best_slot
    from recomind.candidates.softmax import SoftmaxExploration
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "CandidatePool",
    "CandidatesConfig",
    "EnsembleExploration",
    "Exploration",
    "ExplorationConfig",
    "ExplorationKind",
    "GreedyChoice",
    "ItemGenerator",
    "NearDuplicates",
    "SoftmaxExploration",
    "SubsetExploration",
    "UniformExploration",
    "best_slot",
    "fresh_items",
    "log_propensity_of_rank",
    "make_exploration",
    "make_pool",
    "miss_probability",
]
