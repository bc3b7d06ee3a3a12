"""Builds the pool and the exploration that a config names."""

from __future__ import annotations

from typing import assert_never

from torch import Tensor

from recomind.candidates.config import CandidatesConfig, ExplorationConfig, ExplorationKind
from recomind.candidates.ensemble import EnsembleExploration
from recomind.candidates.exploration import SubsetExploration, UniformExploration
from recomind.candidates.generator import load_generator
from recomind.candidates.interface import Exploration
from recomind.candidates.nearest import NearestItems
from recomind.candidates.pool import CandidatePool
from recomind.candidates.softmax import SoftmaxExploration
from recomind.candidates.withheld import Withdrawals
from recomind.types import Catalogue


def make_exploration(config: ExplorationConfig) -> Exploration:
    """A new exploration; settings of other kinds are ignored."""
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


def make_pool(
    config: CandidatesConfig,
    catalogue: Catalogue,
    retrieval: NearestItems | None = None,
    fresh_item_id: Tensor | None = None,
) -> CandidatePool:
    """The pool of a catalogue, with the generator that `config` names.

    Withdrawn items are left out, where the catalogue records them.

    Raises:
        ConfigError: as `CandidatePool` and `load_generator` do.
        SchemaError: fresh or blocked ids outside the catalogue.
    """
    return CandidatePool(
        config,
        catalogue.num_items,
        retrieval,
        fresh_item_id,
        generator=load_generator(config.generator, catalogue),
        withdrawn=catalogue if isinstance(catalogue, Withdrawals) else None,
    )
