"""A feed of ten items whose answers are known.

Item 0 is always watched (20 s) and nobody leaves; item 9 is always hidden and everybody leaves.
The others are watched if the user's luck of the step is below the user's taste, and clicked as
well; whoever does not watch leaves with probability 0.15.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch

from recomind.evaluation.arms import Arm
from recomind.evaluation.config import EvaluationConfig, GateConfig
from recomind.evaluation.report import build_report, environment_entry
from recomind.evaluation.rollout import SessionOutcomes, rollout
from recomind.evaluation.strips import strips_of
from recomind.simulation import BatchedSessions
from recomind.streams import LANE_BEGIN, LANE_WORLD, draw_seeds, make_generator
from recomind.types import Candidates, Decision, ItemFeatures, Response, SessionState

torch.set_num_threads(1)

NUM_ITEMS, HORIZON = 10, 12
TASKS = ("click", "watch_10s", "hide")


class TenItems:
    num_items = NUM_ITEMS
    dense_names: tuple[str, ...] = ()
    categorical_names: tuple[str, ...] = ()
    vocab_sizes: tuple[int, ...] = ()

    def features(self, item_id, snapshot=None):
        empty = (*item_id.shape, 0)
        return ItemFeatures(dense=torch.zeros(empty), categorical=torch.zeros(empty).long())


class TinyWorld(BatchedSessions):
    def __init__(self, tasks=TASKS):
        super().__init__(
            catalogue=TenItems(),
            tasks=tasks,
            reward_weights={tasks[1]: 1.0},
            horizon=HORIZON,
            history_length=4,
        )

    def _begin(self, streams):
        num, zero = len(streams.seeds), torch.zeros(len(streams.seeds), dtype=torch.int64)
        taste = 0.2 + 0.6 * streams.uniform(zero, 1, LANE_BEGIN)[:, 0]
        state = SessionState(
            user_id=zero,
            user_features=taste[:, None],
            history_item_id=torch.zeros(num, 4, dtype=torch.int64),
            history_feedback=torch.zeros(num, 4, 3, dtype=torch.bool),
            history_dwell_s=torch.zeros(num, 4),
            history_gap_s=torch.zeros(num, 4),
            history_mask=torch.zeros(num, 4, dtype=torch.bool),
            gap_s=torch.zeros(num),
            step=zero,
            batch_size=[num],
        )
        return state, {"taste": taste}

    def _respond(self, state, hidden, item_id, streams):
        luck = streams.uniform(state.step, 2, LANE_WORLD)
        watched = (item_id == 0) | ((item_id != 9) & (luck[:, 0] < hidden["taste"]))
        hid = item_id == 9
        left = hid | (~watched & (luck[:, 1] < 0.15))
        feedback = torch.stack([watched & (item_id != 0), watched, hid], dim=1)
        dwell_s = torch.where(watched, 20.0, 1.0)
        return Response(
            feedback=feedback, dwell_s=dwell_s, left=left, batch_size=[len(item_id)]
        ), hidden


class AllItems:
    def candidates(self, state, streams):
        ids = torch.arange(NUM_ITEMS).expand(len(state.step), -1)
        return Candidates(
            item_id=ids,
            mask=torch.ones_like(ids, dtype=torch.bool),
            log_propensity=torch.zeros(ids.shape),
            batch_size=[len(ids)],
        )


@dataclass
class AliveOnly(AllItems):
    """Keeps the steps of the states it was asked for."""

    steps: list[list[int]] = field(default_factory=list)

    def candidates(self, state, streams):
        assert len(state.step) == len(streams.seeds)
        self.steps.append(state.step.tolist())
        return super().candidates(state, streams)


@dataclass
class Constant:
    item: int

    def act(self, state, candidates, uniforms):
        return decision(torch.full_like(state.step, self.item))


class ByStep:
    """Item `step` modulo ten."""

    def act(self, state, candidates, uniforms):
        return decision(state.step % NUM_ITEMS)


class Uniform:
    def act(self, state, candidates, uniforms):
        assert uniforms.shape == (len(state.step), 4)
        return decision((uniforms[:, 0] * NUM_ITEMS).long())


def decision(slot):
    return Decision(
        slot=slot, item_id=slot, log_propensity=torch.zeros(len(slot)), batch_size=[len(slot)]
    )


POLICIES = {
    "best": Constant(0),
    "worst": Constant(9),
    "middle": Constant(3),
    "by_step": ByStep(),
    "random": Uniform(),
}


@pytest.fixture
def seeds():
    return draw_seeds(200, make_generator(7))


@pytest.fixture
def world():
    return TinyWorld()


@pytest.fixture
def play(world, seeds):
    """Rolls a named policy out on the same 200 sessions."""

    def run(name: str, **options) -> SessionOutcomes:
        source = options.pop("source", AllItems())
        return rollout(
            options.pop("world", world),
            POLICIES[name] if isinstance(name, str) else name,
            source,
            options.pop("seeds", seeds),
            **options,
        )

    return run


@pytest.fixture
def alive_only():
    return AliveOnly()


@pytest.fixture
def world_without_watch_task():
    return TinyWorld(tasks=("click", "long_view", "hide"))


@pytest.fixture
def constant():
    return Constant


@pytest.fixture
def evaluation():
    return EvaluationConfig(num_sessions=200)


@pytest.fixture
def entries(play, evaluation):
    """A world in which the policy is better, and the simulator that it trained in."""
    arms = {"random": play("random"), "ranker": play("middle"), "policy": play("best")}
    worse = {"ranker": play("best"), "policy": play("middle")}
    return [
        environment_entry("tiny world", "world", arms, evaluation),
        environment_entry("ensemble", "simulator", worse, evaluation),
    ]


@pytest.fixture
def strips(world, play, seeds):
    """What a page shows of single sessions; the policy is `best`, its baseline `middle`."""
    outcomes = {"policy": play("best"), "ranker": play("middle")}
    arms = {
        name: Arm(policy=POLICIES[policy], candidates=AllItems())
        for name, policy in (("policy", "best"), ("ranker", "middle"))
    }
    return outcomes, strips_of(world, arms, outcomes, ("policy", "ranker"), seeds)


@pytest.fixture
def report(entries, evaluation, strips):
    entries[0]["strips"] = strips[1]
    curve = [
        {"env_steps": 0, "round": 0, "simulator_return": 5.0, "world_return": 4.0},
        {"env_steps": 500, "round": 0, "simulator_return": 9.0, "world_return": None},
        {"env_steps": 1000, "round": 1, "simulator_return": 12.0, "world_return": 6.5},
    ]
    bins = [
        {"predicted": 0.1, "observed": 0.12, "n": 50},
        {"predicted": 0.6, "observed": 0.5, "n": 50},
    ]
    return build_report(
        seed=3,
        environments=entries,
        evaluation=evaluation,
        gate=GateConfig(),
        step0_parity={"max_rank_difference": 0, "max_score_difference": 1e-7, "num_states": 64},
        learning_curve=curve,
        calibration={"watch_10s": {"bins": bins, "ece": 0.06}},
        ranker={"watch_10s": {"auc": 0.76, "log_loss": 0.55}, "hide": {"auc": 0.61}},
        fidelity={"depth_ks": 0.04, "per_task": {"watch_10s": 0.01}},
        power={"tiny world": "200 sessions find a lift of 3.1% or more four times in five"},
        data={
            "num_events": 61_234,
            "num_sessions": 4_321,
            "num_users": 3_210,
            "first_day": "2026-11-01",
            "last_day": "2026-11-14",
        },
        pool={
            "num_items": 10_000,
            "num_candidates": 64,
            "num_nearest": 32,
            "num_fresh": 4,
            "num_generated": 0,
        },
    )
