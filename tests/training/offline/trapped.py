"""Logs of the trap: a policy that knows the best kind, and often does anything else."""

from __future__ import annotations

import dataclasses
from functools import cache

import polars as pl
import torch

from recomind.data import SessionDataset, TableCatalogue
from recomind.simulation import collect_sessions
from recomind.streams import make_generator
from recomind.training.offline.logs import TrainingLogs
from recomind.types import Candidates, Decision, SessionState
from tests.training.trap import HORIZON, KIND, MOODS, TRAP, TrapPool, TrapWorld, optimum

NUM_ITEMS = 20  # of the catalogue; pools hold the first six


class NoisyExpert:
    """The best kind with probability `skill`, else any item."""

    def __init__(self, skill: float) -> None:
        self.skill = skill

    def act(self, state: SessionState, candidates: Candidates, uniforms: torch.Tensor) -> Decision:
        step, mood = state.step.clamp(max=HORIZON - 1), state.user_features.argmax(1)
        best = optimum()[1][step, mood]
        num = candidates.item_id.shape[1]
        any_item = (uniforms[:, 1] * num).long().clamp(max=num - 1)
        slot = torch.where(uniforms[:, 0] < self.skill, best, any_item)
        right = KIND[slot] == best
        prob = (1 - self.skill) / num + torch.where(right & (slot < 3), self.skill, 0.0)
        return Decision(
            slot=slot,
            item_id=candidates.item_id.gather(1, slot[:, None])[:, 0],
            log_propensity=prob.log(),
            batch_size=[len(slot)],
        )


def no_items() -> TableCatalogue:
    return TableCatalogue(
        torch.zeros(1, NUM_ITEMS, 0),
        torch.zeros(NUM_ITEMS, 0).long(),
        dense_names=(),
        categorical_names=(),
        vocab_sizes=(),
    )


@cache
def frame(skill: float, num_sessions: int, seed: int = 3) -> pl.DataFrame:
    return collect_sessions(
        TrapWorld(),
        NoisyExpert(skill),
        TrapPool(),
        num_sessions=num_sessions,
        generator=make_generator(seed),
        user_feature_names=[f"mood_{mood}" for mood in range(MOODS)],
        calibration_share=0.05,
        test_share=0.05,
        holdout_share=0.0,
    ).with_columns(round_index=pl.lit(0))


def dataset(skill: float = 0.4, num_sessions: int = 1500) -> SessionDataset:
    return SessionDataset(
        frame(skill, num_sessions),
        no_items(),
        tasks=["click"],
        user_feature_names=[f"mood_{mood}" for mood in range(MOODS)],
        history_length=1,
    )


def logs(skill: float = 0.4, num_sessions: int = 1500) -> TrainingLogs:
    return TrainingLogs(dataset=dataset(skill, num_sessions), reward_weights={"click": 1.0})


@dataclasses.dataclass(kw_only=True)
class LogsRecipe:
    skill: float = 0.4
    num_sessions: int = 1500

    def __call__(self) -> TrainingLogs:
        return logs(self.skill, self.num_sessions)


def no_environment() -> TrapWorld:
    raise AssertionError("an algorithm that learns from logs opened an environment")


LOGGED_TRAP = dataclasses.replace(TRAP, environment=no_environment, logs=LogsRecipe())
