"""The fidelity report of a round's simulators; the last part of `recomind fit-simulator`."""

from __future__ import annotations

import dataclasses

from recomind.artifacts import is_complete
from recomind.cli.collect_logs import load_policy
from recomind.cli.context import Run, is_current
from recomind.data import SessionDataset
from recomind.evaluation.fidelity import (
    KIND,
    TrueWorld,
    measure_fidelity,
    reference_policies,
    write_fidelity,
)
from recomind.policy import QPolicy
from recomind.ranker import load_rankers
from recomind.simulation import load_holdout, load_simulator
from recomind.training.factories import PoolFactory
from recomind.types import CandidateSource

_POOL = 32  # candidates of a reference policy


def run_fidelity(run: Run, round_index: int) -> None:
    """Write `fidelity/` unless it is current, or none is asked for."""
    settings = run.config.evaluation
    if settings.fidelity_sessions == 0:
        return
    simulator, holdout, ranker = (
        run.path(n, round_index) for n in ("simulator", "holdout_simulator", "ranker")
    )
    inputs = [simulator, holdout, ranker, *run.session_folders(round_index)]
    index = run.path("index", round_index)
    inputs += [index] if is_complete(index) else []
    manifest = run.manifest(KIND, KIND, round_index, ["world", "candidates"], inputs)
    manifest.config |= {
        "fidelity_sessions": settings.fidelity_sessions,
        "fidelity_steps": settings.fidelity_steps,
    }
    folder, line = run.path(KIND, round_index), run.line(KIND, round_index)
    if is_current(folder, manifest):
        return
    dataset = run.dataset(round_index)
    fidelity = measure_fidelity(
        {
            "simulator": load_simulator(simulator, ranker, run.weights),
            "holdout_simulator": load_holdout(holdout, run.weights),
        },
        dataset,
        num_sessions=settings.fidelity_sessions,
        num_steps=settings.fidelity_steps,
        seed=manifest.seed,
        truth=_truth(run, round_index, dataset),
        progress=line,
    )
    write_fidelity(folder, fidelity, manifest)
    alarm = fidelity["simulators"]["simulator"]["confounding"]
    line.done(f"(confounding alarm: {alarm['reason']})" if alarm["raised"] else "")


def _truth(run: Run, round_index: int, dataset: SessionDataset) -> TrueWorld | None:
    if run.world is None:
        return None
    policies = reference_policies(
        load_rankers(run.path("ranker", round_index)),
        run.weights,
        dataset,
        dataset.rows("train"),
        world=run.world,
        previous=QPolicy(load_policy(run, round_index - 1)) if round_index else None,
    )
    pools = {"rank_agreement": _pools_of_chance(run, round_index)}
    if is_complete(run.path("index", round_index)):
        pools["rank_agreement_acting"] = run.pool_factory(round_index)()
    return TrueWorld(world=run.world, policies=policies, pools=pools)


def _pools_of_chance(run: Run, round_index: int) -> CandidateSource:
    """Small pools from which reference policies can choose anything."""
    of_chance = {"num_nearest": 0, "num_fresh": 0, "num_generated": 0, "generator": {}}
    config = dataclasses.replace(run.config.candidates, num_candidates=_POOL, **of_chance)
    ranker = run.path("ranker", round_index)
    return PoolFactory(config=config, catalogue_folder=ranker, index_folder=None)()
