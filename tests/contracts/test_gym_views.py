"""The Gymnasium views run what the environment runs, and keep Gymnasium's own contract."""

from __future__ import annotations

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from recomind.candidates import CandidatePool, CandidatesConfig
from recomind.errors import RecomindError, SchemaError
from recomind.simulation import SessionEnv, SessionVectorEnv
from recomind.streams import make_generator
from recomind.types import Candidates
from simulators.video_feed.world import VideoFeed

NUM_ITEMS, NUM_SLOTS = 200, 8
World = partial(VideoFeed, num_items=NUM_ITEMS, horizon=6, history_length=10, warm_events=4)
Pool = partial(
    CandidatePool,
    CandidatesConfig(num_candidates=NUM_SLOTS, num_nearest=0, num_fresh=0),
    NUM_ITEMS,
)


class PaddedPool:
    """Items 5 to 8; the first slot and the last are padding."""

    def candidates(self, state, streams):
        num = len(state.step)
        mask = torch.tensor([False, True, True, False]).expand(num, 4)
        item_id = torch.tensor([0, 6, 7, 0]).expand(num, 4)
        return Candidates(
            item_id=item_id, mask=mask, log_propensity=torch.zeros(num, 4), batch_size=[num]
        )


@pytest.mark.filterwarnings("ignore:.*A Box observation space m.* is .*infinity")
def test_passes_gymnasiums_check_through_the_registry():
    env = gym.make("recomind/Session-v0", environment=World, candidates=Pool)
    assert isinstance(env.unwrapped, SessionEnv)
    check_env(env.unwrapped)


def test_vector_view_is_made_through_the_registry():
    envs = gym.make_vec(
        "recomind/Session-v0",
        num_envs=3,
        vectorization_mode="vector_entry_point",
        environment=World,
        candidates=Pool,
    )
    observation, _ = envs.reset(seed=0)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert envs.observation_space.contains(observation)
    assert observation["candidate_dense"].shape == (3, NUM_SLOTS, 3)
    assert observation["candidate_categorical"].shape == (3, NUM_SLOTS, 2)


def rewards_of(envs, seed, num_steps=20):
    envs.reset(seed=seed)
    envs.action_space.seed(5)
    return np.stack([envs.step(envs.action_space.sample())[1] for _ in range(num_steps)])


def test_seed_decides_the_sessions():
    envs = SessionVectorEnv(World, Pool, num_envs=8)
    first = rewards_of(envs, 3)
    assert np.array_equal(first, rewards_of(envs, 3))
    assert not np.array_equal(first, rewards_of(envs, 4))


def test_without_a_seed_other_sessions_follow():
    envs = SessionVectorEnv(World, Pool, num_envs=4)
    one, _ = envs.reset(seed=3)
    two, _ = envs.reset()
    assert not np.array_equal(one["state"], two["state"])


def test_vector_view_shows_the_items_of_the_slots_to_the_environment():
    envs, world, pool = SessionVectorEnv(World, Pool, num_envs=4), World(), Pool()
    envs.reset(seed=3)
    drawn = int(np.random.Generator(np.random.PCG64(np.random.SeedSequence(3))).integers(2**62))
    state = world.reset(4, make_generator(drawn), auto_reset=True)
    for _ in range(10):
        pools = pool.candidates(state, world.streams)
        slots = pools.mask.int().argmax(1).numpy()  # the pool leaves out what was seen lately
        item_id = pools.item_id[torch.arange(4), slots]
        expected = world.step(item_id)
        _, reward, terminated, truncated, infos = envs.step(slots)
        assert np.array_equal(infos["item_id"], item_id)
        assert np.array_equal(infos["_item_id"], expected.valid)
        assert np.array_equal(infos["feedback"], expected.response.feedback)
        assert np.array_equal(reward, expected.reward)
        assert np.array_equal(terminated, expected.terminated)
        assert np.array_equal(truncated, expected.truncated)
        state = expected.state


def test_the_step_after_an_end_begins_a_session():
    envs = SessionVectorEnv(World, Pool, num_envs=16)
    envs.reset(seed=0)
    ended, num_ends = np.zeros(16, bool), 0
    for _ in range(15):
        _, reward, terminated, truncated, infos = envs.step(np.zeros(16, np.int64))
        assert np.array_equal(infos["_dwell_s"], ~ended)
        assert not reward[ended].any()
        assert not (terminated | truncated)[ended].any()
        ended = terminated | truncated
        num_ends += ended.sum()
    assert num_ends > 16


def test_a_padding_slot_means_the_first_real_one():
    env = SessionEnv(World, PaddedPool)
    observation, _ = env.reset(seed=0)
    assert observation["candidate_mask"].tolist() == [0, 1, 1, 0]
    shown = []
    for action in (0, 1, 2, 3):
        env.reset(seed=0)
        shown.append(int(env.step(np.int64(action))[4]["item_id"]))
    assert shown == [6, 6, 7, 6]


@pytest.mark.parametrize("action", [-1, 4])
def test_a_slot_that_is_not_there_is_refused(action):
    env = SessionEnv(World, PaddedPool)
    env.reset(seed=0)
    with pytest.raises(
        SchemaError, match=rf"no such slot; got: \[{action}\]; expected: in \[0, 4\)"
    ):
        env.step(np.int64(action))


def test_an_ended_session_takes_no_step():
    env = SessionEnv(partial(World, horizon=1), Pool)
    with pytest.raises(RecomindError, match=r"no session is running.*reset"):
        env.step(np.int64(0))
    env.reset(seed=0)
    *_, terminated, truncated, _ = env.step(np.int64(0))
    assert terminated != truncated
    with pytest.raises(RecomindError, match="no session is running"):
        env.step(np.int64(0))
