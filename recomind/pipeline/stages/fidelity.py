"""How close a round's simulators are to logs and world; the last part of `fit-simulator`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from recomind.artifacts import Manifest, is_complete
from recomind.candidates import CandidatePool
from recomind.data import SessionDataset
from recomind.evaluation.fidelity import (
    KIND,
    TrueWorld,
    dynamics_of,
    measure_fidelity,
    plan_note,
    reference_policies,
    write_fidelity,
)
from recomind.pipeline.factories import PoolFactory
from recomind.pipeline.loading import (
    load_ensemble,
    load_holdout_simulator,
    load_policy,
    load_pool,
    load_simulator,
)
from recomind.pipeline.progress import StageLine
from recomind.pipeline.run import Round
from recomind.pipeline.run_file import FIDELITY_SETTINGS
from recomind.pipeline.stage import Stage
from recomind.policy import QPolicy

_POOL = 32  # candidates of a reference policy


class Fidelity(Stage):
    """The fidelity report of both simulators."""

    name, kind, artifact, groups = KIND, KIND, KIND, ("world", "candidates")

    def inputs(self, round: Round) -> list[Path]:
        """Simulators, rankers, sessions, and the index where there is one."""
        inputs = round.paths("simulator", "holdout_simulator", "ranker")
        index = round.path("index")
        return [*inputs, *round.session_folders, *([index] if is_complete(index) else [])]

    def manifest(self, round: Round) -> Manifest:
        """With the settings of the evaluation that count here."""
        manifest = super().manifest(round)
        settings = round.config.evaluation
        manifest.config |= {name: getattr(settings, name) for name in FIDELITY_SETTINGS}
        return manifest

    def wanted(self, round: Round) -> bool:
        """Unless no session is to be replayed."""
        return round.config.evaluation.fidelity_sessions > 0

    def build(self, round: Round, manifest: Manifest, line: StageLine) -> str:
        """Measure; the note says whether the logs look confounded, and what they lack."""
        dataset = round.dataset()
        fidelity = measure_fidelity(
            {
                "simulator": load_simulator(round),
                "holdout_simulator": load_holdout_simulator(round),
            },
            dataset,
            num_sessions=round.config.evaluation.fidelity_sessions,
            num_steps=round.config.evaluation.fidelity_steps,
            seed=manifest.seed,
            truth=_truth(round, dataset),
            dynamics=dynamics_of(
                load_ensemble(round), round.run.weights, dataset.catalogue, _random_pools(round)
            ),
            progress=line,
        )
        write_fidelity(self.path(round), fidelity, manifest)
        alarm = fidelity["simulators"]["simulator"]["confounding"]
        notes = [f"confounding alarm: {alarm['reason']}" if alarm["raised"] else ""]
        notes.append(plan_note(fidelity["dynamics"]))
        return "; ".join(filter(None, notes))


def _truth(round: Round, dataset: SessionDataset) -> TrueWorld | None:
    world = round.run.world
    if world is None:
        return None
    policies = reference_policies(
        load_ensemble(round),
        round.run.reward_weights,
        dataset,
        dataset.rows("train"),
        world=world,
        previous=None if round.is_first else QPolicy(load_policy(round.previous)),
    )
    pools = {"rank_agreement": _random_pools(round)}
    if is_complete(round.path("index")):
        pools["rank_agreement_acting"] = load_pool(round)
    return TrueWorld(world=world, policies=policies, pools=pools)


def _random_pools(round: Round) -> CandidatePool:
    """Small pools from which reference policies can choose anything."""
    config = dataclasses.replace(
        round.config.candidates,
        num_candidates=_POOL,
        num_nearest=0,
        num_fresh=0,
        num_generated=0,
        generator={},
    )
    ranker = round.path("ranker")
    return PoolFactory(config=config, catalogue_folder=ranker, index_folder=None)()
