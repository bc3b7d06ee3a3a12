"""The fidelity of simulators: every comparison, as `fidelity.json` holds it.

Symbols: `R` rows of the log, `H` tasks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recomind.data import SessionDataset
from recomind.data.exploring import exploring_rows
from recomind.evaluation.fidelity.absent import absent
from recomind.evaluation.fidelity.agreement import mean_rewards, rank_agreement
from recomind.evaluation.fidelity.distance import length_fidelity, value_fidelity
from recomind.evaluation.fidelity.dynamics import Dynamics, dynamics_section
from recomind.evaluation.fidelity.exploration import FEW, confounding_alarm
from recomind.evaluation.fidelity.logged import LoggedPredictions, predict_logged
from recomind.evaluation.fidelity.logger import logger_logits
from recomind.evaluation.fidelity.positions import position_rates
from recomind.evaluation.fidelity.responses import response_fidelity
from recomind.evaluation.fidelity.sessions import cut_alike, logged_sessions, replay
from recomind.evaluation.fidelity.survival import hazard_fidelity
from recomind.evaluation.fidelity.two_sample import two_sample
from recomind.simulation import FittedSessions, LearnedSimulator, World
from recomind.streams import draw_seeds, make_generator
from recomind.types import CandidateSource, Policy

FORMAT_VERSION = 1
AGREEMENTS = ("rank_agreement", "rank_agreement_acting")  # in pools of chance, of the round
_MAX_ROWS = 60_000  # logged events that predictions are judged on
_TAU_SESSIONS = 500  # per policy and environment, at most
_DYNAMICS_SESSIONS = 200  # per policy of `dynamics` and environment, at most


Progress = Callable[[float, float, str], object]


def _silent(done: float, total: float, note: str) -> None:
    """Says nothing."""


@dataclass(kw_only=True, slots=True)
class TrueWorld:
    """What the policies are worth in truth, where that is known."""

    world: World
    policies: Mapping[str, Policy]
    pools: Mapping[str, CandidateSource]  # what they choose from, by name of the section


def measure_fidelity(
    simulators: Mapping[str, FittedSessions],
    dataset: SessionDataset,
    *,
    num_sessions: int,
    seed: int,
    num_steps: int | None = None,
    truth: TrueWorld | None = None,
    dynamics: Dynamics | None = None,
    progress: Progress = _silent,
) -> dict[str, Any]:
    """The content of `fidelity.json`.

    Args:
        simulators: by name; they are left unchanged.
        dataset: the logs they were fitted to; they are judged on its later days, on the users
            that are not held out.
        num_sessions: logged sessions that are replayed, at most.
        num_steps: of each replay, and of all policies in one environment, at most; None for any.
            Sessions are left out, never cut.
        seed: of everything that is drawn.
        truth: for the sections `AGREEMENTS`; None where there is no world.
        dynamics: policies for the section `dynamics`; None where there are none.
        progress: called with what is done, out of how much, and what that was.

    Returns:
        `{format_version, num_events, simulators: {name: sections}, dynamics}`. A section, or
        a figure, that could not be had is `{value: None, reason}`.
    """
    rows = dataset.rows("calibration", "test", holdout=False)
    later, done = _Later(dataset, rows, seed), _Parts(progress, truth, len(simulators))
    num_tau = _tau_sessions(truth, num_sessions, num_steps)
    true = _true_rewards(truth, num_tau, seed, done)
    sections = {}
    for name, simulator in simulators.items():
        simulator = _uncut(simulator)
        sections[name] = later.judge(simulator)
        done(f"({name}, logged events)")
        num = sessions_within(num_sessions, num_steps, simulator.horizon)
        sections[name]["sessions"] = _whole_sessions(simulator, dataset, rows, num, seed)
        done(f"({name}, whole sessions)")
        for section in AGREEMENTS:
            found = _agreement(section, simulator, truth, true.get(section), num_tau, seed)
            sections[name][section] = found
            done(f"({name}, {section})")
    environments = {name: _uncut(simulator) for name, simulator in simulators.items()}
    played = dynamics_section(
        dynamics,
        environments if truth is None else {**environments, "world": truth.world},
        draw_seeds(max(2, min(num_tau, _DYNAMICS_SESSIONS)), make_generator(seed + 2)),
    )
    done("(dynamics)")
    return {
        "format_version": FORMAT_VERSION,
        "num_events": len(later.rows),
        "simulators": sections,
        "dynamics": played,
    }


class _Later:
    """The events of later days: calibration and test for leaving, test for responses."""

    def __init__(self, dataset: SessionDataset, rows: Tensor, seed: int) -> None:
        self.dataset, self.rows = dataset, _thinned(rows, seed)
        self.is_test = torch.isin(self.rows, dataset.rows("test", holdout=False))
        self.chance_R, self.chosen_R = exploring_rows(dataset, self.rows)
        self.logger_R = self._logger(seed)

    def _logger(self, seed: int) -> Tensor | None:
        """[R] the logger's logits; None where there is too little chance in the logs."""
        training = self.dataset.rows("train", holdout=False)
        chance, chosen = exploring_rows(self.dataset, training)
        counts = (chance.sum(), chosen.sum(), self.chance_R.sum(), self.chosen_R.sum())
        if min(map(int, counts)) < FEW:
            return None
        return logger_logits(self.dataset, training, chance, chosen, self.rows, seed)

    def judge(self, simulator: FittedSessions) -> dict[str, Any]:
        """Sections on logged events, one step ahead."""
        dataset, rows = self.dataset, self.rows
        predictions = predict_logged(simulator, dataset, rows)
        labels_RH = dataset.labels(rows)
        return {
            "responses": _responses(predictions, labels_RH, self.is_test, dataset.tasks),
            "leaving": hazard_fidelity(
                dataset.position(rows),
                dataset.left_known(rows),
                dataset.left(rows),
                predictions.mean_hazard_R,
                predictions.sampled_hazard_R,
            ),
            "exploring": _exploring(predictions, labels_RH, self.chance_R, dataset.tasks),
            "confounding": self._confounding(predictions.mean_RH, labels_RH),
        }

    def _confounding(self, p_RH: Tensor, labels_RH: Tensor) -> dict[str, Any]:
        if self.logger_R is None:
            reason = "too few rows that chance showed, or too few that the logger chose"
            return absent(reason) | {"raised": False}
        return confounding_alarm(
            p_RH,
            labels_RH,
            self.chance_R,
            self.chosen_R,
            self.logger_R,
            self.dataset.user_id(self.rows),
            self.dataset.tasks,
        )


def _thinned(rows: Tensor, seed: int) -> Tensor:
    if len(rows) <= _MAX_ROWS:
        return rows
    chosen = torch.randperm(len(rows), generator=make_generator(seed))[:_MAX_ROWS]
    return rows[chosen.sort().values]


def _responses(
    predictions: LoggedPredictions, labels_RH: Tensor, chosen_R: Tensor, tasks: tuple[str, ...]
) -> dict[str, Any]:
    part = LoggedPredictions(
        mean_RH=predictions.mean_RH[chosen_R],
        sampled_RH=predictions.sampled_RH[chosen_R],
        mean_hazard_R=predictions.mean_hazard_R[chosen_R],
        sampled_hazard_R=predictions.sampled_hazard_R[chosen_R],
    )
    return response_fidelity(part, labels_RH[chosen_R], tasks)


def _exploring(
    predictions: LoggedPredictions, labels_RH: Tensor, chance_R: Tensor, tasks: tuple[str, ...]
) -> dict[str, Any]:
    if not bool(chance_R.any()):
        return absent("no row of later days is known to be uniform chance")
    return _responses(predictions, labels_RH, chance_R, tasks)


def _whole_sessions(
    simulator: FittedSessions, dataset: SessionDataset, rows: Tensor, num: int, seed: int
) -> dict[str, Any]:
    """Sections on whole sessions, logged ones against a replay of their items."""
    generator, horizon, tasks = make_generator(seed), simulator.horizon, dataset.tasks
    logged = logged_sessions(dataset, rows, horizon, num, generator)
    if len(logged.start_S) == 0:
        return absent("no logged session of later days begins in the log")
    ours, theirs = logged.table, replay(simulator, dataset, logged, generator)
    dwell = (table.dwell_ST[table.mask_ST].double().numpy() for table in (ours, theirs))
    return {
        "n": len(logged.start_S),
        "length": length_fidelity(
            ours.depth_S, ours.left_S, theirs.depth_S, theirs.left_S, horizon
        ),
        "dwell": value_fidelity(*dwell),
        "by_position": position_rates(ours, theirs, tasks),
        "two_sample": two_sample(ours, cut_alike(theirs, ours), tasks, generator)
        if bool(ours.left_S.any())
        else absent("the end of every logged session is censored"),
    }


class _Parts:
    """Counts the parts of the report as they are finished."""

    def __init__(self, progress: Progress, truth: TrueWorld | None, num_simulators: int) -> None:
        self.progress, self.done = progress, 0
        num_pools = 0 if truth is None else len(truth.pools)
        self.total = num_pools + num_simulators * (2 + len(AGREEMENTS)) + 1

    def __call__(self, note: str) -> None:
        self.done += 1
        self.progress(self.done, self.total, note)


def _uncut(simulator: FittedSessions) -> FittedSessions:
    """A simulator to run in, without what training alone needs: no cut where members disagree."""
    plain = copy.copy(simulator)
    if isinstance(plain, LearnedSimulator):
        plain.uncertainty_stop = 0.0
    return plain


def sessions_within(num_sessions: int, num_steps: int | None, horizon: int) -> int:
    """Sessions that fit into a budget of steps, were each as long as the horizon; at least one.

    >>> sessions_within(2000, 250_000, 100), sessions_within(2000, 50_000, 100)
    (2000, 500)
    """
    return num_sessions if num_steps is None else max(1, min(num_sessions, num_steps // horizon))


def _tau_sessions(truth: TrueWorld | None, num_sessions: int, num_steps: int | None) -> int:
    """Sessions of each policy in one environment."""
    num = min(num_sessions, _TAU_SESSIONS)
    if truth is None:
        return num
    each = None if num_steps is None else num_steps // max(1, len(truth.policies))
    return max(2, sessions_within(num, each, truth.world.horizon))


def _true_rewards(
    truth: TrueWorld | None, num: int, seed: int, done: _Parts
) -> dict[str, tuple[list[float], list[float]]]:
    if truth is None:
        return {}
    found = {}
    for section, pool in truth.pools.items():
        seeds = draw_seeds(num, make_generator(seed + 1))
        found[section] = mean_rewards(truth.policies, truth.world, pool, seeds)
        done(f"(world, {section})")
    return found


def _agreement(
    section: str,
    simulator: FittedSessions,
    truth: TrueWorld | None,
    true: tuple[list[float], list[float]] | None,
    num_sessions: int,
    seed: int,
) -> dict[str, Any]:
    if truth is None:
        return absent("no world to compare with")
    if section not in truth.pools:
        return absent("the round has no pools yet: build-index has not run")
    return rank_agreement(
        truth.policies,
        simulator,
        truth.world,
        truth.pools[section],
        num_sessions=num_sessions,
        generator=make_generator(seed + 1),
        true=true,
    )
