"""`recomind collect-logs`: sessions out of a world, by a logging policy, with propensities."""

from __future__ import annotations

from pathlib import Path

from recomind.artifacts import Manifest
from recomind.candidates import SubsetExploration, fresh_items, make_pool
from recomind.data import StoredCatalogue, collected_logs, storable, write_sessions
from recomind.pipeline.loading import load_policy, load_pool
from recomind.pipeline.progress import StageLine
from recomind.pipeline.run import Round
from recomind.pipeline.stage import Stage
from recomind.policy import MixedExploration, QPolicy
from recomind.simulation import World, collect_sessions
from recomind.types import CandidateSource, Policy


class CollectLogs(Stage):
    """The first round's by the world's logging policy, later ones by the policy before."""

    name, kind, artifact = "collect-logs", "sessions", "sessions"
    groups = ("world", "collect", "candidates")

    def inputs(self, round: Round) -> list[Path]:
        """The policy that collects, and the index that it chooses from.

        Raises:
            ConfigError: there is no world.
        """
        round.run.require_world(self.name)
        return [] if round.is_first else round.previous.paths("policy", round.run.policy_index)

    def build(self, round: Round, manifest: Manifest, line: StageLine) -> str:
        """Run whole sessions in the world."""
        settings, world = round.config.collect, round.run.require_world(self.name)
        catalogue = storable(world.catalogue, settings.max_catalogue_items)
        policy, pool = _logging_policy(round, world, catalogue)
        frame = collect_sessions(
            world,
            policy,
            pool,
            num_sessions=settings.num_sessions if round.is_first else settings.fresh_sessions,
            generator=round.generator(self.name),
            user_feature_names=world.user_feature_names,
            holdout_share=collected_logs(round.config.data).holdout_share,
            progress=line,
        )
        write_sessions(self.path(round), frame, catalogue, tasks=world.tasks, manifest=manifest)
        return f"{frame.filter(frame['position'] >= 0).height} events"


def _logging_policy(
    round: Round, world: World, catalogue: StoredCatalogue
) -> tuple[Policy, CandidateSource]:
    if round.is_first:
        pool = make_pool(round.config.candidates, catalogue, None, fresh_items(catalogue))
        return world.logging_policy(), pool
    settings = round.config.collect
    more, less = (
        SubsetExploration(epsilon=e, subset_size=settings.subset_size)
        for e in (settings.explore_more, settings.explore_less)
    )
    policy = QPolicy(load_policy(round.previous), explores_beyond_logs=True)
    pool = load_pool(round.previous, round.run.policy_index)
    return MixedExploration(policy, more, less), pool
