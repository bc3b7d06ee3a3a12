"""Pools of candidates, and exploration inside them with exact propensities."""

from recomind.candidates.config import CandidatesConfig, ExplorationConfig
from recomind.candidates.exploration import (
    GreedyChoice,
    SubsetExploration,
    log_propensity_of_rank,
)
from recomind.candidates.pool import CandidatePool

__all__ = [
    "CandidatePool",
    "CandidatesConfig",
    "ExplorationConfig",
    "GreedyChoice",
    "SubsetExploration",
    "log_propensity_of_rank",
]
