"""`recomind evaluate`: every arm in every environment, the gate, and the report."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, cast

import torch

from recomind.artifacts import (
    Manifest,
    package_versions,
    read_json,
    read_manifest,
    write_artifact,
)
from recomind.data import SessionDataset, load_catalogue, reads_logs
from recomind.evaluation.config import POLICY
from recomind.evaluation.html import write_html
from recomind.evaluation.log_facts import log_facts
from recomind.evaluation.metrics import LONG_WATCH_TASK
from recomind.evaluation.parity import step0_parity
from recomind.evaluation.preflight import Named, check_request, require_target
from recomind.evaluation.report import build_report, write_report
from recomind.pipeline.arms import report_arms, served_inputs
from recomind.pipeline.curve import CURVE
from recomind.pipeline.judging import entries, power
from recomind.pipeline.loading import (
    load_ensemble,
    load_holdout_simulator,
    load_pool,
    load_simulator,
    network_factory,
    ranker_policy,
)
from recomind.pipeline.progress import StageLine
from recomind.pipeline.run import Round
from recomind.pipeline.run_file import FIDELITY_SETTINGS
from recomind.pipeline.selection import Judged, judged_rounds, kept_round, seed_policies
from recomind.pipeline.stage import Stage
from recomind.ranker import calibration_curve, predict
from recomind.streams import SessionStreams, draw_seeds
from recomind.types import Ranker, SessionEnvironment


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
        paths += kept.paths(*seed_policies(kept))
        paths += round.paths("ranker", "holdout_simulator", "index")
        paths += [] if round.is_first else round.first.paths("ranker", "index")
        paths += served_inputs(round)
        return paths + [round.run.round(each["round"]).path("selection") for each in judged]

    def manifest(self, round: Round) -> Manifest:
        """Without the settings of another report."""
        manifest = super().manifest(round)
        for name in FIDELITY_SETTINGS:
            del manifest.config["evaluation"][name]
        return manifest

    def build(self, round: Round, manifest: Manifest, line: StageLine) -> str:
        """Write `report.json` and `report.html`."""
        judged = judged_rounds(round)
        report = _report(round, kept_round(judged, round), judged, line)
        with write_artifact(self.path(round), manifest) as staging:
            write_report(staging, report)
            write_html(staging, report, _about(round))
        return ""


def _report(last: Round, kept: Round, judged: Judged, line: StageLine) -> dict[str, Any]:
    config, arms, environments = last.config, report_arms(last, kept), _environments(last, kept)
    check_request(config.evaluation, config.gate, arms, environments)
    detectable = power(last, environments, arms)
    found = entries(last, environments, arms, line)
    require_target(found, config.gate)
    watches = f"{LONG_WATCH_TASK}_per_session"  # no metric of a log that has no such task
    if reads_logs(config.data) and LONG_WATCH_TASK not in environments[0][2].tasks:
        found = _without(found, watches if watches != config.gate.target_metric else "")
    curves = [read_json(each.path("policy") / CURVE, "learning curve") for each in last.own_so_far]
    bins = config.evaluation.calibration_bins
    return build_report(
        seed=config.seed,
        environments=found,
        evaluation=config.evaluation,
        gate=config.gate,
        step0_parity=_parity(kept, environments[0][2]),
        learning_curve=[point for curve in curves for point in curve],
        calibration=_calibration(load_ensemble(last)[0], last.dataset(), bins),
        ranker=read_manifest(last.path("ranker")).metrics,
        fidelity={
            name: read_manifest(each.path(name)).metrics
            for name, each in (("simulator", kept), ("holdout_simulator", last))
        },
        rounds={"keep": config.keep.value, "kept": kept.index, "judged": judged},
        policy_identity=_identity(kept),
        power=detectable,
        data=log_facts(last.session_folders),
        pool=_pool(last),
    )


def _about(last: Round) -> dict[str, str]:
    """What differs between equal reports, and therefore stands on the page alone."""
    versions = package_versions()
    return {
        "run": last.run.folder.name,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": ", ".join(f"{name} {versions[name]}" for name in ("recomind", "torch", "ray")),
    }


def _pool(last: Round) -> dict[str, int]:
    """What each decision chose from."""
    settings, catalogue = last.config.candidates, load_catalogue(last.path("ranker"))
    names = ("num_candidates", "num_nearest", "num_fresh", "num_generated")
    slots = {name: int(getattr(settings, name)) for name in names}
    return {"num_items": catalogue.num_items} | slots


def _without(entry: Any, name: str) -> Any:
    """A section of the report without what it says under a name."""
    if isinstance(entry, dict):
        named = cast(dict[str, Any], entry)
        return {key: _without(value, name) for key, value in named.items() if key != name}
    if isinstance(entry, list):
        return [_without(value, name) for value in cast(list[Any], entry)]
    return entry


def _identity(kept: Round) -> str | None:
    """Identity of the policy that the verdict is about; None where another arm is on trial."""
    if kept.config.evaluation.policy_arm != POLICY:
        return None
    return read_manifest(kept.path("policy")).identity


def _environments(last: Round, kept: Round) -> list[Named]:
    """Name, kind and environment: where it trained, where it did not, and the truth."""
    found: list[Named] = [
        ("training simulator", "simulator", load_simulator(kept)),
        ("hold-out simulator", "holdout_simulator", load_holdout_simulator(last)),
    ]
    world = last.run.world
    return found if world is None else [*found, ("world", "world", world)]


@torch.no_grad()
def _parity(kept: Round, simulator: SessionEnvironment) -> dict[str, float | int]:
    """The untrained network against the ranker, on states that the simulator begins from."""
    seeds = draw_seeds(kept.config.evaluation.num_parity_states, kept.generator("parity"))
    state, pool = simulator.reset_to(seeds), load_pool(kept, kept.run.policy_index)
    candidates = pool.candidates(state, SessionStreams(seeds))
    q_BK, _ = network_factory(kept)().q_values(state, candidates.item_id)
    scores = ranker_policy(kept).scores(state, candidates.item_id)
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
