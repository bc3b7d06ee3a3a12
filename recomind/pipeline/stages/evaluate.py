"""`recomind evaluate`: every arm in every environment, the gate, and the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from recomind.artifacts import Manifest, read_manifest, write_artifact
from recomind.candidates import CandidatePool
from recomind.data import SessionDataset
from recomind.evaluation.html import write_html
from recomind.evaluation.parity import step0_parity
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
from recomind.pipeline.play import Arms, play
from recomind.pipeline.progress import StageLine
from recomind.pipeline.run import Round
from recomind.pipeline.selection import Judged, judged_rounds, kept_round
from recomind.pipeline.stage import Stage
from recomind.policy import QPolicy, RandomPolicy, RankerPolicy
from recomind.ranker import calibration_curve, predict
from recomind.simulation import BatchedSessions
from recomind.streams import SessionStreams, draw_seeds
from recomind.types import CandidateSource, Policy, Ranker

FIRST_RANKER = "first_ranker"  # the arm of the ranker that was there before the run


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
    arms: dict[str, tuple[Policy, CandidateSource]] = {
        "random": (RandomPolicy(), pool),
        "ranker": (RankerPolicy(rankers[:1], last.run.weights), pool),
        "ranker_ensemble": (RankerPolicy(rankers, last.run.weights), pool),
    }
    if not last.is_first:
        arms[FIRST_RANKER] = (ranker_policy(last.first), load_pool(last.first))
    arms["policy"] = (QPolicy(load_policy(kept)), pool_kept)
    environments = _environments(last, kept)
    curves = [json.loads((each.path("policy") / CURVE).read_text()) for each in last.so_far]
    bins = config.evaluation.calibration_bins
    return build_report(
        seed=config.seed,
        environments=_entries(last, environments, arms, line),
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
    )


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
    config, total = last.config.evaluation, len(environments) * len(arms)
    seeds = draw_seeds(config.num_sessions, last.run.generator(f"evaluate-{config.seed}"))
    further = [FIRST_RANKER] if FIRST_RANKER in arms else []
    entries: list[dict[str, Any]] = []
    done: list[str] = []
    for name, kind, environment in environments:

        def on_arm(arm: str, name: str = name) -> None:
            done.append(arm)
            line(len(done), total, f"({name}, {arm})")

        outcomes = play(environment, arms, seeds, config.batch_size, on_arm)
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
