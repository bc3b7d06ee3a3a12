import pytest

from recomind.errors import ConfigError
from recomind.training.actor_critic.config import ActorCriticConfig
from recomind.training.config import TrainingConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gamma": 1.0}, r"training.gamma.*got: 1.0.*\[0, 1\)"),
        ({"gamma": -0.1}, "training.gamma"),
        ({"n_step": 0}, "training.n_step.*>= 1"),
        ({"learning_rate": 0.0}, "training.learning_rate"),
        ({"max_grad_norm": 0.0}, "training.max_grad_norm"),
        ({"epsilon_start": 1.5}, "training.epsilon_start"),
        ({"epsilon_end": -0.5}, "training.epsilon_end"),
        ({"temperature": 0.0}, "training.temperature.*> 0"),
        ({"support_ratio": 1.1}, "training.support_ratio"),
        ({"num_env_steps": -1}, "training.num_env_steps"),
        ({"num_runners": -1}, "training.num_runners"),
        ({"target_subset_size": -1}, "training.target_subset_size"),
        ({"checkpoint_every": 0}, "training.checkpoint_every"),
        ({"batch_size": 200_000}, "training.batch_size.*<= replay_capacity"),
        ({"batch_size": 255, "num_learners": 2}, "multiple of num_learners"),
        ({"learning_starts": 200_000}, "training.learning_starts"),
        ({"replay_capacity": 1000, "learning_starts": 0}, "replay_capacity.*1280"),
        ({"device": "tpu"}, "training.device"),
        ({"algorithm": "sarsa"}, "training.algorithm.*'dqn', 'actor_critic'"),
        ({"prioritised": 1.5}, "training.prioritised"),
        ({"prioritised_beta": -0.1}, "training.prioritised_beta"),
        ({"rollout_length": 400}, "training.rollout_length.*390"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, r"training.actor_critic.temperature.*got: 0.0.*> 0"),
        ({"clip_ratio": -0.2}, "training.actor_critic.clip_ratio"),
        ({"top_k": 0}, "training.actor_critic.top_k"),
        ({"kl_coefficient": -1.0}, "training.actor_critic.kl_coefficient"),
        ({"gae_lambda": 1.1}, "training.actor_critic.gae_lambda"),
    ],
)
def test_bad_settings_of_the_actor_critic_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        ActorCriticConfig(**changes)


def test_importance_weights_end_whole():
    config = TrainingConfig(prioritised_beta=0.4, num_env_steps=1000)
    assert [round(config.importance(n), 6) for n in (0, 500, 1000, 5000)] == [0.4, 0.7, 1.0, 1.0]


def test_epsilon_falls_linearly_and_stays():
    config = TrainingConfig(epsilon_start=0.3, epsilon_end=0.1, num_env_steps=1000)
    assert [round(config.epsilon(n), 6) for n in (0, 500, 1000, 5000)] == [0.3, 0.2, 0.1, 0.1]


def test_runners_share_the_capacity():
    config = TrainingConfig(replay_capacity=4096, num_sessions=64, num_runners=2, batch_size=8)
    assert config.replay_rows == 32
