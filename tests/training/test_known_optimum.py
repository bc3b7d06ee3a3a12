"""Both learners reach an optimum that is known, where greed falls into a trap."""

from pathlib import Path
from typing import Any

import pytest
import torch

from recomind.evaluation.rollout import rollout
from recomind.policy import GREEDY, decide
from recomind.streams import draw_seeds, make_generator
from recomind.training.actor_critic.config import ActorCriticConfig
from recomind.training.config import TrainingConfig
from recomind.training.trainer import train_policy
from recomind.types import TrainableQFunction
from tests.training.trap import (
    CLICK,
    HORIZON,
    MOODS,
    TRAP,
    TrapNetwork,
    TrapPool,
    TrapWorld,
    optimum,
)

SHARED: dict[str, Any] = {
    "gamma": 0.99,
    "support_ratio": 0.0,
    "num_env_steps": 40_000,
    "steps_per_iteration": 20_000,
    "num_sessions": 64,
    "max_grad_norm": 10.0,
}
DQN: dict[str, Any] = SHARED | {
    "learning_rate": 1e-2,
    "n_step": 1,
    "batch_size": 128,
    "env_steps_per_update": 32,
    "replay_capacity": 20_000,
    "learning_starts": 1000,
    "target_subset_size": 0,
    "target_rate": 0.02,
    "subset_size": 1,
    "epsilon_start": 1.0,
    "epsilon_end": 0.2,
}
ACTOR_CRITIC: dict[str, Any] = SHARED | {
    "algorithm": "actor_critic",
    "batch_size": 128,
    "replay_capacity": 2000,
    "learning_starts": 0,
    "rollout_length": 16,
    "target_rate": 0.05,
}
SOFTMAX: dict[str, Any] = {
    "temperature": 0.1,
    "kl_coefficient": 0.001,
    "learning_rate": 5e-3,
    "value_learning_rate": 1e-2,
    "num_epochs": 3,
}


class Greedy:
    """The network's first choice."""

    def __init__(self, network: Any) -> None:
        self.network = network

    @torch.no_grad()
    def act(self, state, candidates, uniforms):
        q, _ = self.network.q_values(state, candidates.item_id)
        return decide(q, candidates.mask, candidates, uniforms, GREEDY)


def true_value(network: TrainableQFunction) -> float:
    """Exact expected sum of clicks of the network's greedy policy, by walking its moods."""
    world, total, mood = TrapWorld(), 0.0, MOODS - 1
    state = world.reset(1, make_generator(0))
    pool = TrapPool().candidates(state, world.streams)
    for _ in range(HORIZON):
        item = Greedy(network).act(state, pool, torch.full((1, 4), 0.5)).item_id
        total += float(CLICK[int(item), mood])
        step = world.step(item)
        if bool(step.terminated):
            break
        state, mood = step.state, int(world.hidden["mood"])
    return total


def train(folder: Path, changes: dict[str, Any], seed: int = 0) -> TrainableQFunction:
    return train_policy(
        TRAP,
        TrainingConfig(**changes),
        seed=seed,
        checkpoint_dir=folder,
        on_iteration=lambda report: None,
    )


def test_the_world_is_a_trap():
    best = float(optimum()[0][0, MOODS - 1])
    greedy = true_value(TrapNetwork())
    assert greedy == pytest.approx(0.9 + 0.7 + 0.5)
    assert greedy < 0.5 * best
    assert optimum()[1].unique().numel() > 1  # no kind is right in every mood
    seeds = draw_seeds(4000, make_generator(1))
    sampled = rollout(TrapWorld(), Greedy(TrapNetwork()), TrapPool(), seeds).reward.mean()
    assert float(sampled) == pytest.approx(greedy, abs=0.05)


@pytest.mark.parametrize("priority", [0.0, 0.6])
def test_q_learning_reaches_the_optimum(tmp_path, priority):
    network = train(tmp_path, DQN | {"prioritised": priority})
    assert true_value(network) == pytest.approx(float(optimum()[0][0, MOODS - 1]), rel=0.02)


def test_the_actor_critic_reaches_the_optimum(tmp_path):
    changes = ACTOR_CRITIC | {"actor_critic": ActorCriticConfig(**SOFTMAX)}
    network = train(tmp_path, changes)
    assert true_value(network) == pytest.approx(float(optimum()[0][0, MOODS - 1]), rel=0.02)


def test_a_large_kl_coefficient_keeps_the_ranker(tmp_path):
    soft: dict[str, Any] = SOFTMAX | {"kl_coefficient": 1000.0}
    held_back = ActorCriticConfig(**soft)
    changes = ACTOR_CRITIC | {"actor_critic": held_back, "num_env_steps": 10_000}
    assert true_value(train(tmp_path, changes)) == pytest.approx(true_value(TrapNetwork()))
