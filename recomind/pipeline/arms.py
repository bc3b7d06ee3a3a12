"""The arms of a run's report; see `recomind.evaluation.arms`."""

from __future__ import annotations

from pathlib import Path

from recomind.candidates import fresh_items, make_pool
from recomind.data import reads_logs, storable
from recomind.evaluation.arms import Arm, InSupport
from recomind.evaluation.config import (
    FIRST_RANKER,
    LOGGING,
    POLICY,
    RANDOM,
    RANDOM_IN_SUPPORT,
    RANKER,
    RANKER_ENSEMBLE,
    RANKER_IN_SUPPORT,
    SERVED,
)
from recomind.export import load_scorer
from recomind.pipeline.continuing import is_windowed
from recomind.pipeline.loading import load_ensemble, load_policy, load_pool, ranker_policy
from recomind.pipeline.run import Round, Run
from recomind.pipeline.selection import seed_policies
from recomind.policy import QPolicy, RandomPolicy, RankerPolicy

Arms = dict[str, Arm]


def report_arms(last: Round, kept: Round) -> Arms:
    """The kept policy, the ranker refit on all logs, and what tells their difference apart.

    Each chooses from its own pools. After the first round the ranker that was there before the run
    is a baseline too: a refit that spoils the ranker would make a lift of it.
    """
    rankers, pool = load_ensemble(last), load_pool(last)
    arms = {
        RANDOM: Arm(policy=RandomPolicy(), candidates=pool),
        RANKER: Arm(policy=RankerPolicy(rankers[:1], last.run.weights), candidates=pool),
        RANKER_ENSEMBLE: Arm(policy=RankerPolicy(rankers, last.run.weights), candidates=pool),
    }
    if not last.is_first:
        arms[FIRST_RANKER] = Arm(policy=ranker_policy(last.first), candidates=load_pool(last.first))
    return arms | _served(last, kept) | _of_policy(kept) | _of_seeds(kept) | logging_arm(last.run)


def _served(last: Round, kept: Round) -> Arms:
    """What collected the last window of served logs, which the policy would replace.

    That is the policy of the round before, with its pools. In the first round of all it is
    `data.scorer`, which chooses from the pools of the policy on trial: its own are not known.
    """
    if not is_windowed(last):
        return {}
    if last.is_first:
        network = load_scorer(Path(str(last.config.data["scorer"]))).network
        pool = load_pool(kept, kept.run.policy_index)
    else:
        before = last.previous
        network, pool = load_policy(before), load_pool(before, before.run.policy_index)
    return {SERVED: Arm(policy=QPolicy(network), candidates=pool)}


def served_inputs(last: Round) -> list[Path]:
    """What that arm is loaded from."""
    if not is_windowed(last):
        return []
    if last.is_first:
        return [Path(str(last.config.data["scorer"]))]
    before = last.previous
    return before.paths("policy", "ranker", "simulator", before.run.policy_index)


def _of_policy(kept: Round) -> Arms:
    """The trained policy, and what its support is worth without what it learned."""
    network, pool = load_policy(kept), load_pool(kept, kept.run.policy_index)
    return {
        RANDOM_IN_SUPPORT: Arm(policy=InSupport(network, by_chance=True), candidates=pool),
        RANKER_IN_SUPPORT: Arm(policy=InSupport(network), candidates=pool),
        POLICY: Arm(policy=QPolicy(network), candidates=pool),
    }


def _of_seeds(kept: Round) -> Arms:
    """The policies that the round's recipe gives from further seeds, where the policy is judged."""
    pool = load_pool(kept, kept.run.policy_index)
    return {
        name: Arm(policy=QPolicy(load_policy(kept, name)), candidates=pool)
        for name in seed_policies(kept)
    }


def logging_arm(run: Run) -> Arms:
    """The policy that collected the first round's logs, in the world that it was written for."""
    if run.world is None or reads_logs(run.config.data):
        return {}
    catalogue = storable(run.world.catalogue, run.config.collect.max_catalogue_items)
    pool = make_pool(run.config.candidates, catalogue, None, fresh_items(catalogue))
    return {LOGGING: Arm(policy=run.world.logging_policy(), candidates=pool, only_in="world")}
