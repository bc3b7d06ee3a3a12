"""The second algorithm: it begins as the ranker, repeats itself, and resumes."""

from typing import Any

import pytest
import torch

from recomind.errors import ConfigError
from recomind.training.actor_critic.algorithm import SessionActorCriticConfig
from recomind.training.actor_critic.config import ActorCriticConfig
from recomind.training.config import TrainingConfig
from recomind.training.target import trainable
from tests.training.runs import built, interrupted, same, trained, weights
from tests.training.tiny import PROBLEM
from tests.training.trap import TRAP, TrapNetwork

pytestmark = pytest.mark.usefixtures("ray_cluster")


def settings(soft: dict[str, Any] | None = None, **changes: Any) -> TrainingConfig:
    small: dict[str, Any] = {
        "algorithm": "actor_critic",
        "actor_critic": ActorCriticConfig(**({"warmup_rollouts": 1} | (soft or {}))),
        "num_env_steps": 1200,
        "steps_per_iteration": 300,
        "num_sessions": 16,
        "rollout_length": 6,
        "batch_size": 32,
        "replay_capacity": 800,
        "learning_starts": 0,
        "support_ratio": 0.5,
        "restart_runners": False,
    }
    return TrainingConfig(**(small | changes))


def build(seed: int = 0, problem=TRAP, **changes: Any):  # a SessionActorCritic
    config = SessionActorCriticConfig()
    return built(config.session(problem=problem, settings=settings(**changes), seed=seed))


def test_same_seed_same_weights_other_seed_others():
    first = trained(build, 2, seed=7)
    assert same(first, trained(build, 2, seed=7))
    assert not same(first, trained(build, 2, seed=8))


def test_ranks_as_the_ranker_until_the_critic_is_warm():
    with build(soft={"warmup_rollouts": 1000}) as algorithm:
        head = algorithm.learner.session_module.head
        before = head.out.bias.detach().clone()
        algorithm.train()
        assert algorithm.num_updates > 0
        assert same(weights(algorithm), dict(trainable(TrapNetwork())))
        assert not torch.equal(head.out.bias, before)
        assert algorithm.report["kl"] == 0.0
        state = algorithm.runner.environment.reset(8, torch.Generator().manual_seed(0))
        q, utility = algorithm.trained_network().q_values(state, torch.arange(6).expand(8, 6))
        assert torch.equal(q, utility)


def test_acts_by_the_softmax_and_keeps_the_pool_that_it_drew_from():
    with build(support_ratio=0.65) as algorithm:
        (rows,) = algorithm._simulate()
    mask, log_propensity = rows.columns["pool_mask"], rows.columns["log_propensity"]
    assert mask.shape[-1] == 6
    assert 0 < int(mask.sum()) < mask.numel()
    assert bool((log_propensity < 0).all())
    shown = rows.columns["pool_item_id"] == rows.columns["item_id"][..., None]
    assert bool((shown & mask).any(-1).all())


def test_learns_from_every_event_in_every_epoch():
    with build(soft={"num_epochs": 3}, batch_size=16) as algorithm:
        seen: list[int] = []
        update = algorithm.learner_group.update
        algorithm._remember(algorithm._simulate())
        num = len(algorithm._judged(algorithm._rollouts))
        algorithm.learner_group.update = lambda **kwargs: seen.append(kwargs["batch"].env_steps())
        algorithm._learn()
        algorithm.learner_group.update = update
        assert seen == [16] * (3 * (num // 16))


@pytest.mark.parametrize("through", ["ours", "rllib"])
def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path, through):
    assert same(interrupted(build, tmp_path, through), trained(build, 4))


def test_reports_what_its_loss_says():
    with build() as algorithm:
        algorithm.train()
        report = algorithm.report
        assert 0.0 < report["entropy"] < 1.8
        assert report["value_loss"] > 0.0
        assert report["updates"] == algorithm.num_updates > 0


def test_a_network_that_hides_its_states_is_refused():
    message = "needs an encoding of the state; got: TinyNetwork"
    with pytest.raises(ConfigError, match=message), build(problem=PROBLEM):
        pass


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Train's use of Ray Data
def test_learners_and_runners_elsewhere_judge_with_the_weights_of_now():
    with build(num_learners=1, num_runners=1) as algorithm:
        algorithm.train()
        network, head = algorithm._critic()
        held = algorithm._weights(inference_only=False)
        for name, value in trainable(network).items():
            assert torch.equal(value.detach(), torch.tensor(held["network"][name]))
        assert float(head.out.bias.detach()) == float(held["head"]["out.bias"][0]) != 0.0
        assert not same(weights(algorithm), dict(trainable(TrapNetwork())))
