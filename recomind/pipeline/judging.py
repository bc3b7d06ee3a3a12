"""Plays the arms of a report in its environments, on as many sessions as the gate needs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from recomind.evaluation.config import (
    FIRST_RANKER,
    LOGGING,
    POLICY,
    RANKER,
    RANKER_ENSEMBLE,
    SERVED,
)
from recomind.evaluation.gate import deciding_environments
from recomind.evaluation.growing import grow_for_guardrails
from recomind.evaluation.metrics import session_ratios
from recomind.evaluation.ope.behaviour import fit_behaviour
from recomind.evaluation.ope.held_out import held_out_sessions, logs_entry
from recomind.evaluation.ope.logs import Settings
from recomind.evaluation.outside import outside_shares
from recomind.evaluation.power import power_note
from recomind.evaluation.preflight import Named
from recomind.evaluation.report import environment_entry
from recomind.evaluation.rollout import SessionOutcomes, rollout
from recomind.evaluation.statistics import paired_lift
from recomind.evaluation.strips import strips_of
from recomind.pipeline.arms import Arms
from recomind.pipeline.loading import load_coverage
from recomind.pipeline.play import play
from recomind.pipeline.progress import StageLine
from recomind.pipeline.run import Round
from recomind.streams import draw_seeds
from recomind.types import SessionEnvironment

Entry = dict[str, Any]  # an entry of `environments` in report.json
_PILOT = 100  # sessions that tell how much a lift varies
_GREEDY = {RANKER, RANKER_ENSEMBLE, FIRST_RANKER, SERVED, POLICY}
_FEW_SESSIONS = 200  # that a share of steps is counted in


def entries(last: Round, environments: Sequence[Named], arms: Arms, line: StageLine) -> list[Entry]:
    """Every arm in every environment, all on the same seeds; the logs beside them, if they can.

    Where a guardrail of a deciding environment is still open, policy and baseline play on.
    """
    found: list[Entry] = []
    outcomes: dict[str, Mapping[str, SessionOutcomes]] = {}
    names = last.dataset().user_feature_names

    def progress(share: float, note: str) -> None:
        line(len(found) + share, len(environments), note)

    for name, kind, environment in environments:
        outcomes[name] = _played(last, (name, kind, environment), arms, progress)
        found.append(_entry(last, name, kind, outcomes[name], names))
        if kind == "simulator":
            found[-1]["outside_share"] = _outside(last, environment, arms)
    by_name = {name: environment for name, _, environment in environments}
    deciding = {entry["name"] for entry in deciding_environments(found)}
    for entry in (entry for entry in found if entry["name"] in deciding):
        _grow(last, entry, outcomes[entry["name"]], by_name[entry["name"]], arms, line)
        entry["strips"] = _strips(last, outcomes[entry["name"]], by_name[entry["name"]], arms)
    found[-1:-1] = _logged(last, arms)  # what decides stays last
    return found


def _played(
    last: Round, named: Named, arms: Arms, progress: Callable[[float, str], None]
) -> dict[str, SessionOutcomes]:
    name, kind, environment = named
    config, seeds = last.config.evaluation, _seeds(last)
    here = {a: (it.policy, it.candidates) for a, it in arms.items() if it.only_in in (None, kind)}
    finished: list[str] = []

    def on_arm(arm: str) -> None:
        finished.append(arm)
        progress(len(finished) / len(here), f"({name}, {arm})")

    return play(environment, here, seeds, config.batch_size, on_arm)


def _seeds(last: Round) -> Tensor:
    """[S] of the sessions that every arm plays."""
    config = last.config.evaluation
    return draw_seeds(config.num_sessions, last.run.generator(f"evaluate-{config.seed}"))


def _entry(
    last: Round,
    name: str,
    kind: str,
    outcomes: Mapping[str, SessionOutcomes],
    feature_names: Sequence[str],
) -> Entry:
    return environment_entry(
        name,
        kind,
        outcomes,
        last.config.evaluation,
        _further(last.config.evaluation.baseline_arm, outcomes),
        target_metric=last.config.gate.target_metric,
        feature_names=feature_names,
    )


def _further(baseline: str, outcomes: Mapping[str, SessionOutcomes]) -> list[str]:
    """What the policy must beat beside the baseline.

    That is the ranker from before the run, and what is served; where the latter is the baseline,
    the refit ranker as well.
    """
    also = (*((RANKER,) if baseline == SERVED else ()), FIRST_RANKER, SERVED)
    return [arm for arm in also if arm in outcomes and arm != baseline]


def _outside(last: Round, environment: SessionEnvironment, arms: Arms) -> dict[str, float]:
    """Arm -> share of its steps where the logs have hardly been, on a few of the sessions."""
    config = last.config.evaluation
    num = min(_FEW_SESSIONS, config.num_sessions)
    seeds = draw_seeds(num, last.run.generator(f"evaluate-{config.seed}"))
    here = {name: arm for name, arm in arms.items() if arm.only_in is None}
    return outside_shares(environment, here, load_coverage(last), seeds, config.batch_size)


def _grow(
    last: Round,
    entry: Entry,
    outcomes: Mapping[str, SessionOutcomes],
    environment: SessionEnvironment,
    arms: Arms,
    line: StageLine,
) -> None:
    """Further sessions of policy and baseline, where a guardrail asks for them."""
    settings = last.config.evaluation
    generator = last.run.generator(f"evaluate-{settings.seed}-more-{entry['name']}")

    def further(arm: str, seeds: Tensor) -> SessionOutcomes:
        line(0, 1, f"({entry['name']}, {arm}: {len(seeds):,} further sessions for a guardrail)")
        acting = arms[arm]
        return rollout(environment, acting.policy, acting.candidates, seeds, settings.batch_size)

    def draw(num: int) -> Tensor:
        return draw_seeds(num, generator)

    grow_for_guardrails(entry, outcomes, further, draw, settings, last.config.gate)


def _strips(
    last: Round,
    outcomes: Mapping[str, SessionOutcomes],
    environment: SessionEnvironment,
    arms: Arms,
) -> list[dict[str, Any]]:
    """A few sessions item by item, where both arms of the comparison played here."""
    pair = (last.config.evaluation.policy_arm, last.config.evaluation.baseline_arm)
    if any(arm not in outcomes for arm in pair):
        return []
    return strips_of(environment, arms, outcomes, pair, _seeds(last))


def _logged(last: Round, arms: Arms) -> list[Entry]:
    """Held-out logged sessions, where the pools of who logged are known: of a world, or served.

    With `evaluation.behaviour_model` also where they are not: the ranker's pools stand for them,
    and a model for the propensities.
    """
    settings = last.config.evaluation
    pair = (settings.policy_arm, settings.baseline_arm)
    known = next((arm for arm in (LOGGING, *_served_before(last)) if arm in arms), None)
    if not _GREEDY.issuperset(pair) or not (known or settings.behaviour_model):
        return []
    # What was served last has other pools than what was logged before it.
    dataset = last.own_dataset() if known == SERVED else last.first.dataset()
    generator = last.run.generator("evaluate-logs")
    horizon, pool = last.config.simulation.horizon, arms[known or RANKER].candidates
    held_out = held_out_sessions(
        dataset, settings.num_sessions, horizon, generator, known=known is not None
    )
    if held_out is None:
        return []
    entry = logs_entry(
        dataset,
        held_out,
        {arm: arms[arm].policy for arm in pair},
        pool,
        last.run.reward_weights,
        pair=pair,
        settings=Settings(confidence=settings.confidence),
        generator=generator,
        behaviour=None if known else fit_behaviour(dataset, pool, last.run.seed("behaviour")),
    )
    return [entry]


def _served_before(last: Round) -> list[str]:
    """The arm that served the last window, where its pools are known: those of a round before."""
    return [] if last.is_first else [SERVED]


def power(last: Round, environments: Sequence[Named], arms: Arms) -> dict[str, str]:
    """The effect that the run can detect, by a pilot on sessions of its own; said before the run.

    Returns:
        Deciding environment -> sentence.
    """
    settings, gate = last.config.evaluation, last.config.gate
    found: dict[str, str] = {}
    named = {name: environment for name, _, environment in environments}
    seeds = draw_seeds(min(_PILOT, settings.num_sessions), last.run.generator("evaluate-pilot"))
    for entry in deciding_environments([{"name": n, "kind": k} for n, k, _ in environments]):
        pair = [
            (arms[arm].policy, arms[arm].candidates)
            for arm in (settings.policy_arm, settings.baseline_arm)
            if arms[arm].only_in in (None, entry["kind"])
        ]
        ratios = [
            session_ratios(rollout(named[entry["name"]], *each, seeds, settings.batch_size))
            for each in pair
        ]
        target = [each[gate.target_metric] for each in ratios if gate.target_metric in each]
        if len(target) == 2:
            lift = paired_lift(target[0], target[1], settings.confidence)
            note = power_note(lift, settings.num_sessions, settings.confidence, gate.min_lift)
            found[entry["name"]] = note
            print(f"{entry['name']}: {note}", file=sys.stderr)
    return found
