"""`recomind collect-logs`: sessions out of a world, by a logging policy, with propensities."""

from __future__ import annotations

from recomind.artifacts import load_tensors, read_manifest
from recomind.candidates import SubsetExploration, make_pool
from recomind.cli.context import Run, is_current
from recomind.data import StoredCatalogue, collected_logs, storable, write_sessions
from recomind.policy import MixedExploration, QNetwork, QPolicy
from recomind.simulation import World, collect_sessions
from recomind.training.factories import NetworkFactory, fresh_items
from recomind.types import CandidateSource, Policy


def run(run: Run, round_index: int) -> None:
    """Collect a round: the first by the world's logging policy, later ones by the last policy."""
    config, world = run.config, run.require_world("collect-logs")
    folder = run.path("sessions", round_index)
    names = ("policy", run.policy_index) if round_index else ()
    last = [run.path(name, round_index - 1) for name in names]
    manifest = run.manifest(
        "sessions", "collect-logs", round_index, ["world", "collect", "candidates"], last
    )
    line = run.line("collect-logs", round_index)
    if is_current(folder, manifest):
        return line.skipped()
    catalogue = storable(world.catalogue, config.collect.max_catalogue_items)
    policy, pool = _logger(run, world, catalogue, round_index)
    frame = collect_sessions(
        world,
        policy,
        pool,
        num_sessions=config.collect.fresh_sessions if round_index else config.collect.num_sessions,
        generator=run.generator("collect-logs", round_index),
        user_feature_names=world.user_feature_names,
        holdout_share=collected_logs(config.data).holdout_share,
        progress=line,
    )
    write_sessions(folder, frame, catalogue, tasks=world.tasks, manifest=manifest)
    line.done(f"({frame.filter(frame['position'] >= 0).height} events)")


def _logger(
    run: Run, world: World, catalogue: StoredCatalogue, round_index: int
) -> tuple[Policy, CandidateSource]:
    if round_index == 0:
        pool = make_pool(run.config.candidates, catalogue, None, fresh_items(catalogue))
        return world.logging_policy(), pool
    settings = run.config.collect
    more, less = (
        SubsetExploration(epsilon=e, subset_size=settings.subset_size)
        for e in (settings.explore_more, settings.explore_less)
    )
    policy = QPolicy(load_policy(run, round_index - 1), explores_beyond_logs=True)
    pool = run.pool_factory(round_index - 1, run.policy_index)()
    return MixedExploration(policy, more, less), pool


def network_factory(run: Run, round_index: int) -> NetworkFactory:
    """Builds the round's network at step 0."""
    by_density = run.config.policy.support_density > 0.0
    return NetworkFactory(
        ranker_folder=run.path("ranker", round_index),
        reward_weights=run.weights,
        config=run.config.policy,
        seed=run.seed("network", round_index),
        density_folder=run.path("density", round_index) if by_density else None,
        simulator_folder=run.path("simulator", round_index),
    )


def load_policy(run: Run, round_index: int) -> QNetwork:
    """The round's trained network."""
    network = network_factory(run, round_index)()
    folder = run.path("policy", round_index)
    read_manifest(folder, "policy")
    network.load_trainable_state(load_tensors(folder / "policy.safetensors"))
    return network.eval()
