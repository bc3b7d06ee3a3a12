"""`recomind evaluate`: every arm in every environment, the gate, and the report."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recomind.artifacts import read_manifest, write_artifact
from recomind.candidates import make_pool
from recomind.cli.collect_logs import load_policy, network_factory
from recomind.cli.context import Run, is_current
from recomind.cli.progress import StageLine
from recomind.cli.select_round import judged_rounds, kept_round, ranker_of_round
from recomind.cli.train_policy import CURVE
from recomind.data import DataSource, SessionDataset, storable
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
from recomind.evaluation.gate import deciding_environments
from recomind.evaluation.growing import grow_for_guardrails
from recomind.evaluation.html import write_html
from recomind.evaluation.metrics import session_ratios
from recomind.evaluation.ope.held_out import held_out_sessions, logs_entry
from recomind.evaluation.ope.logs import Settings
from recomind.evaluation.parity import step0_parity
from recomind.evaluation.power import power_note
from recomind.evaluation.preflight import Named, check_request, require_target
from recomind.evaluation.report import build_report, environment_entry, read_report, write_report
from recomind.evaluation.rollout import SessionOutcomes, rollout
from recomind.evaluation.statistics import paired_lift
from recomind.evaluation.table import print_report
from recomind.policy import QNetwork, QPolicy, RandomPolicy, RankerPolicy
from recomind.ranker import calibration_curve, load_rankers, predict
from recomind.simulation import BatchedSessions, load_holdout, load_simulator
from recomind.streams import SessionStreams, draw_seeds
from recomind.training.factories import fresh_items
from recomind.types import CandidateSource, Ranker

_PILOT = 100  # sessions that tell how much a lift varies
Judged = Sequence[Mapping[str, Any]]  # `selection.json` of each round


def run(run: Run, round_index: int) -> bool:
    """Write `report/` and print it; returns whether the policy is released."""
    judged = judged_rounds(run, round_index)
    kept = kept_round(judged, round_index)
    inputs = _inputs(run, round_index, kept, judged)
    groups = ["evaluation", "gate", "world", "candidates"]
    manifest = run.manifest("report", "evaluate", round_index, groups, inputs)
    for unused in ("fidelity_sessions", "fidelity_steps"):  # of another report
        del manifest.config["evaluation"][unused]
    line, folder = run.line("evaluate", round_index), run.folder / "report"
    if is_current(folder, manifest):
        line.skipped()
        report = read_report(folder)
    else:
        report = _report(run, round_index, kept, judged, line)
        with write_artifact(folder, manifest) as staging:
            write_report(staging, report)
            write_html(staging, report)
        line.done()
    print_report(report)
    _say_kept(report["rounds"])
    print(f"report: {folder / 'report.html'}")
    return bool(report["gate"]["released"])


def _inputs(run: Run, last: int, kept: int, judged: Judged) -> list[Path]:
    """What the report is about: the kept policy with all that it needs, and the last round."""
    kept_names = ["policy", "ranker", "simulator", run.policy_index]
    last_names = ["ranker", "holdout_simulator", "index"]
    paths = [run.path(n, kept) for n in kept_names] + [run.path(n, last) for n in last_names]
    paths += [run.path(n, 0) for n in ("ranker", "index")] if last else []
    return [*paths, *(run.path("selection", each["round"]) for each in judged)]


def _say_kept(rounds: Mapping[str, Any]) -> None:
    judged = rounds.get("judged")
    if judged:
        values = ", ".join(f"{each['value']:.3f}" for each in judged)
        print(
            f"round {rounds['kept'] + 1} of {len(judged)} is kept: {judged[0]['metric']} "
            f"{values}, on sessions that are in no figure above"
        )


def _report(
    run: Run, round_index: int, kept: int, judged: Judged, line: StageLine
) -> dict[str, Any]:
    """The kept policy against the ranker refit on all logs; each chooses from its own pools.

    After the first round the ranker that was there before the run is a baseline too: a refit that
    spoils the ranker would make a lift of it.
    """
    config, dataset = run.config, run.dataset(round_index)
    rankers = load_rankers(run.path("ranker", round_index))
    pool = run.pool_factory(round_index)()
    rankers_kept, pool_kept = rankers, pool
    if kept != round_index:
        rankers_kept = load_rankers(run.path("ranker", kept))
    if kept != round_index or run.policy_index != "index":
        pool_kept = run.pool_factory(kept, run.policy_index)()
    arms = {
        RANDOM: Arm(policy=RandomPolicy(), candidates=pool),
        RANKER: Arm(policy=RankerPolicy(rankers[:1], run.weights), candidates=pool),
        RANKER_ENSEMBLE: Arm(policy=RankerPolicy(rankers, run.weights), candidates=pool),
    }
    further = [FIRST_RANKER] if round_index else []
    if round_index:
        arms[FIRST_RANKER] = Arm(policy=ranker_of_round(run, 0), candidates=run.pool_factory(0)())
    arms |= _supported_arms(load_policy(run, kept), pool_kept) | _logging_arm(run)
    environments = _environments(run, round_index, kept)
    check_request(config.evaluation, config.gate, arms, environments)
    seeds = draw_seeds(
        config.evaluation.num_sessions, run.generator(f"evaluate-{config.evaluation.seed}")
    )
    power = _power(run, environments, arms)
    entries, kept_outcomes = [], {}
    by_name = {name: environment for name, _, environment in environments}
    for name, kind, environment in environments:
        outcomes, here = {}, {n: arm for n, arm in arms.items() if arm.only_in in (None, kind)}
        for arm, acting in here.items():
            batch = config.evaluation.batch_size
            outcomes[arm] = rollout(environment, acting.policy, acting.candidates, seeds, batch)
            done = len(entries) + len(outcomes) / len(here)
            line(done, len(environments), f"({name}, {arm})")
        entry = environment_entry(
            name,
            kind,
            outcomes,
            config.evaluation,
            further,
            target_metric=config.gate.target_metric,
            feature_names=dataset.user_feature_names,
        )
        entries.append(entry)
        kept_outcomes[name] = outcomes
    decide_it = {entry["name"] for entry in deciding_environments(entries)}
    for entry in (entry for entry in entries if entry["name"] in decide_it):
        _grow(run, entry, kept_outcomes[entry["name"]], by_name[entry["name"]], arms, line)
    require_target(entries, config.gate)
    entries[-1:-1] = _logged(run, arms)  # what decides stays last
    curves = [
        json.loads((run.path("policy", r) / CURVE).read_text()) for r in range(round_index + 1)
    ]
    return build_report(
        seed=config.seed,
        environments=entries,
        evaluation=config.evaluation,
        gate=config.gate,
        step0_parity=_parity(run, kept, rankers_kept[0], environments[0][2], pool_kept),
        learning_curve=[point for curve in curves for point in curve],
        calibration=_calibration(rankers[0], dataset, config.evaluation.calibration_bins),
        ranker=read_manifest(run.path("ranker", round_index)).metrics,
        fidelity={
            name: read_manifest(run.path(name, index)).metrics
            for name, index in (("simulator", kept), ("holdout_simulator", round_index))
        },
        rounds={"keep": config.keep.value, "kept": kept, "judged": judged},
        policy_identity=_identity(run, kept),
        power=power,
    )


def _logged(run: Run, arms: Mapping[str, Arm]) -> list[dict[str, Any]]:
    """The first round's held-out sessions, where the pools of its logging policy are known."""
    settings, greedy = run.config.evaluation, {RANKER, RANKER_ENSEMBLE, FIRST_RANKER, POLICY}
    pair = (settings.policy_arm, settings.baseline_arm)
    if LOGGING not in arms or not greedy.issuperset(pair):
        return []
    dataset, generator = run.dataset(0), run.generator("evaluate-logs")
    held_out = held_out_sessions(
        dataset, settings.num_sessions, run.config.simulation.horizon, generator
    )
    if held_out is None:
        return []
    entry = logs_entry(
        dataset,
        held_out,
        {arm: arms[arm].policy for arm in pair},
        arms[LOGGING].candidates,
        run.weights,
        pair=pair,
        settings=Settings(confidence=settings.confidence),
        generator=generator,
    )
    return [entry]


def _power(run: Run, environments: Sequence[Named], arms: Mapping[str, Arm]) -> dict[str, str]:
    """What the run can find, by a pilot on sessions of its own; said before the run.

    Environment that decides -> sentence.
    """
    settings, gate, found = run.config.evaluation, run.config.gate, {}
    named = {name: environment for name, _, environment in environments}
    seeds = draw_seeds(min(_PILOT, settings.num_sessions), run.generator("evaluate-pilot"))
    for entry in deciding_environments([{"name": n, "kind": k} for n, k, _ in environments]):
        environment = named[entry["name"]]
        ratios = [
            session_ratios(
                rollout(environment, acting.policy, acting.candidates, seeds, settings.batch_size)
            )
            for acting in (arms[settings.policy_arm], arms[settings.baseline_arm])
            if acting.only_in in (None, entry["kind"])
        ]
        pair = [each[gate.target_metric] for each in ratios if gate.target_metric in each]
        if len(pair) == 2:
            lift = paired_lift(pair[0], pair[1], settings.confidence)
            note = power_note(lift, settings.num_sessions, settings.confidence, gate.min_lift)
            found[entry["name"]] = note
            print(f"{entry['name']}: {note}", file=sys.stderr)
    return found


def _grow(
    run: Run,
    entry: dict[str, Any],
    outcomes: Mapping[str, SessionOutcomes],
    environment: BatchedSessions,
    arms: Mapping[str, Arm],
    line: StageLine,
) -> None:
    """Further sessions of policy and baseline, where a guardrail asks for them."""
    settings = run.config.evaluation
    generator = run.generator(f"evaluate-{settings.seed}-more-{entry['name']}")

    def play(arm: str, seeds: Tensor) -> SessionOutcomes:
        line(0, 1, f"({entry['name']}, {arm}: {len(seeds):,} further sessions for a guardrail)")
        acting = arms[arm]
        return rollout(environment, acting.policy, acting.candidates, seeds, settings.batch_size)

    def draw(num: int) -> Tensor:
        return draw_seeds(num, generator)

    grow_for_guardrails(entry, outcomes, play, draw, settings, run.config.gate)


def _supported_arms(network: QNetwork, pool: CandidateSource) -> dict[str, Arm]:
    """The trained policy, and what its support is worth without what it learned."""
    by_chance = InSupport(network, by_chance=True)
    return {
        RANDOM_IN_SUPPORT: Arm(policy=by_chance, candidates=pool),
        RANKER_IN_SUPPORT: Arm(policy=InSupport(network), candidates=pool),
        POLICY: Arm(policy=QPolicy(network), candidates=pool),
    }


def _logging_arm(run: Run) -> dict[str, Arm]:
    """What collected the first round's logs, in the world that it was written for."""
    if run.world is None or run.config.data.source is not DataSource.world:
        return {}
    catalogue = storable(run.world.catalogue, run.config.collect.max_catalogue_items)
    pool = make_pool(run.config.candidates, catalogue, None, fresh_items(catalogue))
    arm = Arm(policy=run.world.logging_policy(), candidates=pool, only_in="world")
    return {LOGGING: arm}


def _identity(run: Run, kept: int) -> str | None:
    """Identity of the policy that the verdict is about; None where another arm is on trial."""
    if run.config.evaluation.policy_arm != POLICY:
        return None
    return read_manifest(run.path("policy", kept)).identity


def _environments(run: Run, round_index: int, kept: int) -> list[tuple[str, str, BatchedSessions]]:
    """Name, kind and environment: where it trained, where it did not, and the truth."""
    simulator = load_simulator(run.path("simulator", kept), run.path("ranker", kept), run.weights)
    holdout = load_holdout(run.path("holdout_simulator", round_index), run.weights)
    found = [
        ("training simulator", "simulator", simulator),
        ("hold-out simulator", "holdout_simulator", holdout),
    ]
    return found if run.world is None else [*found, ("world", "world", run.world)]


@torch.no_grad()
def _parity(
    run: Run,
    round_index: int,
    ranker: Ranker,
    simulator: BatchedSessions,
    pool: CandidateSource,
) -> dict[str, float | int]:
    """The untrained network against the ranker, on states that the simulator begins from."""
    num = run.config.evaluation.num_parity_states
    seeds = draw_seeds(num, run.generator("parity", round_index))
    state = simulator.reset_to(seeds)
    candidates = pool.candidates(state, SessionStreams(seeds))
    q_BK, _ = network_factory(run, round_index)().q_values(state, candidates.item_id)
    scores = RankerPolicy([ranker], run.weights).scores(state, candidates.item_id)
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
