"""Factories of a `SessionProblem` over artifact folders; they pickle by reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from recomind.candidates import CandidatePool, CandidatesConfig, fresh_items, make_pool
from recomind.data import SessionDataset, load_catalogue
from recomind.policy import PolicyConfig, QNetwork, RankerPolicy, load_density
from recomind.ranker import load_rankers, trunk_of
from recomind.retrieval import load_retrieval
from recomind.simulation import LearnedSimulator, load_simulator
from recomind.simulation.effects import standardised_effects
from recomind.training.offline.logs import TrainingLogs


@dataclass(kw_only=True, slots=True)
class SimulatorFactory:
    """Builds the training simulator."""

    simulator_folder: Path
    ranker_folder: Path
    reward_weights: dict[str, float]

    def __call__(self) -> LearnedSimulator:
        """A fresh simulator."""
        return load_simulator(self.simulator_folder, self.ranker_folder, self.reward_weights)


@dataclass(kw_only=True, slots=True)
class LogsFactory:
    """Reads the sessions that a policy learns from, in place of a simulator."""

    session_folders: list[Path]
    history_length: int
    reward_weights: dict[str, float]

    def __call__(self) -> TrainingLogs:
        """All sessions, in memory."""
        dataset = SessionDataset.load(self.session_folders, self.history_length)
        return TrainingLogs(dataset=dataset, reward_weights=self.reward_weights)


@dataclass(kw_only=True, slots=True)
class PoolFactory:
    """Builds the candidate pool; without an index all candidates are uniform or fresh."""

    config: CandidatesConfig
    catalogue_folder: Path  # any artifact that carries the catalogue
    index_folder: Path | None

    def __call__(self) -> CandidatePool:
        """A fresh pool."""
        catalogue = load_catalogue(self.catalogue_folder)
        retrieval = None
        config = self.config
        wanted = config.num_nearest or config.duplicate_cosine or config.stratified
        if self.index_folder is not None and wanted:
            retrieval = load_retrieval(self.index_folder, catalogue)
        return make_pool(config, catalogue, retrieval, fresh_items(catalogue))


@dataclass(kw_only=True, slots=True)
class NetworkFactory:
    """Builds the network at step 0: the first ranker of the ensemble, residual zero."""

    ranker_folder: Path
    reward_weights: dict[str, float]
    config: PolicyConfig
    seed: int
    density_folder: Path | None = None  # where `support_density` is above 0
    simulator_folder: Path | None = None  # whose effects of items, if any, the network sees

    def __call__(self) -> QNetwork:
        """The network, the same one each time."""
        with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
            torch.manual_seed(self.seed)  # pyright: ignore[reportUnknownMemberType]
            rankers, folder = load_rankers(self.ranker_folder), self.density_folder
            density = None if folder is None else load_density(folder)
            trunk, of_items = trunk_of(rankers), self.simulator_folder
            effects = None if of_items is None else standardised_effects(of_items)
            return QNetwork(rankers[0], self.reward_weights, self.config, trunk, density, effects)


@dataclass(kw_only=True, slots=True)
class MembersFactory:
    """Builds the rankers of the ensemble, each of which has an opinion of its own."""

    ranker_folder: Path
    reward_weights: dict[str, float]

    def __call__(self) -> RankerPolicy:
        """All of them."""
        return RankerPolicy(load_rankers(self.ranker_folder), self.reward_weights)
