"""The single-session view is an environment that Stable-Baselines3 accepts, and learns in."""

from __future__ import annotations

from functools import partial

import gymnasium as gym
import pytest
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.env_checker import check_env

from recomind.candidates import CandidatePool, CandidatesConfig
from recomind.simulation import SessionEnv
from simulators.gym.world import GymWorld
from simulators.video_feed.world import VideoFeed

NUM_ITEMS, NUM_SLOTS, NUM_STEPS = 50, 8, 256
Pool = partial(
    CandidatePool,
    CandidatesConfig(num_candidates=NUM_SLOTS, num_nearest=0, num_fresh=0, exclude_recent=0),
    NUM_ITEMS,
)
WORLDS = {
    "video_feed": partial(VideoFeed, num_items=NUM_ITEMS, horizon=6, history_length=10),
    "gym": partial(
        GymWorld, env_id="tests.simulators.bored_env:Bored-v0", horizon=6, history_length=10
    ),
}


def session_env(name: str) -> gym.Env:
    env = gym.make("recomind/Session-v0", environment=WORLDS[name], candidates=Pool)
    assert isinstance(env.unwrapped, SessionEnv)
    return env


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOMIND_ALLOWED_TARGETS", "tests")


@pytest.mark.filterwarnings("ignore:Your observation candidate_.* has an unconventional shape")
@pytest.mark.parametrize("name", list(WORLDS))
def test_passes_the_check_of_stable_baselines(name):
    check_env(session_env(name), warn=True)


@pytest.mark.parametrize("name", list(WORLDS))
def test_an_agent_trains_in_it(name):
    env = session_env(name)
    agent = DQN(
        "MultiInputPolicy",
        env,
        seed=0,
        device="cpu",
        learning_starts=32,
        buffer_size=512,
        batch_size=32,
        policy_kwargs={"net_arch": [16]},
    )
    before = {key: value.clone() for key, value in agent.policy.state_dict().items()}
    agent.learn(NUM_STEPS)
    assert agent.num_timesteps == NUM_STEPS
    after = agent.policy.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    assert agent.replay_buffer is not None
    assert float(agent.replay_buffer.rewards[:NUM_STEPS].sum()) > 0
    observation, _ = env.reset(seed=1)
    action, _ = agent.predict(observation, deterministic=True)
    assert env.action_space.contains(action.item())
