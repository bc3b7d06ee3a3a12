"""`recomind evaluate`: every arm in every environment, the gate, and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from recomind.artifacts import Manifest, read_json, read_manifest, write_artifact
from recomind.candidates import CandidatePool, fresh_items, make_pool
from recomind.data import SessionDataset, reads_logs, storable
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
)
from recomind.evaluation.html import write_html
from recomind.evaluation.parity import step0_parity
from recomind.evaluation.preflight import check_request, require_target
from recomind.evaluation.report import build_report, environment_entry, write_report
from recomind.pipeline.curve import CURVE
from recomind.pipeline.loading import (
    load_ensemble,
    load_holdout_simulator,
    load_policy,
    load_pool,
    load_simulator,
    network_factory,
    ranker_policy,
)
from recomind.pipeline.play import play
from recomind.pipeline.progress import StageLine
from recomind.pipeline.run import Round, Run
from recomind.pipeline.selection import Judged, judged_rounds, kept_round
from recomind.pipeline.stage import Stage
from recomind.policy import QNetwork, QPolicy, RandomPolicy, RankerPolicy
from recomind.ranker import calibration_curve, predict
from recomind.simulation import BatchedSessions
from recomind.streams import SessionStreams, draw_seeds
from recomind.types import CandidateSource, Ranker

Arms = dict[str, Arm]


class Evaluate(Stage):
    """The kept policy against the ranker refit on all logs; each chooses from its own pools.

    After the first round the ranker that was there before the run is a baseline too: a refit that
    spoils the ranker would make a lift of it.
    """

    name, kind, artifact = "evaluate", "report", "report"
    groups = ("evaluation", "gate", "world", "candidates")

    def path(self, round: Round) -> Path:
        """Beside the rounds."""
        return round.run.folder / self.artifact

    def inputs(self, round: Round) -> list[Path]:
        """The kept policy with all that it needs, the last round, and what chose between them."""
        judged = judged_rounds(round)
        kept = kept_round(judged, round)
        paths = kept.paths("policy", "ranker", "simulator", round.run.policy_index)
        paths += round.paths("ranker", "holdout_simulator", "index")
        paths += [] if round.is_first else round.first.paths("ranker", "index")
        return paths + [round.run.round(each["round"]).path("selection") for each in judged]

    def build(self, round: Round, manifest: Manifest, line: StageLine) -> str:
        """Write `report.json` and `report.html`."""
        judged = judged_rounds(round)
        report = _report(round, kept_round(judged, round), judged, line)
        with write_artifact(self.path(round), manifest) as staging:
            write_report(staging, report)
            write_html(staging, report)
        return ""


def _report(last: Round, kept: Round, judged: Judged, line: StageLine) -> dict[str, Any]:
    config, rankers, pool = last.config, load_ensemble(last), load_pool(last)
    rankers_kept, pool_kept = rankers, pool
    if kept != last:
        rankers_kept = load_ensemble(kept)
    if kept != last or last.run.policy_index != "index":
        pool_kept = load_pool(kept, last.run.policy_index)
    arms = {
        RANDOM: Arm(policy=RandomPolicy(), candidates=pool),
        RANKER: Arm(policy=RankerPolicy(rankers[:1], last.run.weights), candidates=pool),
        RANKER_ENSEMBLE: Arm(policy=RankerPolicy(rankers, last.run.weights), candidates=pool),
    }
    if not last.is_first:
        arms[FIRST_RANKER] = Arm(policy=ranker_policy(last.first), candidates=load_pool(last.first))
    arms |= _supported_arms(load_policy(kept), pool_kept) | _logging_arm(last.run)
    environments = _environments(last, kept)
    check_request(config.evaluation, config.gate, arms, environments)
    entries = _entries(last, environments, arms, line)
    require_target(entries, config.gate)
    curves = [read_json(each.path("policy") / CURVE, "learning curve") for each in last.so_far]
    bins = config.evaluation.calibration_bins
    return build_report(
        seed=config.seed,
        environments=entries,
        evaluation=config.evaluation,
        gate=config.gate,
        step0_parity=_parity(kept, rankers_kept[0], environments[0][2], pool_kept),
        learning_curve=[point for curve in curves for point in curve],
        calibration=_calibration(rankers[0], last.dataset(), bins),
        ranker=read_manifest(last.path("ranker")).metrics,
        fidelity={
            name: read_manifest(each.path(name)).metrics
            for name, each in (("simulator", kept), ("holdout_simulator", last))
        },
        rounds={"keep": config.keep.value, "kept": kept.index, "judged": judged},
        policy_identity=_identity(kept),
    )


def _supported_arms(network: QNetwork, pool: CandidateSource) -> Arms:
    """The trained policy, and what its support is worth without what it learned."""
    return {
        RANDOM_IN_SUPPORT: Arm(policy=InSupport(network, by_chance=True), candidates=pool),
        RANKER_IN_SUPPORT: Arm(policy=InSupport(network), candidates=pool),
        POLICY: Arm(policy=QPolicy(network), candidates=pool),
    }


def _logging_arm(run: Run) -> Arms:
    """What collected the first round's logs, in the world that it was written for."""
    if run.world is None or reads_logs(run.config.data):
        return {}
    catalogue = storable(run.world.catalogue, run.config.collect.max_catalogue_items)
    pool = make_pool(run.config.candidates, catalogue, None, fresh_items(catalogue))
    return {LOGGING: Arm(policy=run.world.logging_policy(), candidates=pool, only_in="world")}


def _identity(kept: Round) -> str | None:
    """Identity of the policy that the verdict is about; None where another arm is on trial."""
    if kept.config.evaluation.policy_arm != POLICY:
        return None
    return read_manifest(kept.path("policy")).identity


def _environments(last: Round, kept: Round) -> list[tuple[str, str, BatchedSessions]]:
    """Name, kind and environment: where it trained, where it did not, and the truth."""
    found: list[tuple[str, str, BatchedSessions]] = [
        ("training simulator", "simulator", load_simulator(kept)),
        ("hold-out simulator", "holdout_simulator", load_holdout_simulator(last)),
    ]
    world = last.run.world
    return found if world is None else [*found, ("world", "world", world)]


def _entries(
    last: Round,
    environments: list[tuple[str, str, BatchedSessions]],
    arms: Arms,
    line: StageLine,
) -> list[dict[str, Any]]:
    """Every arm in every environment, all on the same seeds."""
    config = last.config.evaluation
    seeds = draw_seeds(config.num_sessions, last.run.generator(f"evaluate-{config.seed}"))
    further = [FIRST_RANKER] if FIRST_RANKER in arms else []
    entries: list[dict[str, Any]] = []
    for name, kind, environment in environments:
        here = {
            arm: (it.policy, it.candidates)
            for arm, it in arms.items()
            if it.only_in in (None, kind)
        }
        finished: list[str] = []

        def on_arm(arm: str, name: str = name, finished: list[str] = finished) -> None:
            finished.append(arm)
            share = len(finished) / len(here)  # noqa: B023
            line(len(entries) + share, len(environments), f"({name}, {arm})")

        outcomes = play(environment, here, seeds, config.batch_size, on_arm)
        entries.append(environment_entry(name, kind, outcomes, config, further))
    return entries


@torch.no_grad()
def _parity(
    kept: Round, ranker: Ranker, simulator: BatchedSessions, pool: CandidatePool
) -> dict[str, float | int]:
    """The untrained network against the ranker, on states that the simulator begins from."""
    seeds = draw_seeds(kept.config.evaluation.num_parity_states, kept.generator("parity"))
    state = simulator.reset_to(seeds)
    candidates = pool.candidates(state, SessionStreams(seeds))
    q_BK, _ = network_factory(kept)().q_values(state, candidates.item_id)
    scores = RankerPolicy([ranker], kept.run.weights).scores(state, candidates.item_id)
    return step0_parity(scores, q_BK, candidates.mask)


def _calibration(ranker: Ranker, dataset: SessionDataset, num_bins: int) -> dict[str, Any]:
    """Calibration of the ranker on the test days, per task."""
    rows = dataset.rows("test")
    if len(rows) == 0:
        return {}
    logits, labels = predict(ranker, dataset, rows)
    return {
        task: calibration_curve(logits[:, h].sigmoid(), labels[:, h].bool(), num_bins)
        for h, task in enumerate(dataset.tasks)
    }
