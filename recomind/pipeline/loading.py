"""What a round's artifacts are loaded as, and the recipes by which other processes load them."""

from __future__ import annotations

import dataclasses

from recomind.artifacts import load_tensors, read_manifest
from recomind.candidates import CandidatePool
from recomind.evaluation.config import POLICY
from recomind.pipeline.factories import (
    LogsFactory,
    MembersFactory,
    NetworkFactory,
    PoolFactory,
    SimulatorFactory,
)
from recomind.pipeline.run import Round
from recomind.policy import PolicyConfig, QNetwork, RankerPolicy, constrains
from recomind.policy.density import KIND as DENSITY
from recomind.ranker import load_rankers
from recomind.simulation import LearnedSimulator, TreeSimulator, load_holdout
from recomind.training.problem import SessionProblem
from recomind.types import Ranker


def load_ensemble(round: Round) -> list[Ranker]:
    """The round's rankers, the first of which is served."""
    return load_rankers(round.path("ranker"))


def ranker_policy(round: Round) -> RankerPolicy:
    """The round's first ranker, greedy: what a supervised team would serve after that round."""
    return RankerPolicy(load_ensemble(round)[:1], round.run.weights)


def load_simulator(round: Round) -> LearnedSimulator:
    """The simulator that the round's policy trains in."""
    return simulator_factory(round)()


def load_holdout_simulator(round: Round) -> TreeSimulator:
    """The simulator of another kind, fitted to other users and days."""
    return load_holdout(round.path("holdout_simulator"), round.run.reward_weights)


def load_pool(round: Round, index: str = "index") -> CandidatePool:
    """The round's pool, by one of its indices."""
    return pool_factory(round, index)()


def load_policy(round: Round, name: str = POLICY) -> QNetwork:
    """The round's trained network; `name` is its folder's, where another seed's is meant."""
    network, folder = network_factory(round, name)(), round.path(name)
    read_manifest(folder, "policy")
    network.load_trainable_state(load_tensors(folder / "policy.safetensors"))
    return network.eval()


def problem(round: Round, name: str = POLICY) -> SessionProblem:
    """What the round's policy is trained on; `name` as in `load_policy`."""
    return SessionProblem(
        environment=simulator_factory(round),
        candidates=pool_factory(round),
        network=network_factory(round, name),
        members=members_factory(round),
        logs=logs_factory(round),
    )


def simulator_factory(round: Round) -> SimulatorFactory:
    """Builds the training simulator."""
    return SimulatorFactory(
        simulator_folder=round.path("simulator"),
        ranker_folder=round.path("ranker"),
        reward_weights=round.run.reward_weights,
    )


def logs_factory(round: Round) -> LogsFactory:
    """Reads all sessions so far."""
    return LogsFactory(
        session_folders=round.session_folders,
        history_length=round.config.ranker.history_length,
        reward_weights=round.run.weights,
    )


def pool_factory(round: Round, index: str = "index") -> PoolFactory:
    """Builds the round's pool, by one of its indices."""
    return PoolFactory(
        config=round.config.candidates,
        catalogue_folder=round.path("ranker"),
        index_folder=round.path(index),
    )


def network_factory(round: Round, name: str = POLICY) -> NetworkFactory:
    """Builds the round's network at step 0; `name` as in `load_policy`."""
    config = policy_config(round)
    return NetworkFactory(
        ranker_folder=round.path("ranker"),
        reward_weights=round.run.weights,
        config=config,
        seed=round.seed("network" if name == POLICY else f"network/{name}"),
        density_folder=round.path("density") if config.support_density else None,
        simulator_folder=round.path("simulator"),
    )


def policy_config(round: Round) -> PolicyConfig:
    """The policy's settings; without a density where the logs know no more than the ranker."""
    config = round.config.policy
    if config.support_evidence is None or not config.support_density:
        return config
    if constrains(config, read_manifest(round.path("density"), DENSITY).metrics):
        return config
    return dataclasses.replace(config, support_density=0.0)


def load_coverage(round: Round) -> QNetwork:
    """The round's network at step 0 with the density of its logs, whether or not it constrains.

    Without `policy.support_density` it has none.
    """
    density = round.path("density") if round.config.policy.support_density else None
    factory = dataclasses.replace(
        network_factory(round), config=round.config.policy, density_folder=density
    )
    return factory()


def members_factory(round: Round) -> MembersFactory:
    """Builds the rankers that an ensemble's exploration draws from."""
    return MembersFactory(ranker_folder=round.path("ranker"), reward_weights=round.run.weights)
