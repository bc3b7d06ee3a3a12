"""Everything that takes a `SessionEnvironment` takes one that implements no more than that."""

from __future__ import annotations

import polars as pl
import torch

from recomind.evaluation.rollout import rollout
from recomind.policy import RandomPolicy
from recomind.simulation import SessionVectorEnv, check_environment, collect_sessions
from recomind.streams import draw_seeds, make_generator
from recomind.training.problem import SessionProblem
from recomind.training.sampler import SessionSampler
from recomind.types import QFunction, SessionEnvironment
from tests.contracts.delegate import Delegate
from tests.training.tiny import TinyNetwork, TinyPool, TinyWorld, settings


def delegate() -> Delegate:
    return Delegate(TinyWorld())


def test_the_contract_is_all_that_the_protocol_names() -> None:
    assert isinstance(delegate(), SessionEnvironment)
    assert isinstance(TinyWorld(), SessionEnvironment)
    assert isinstance(TinyNetwork(), QFunction)
    assert not isinstance(TinyPool(), SessionEnvironment)


def test_it_can_be_checked() -> None:
    check_environment(delegate())


def test_its_outcomes_are_those_of_the_world_behind_it() -> None:
    seeds = draw_seeds(40, make_generator(3))
    ours, theirs = (
        rollout(environment, RandomPolicy(), TinyPool(), seeds)
        for environment in (delegate(), TinyWorld())
    )
    assert torch.equal(ours.reward, theirs.reward)
    assert torch.equal(ours.depth, theirs.depth)


def test_its_logs_are_those_of_the_world_behind_it() -> None:
    frames: list[pl.DataFrame] = [
        collect_sessions(
            environment,
            RandomPolicy(),
            TinyPool(),
            num_sessions=20,
            generator=make_generator(3),
            user_feature_names=["a", "b"],
        )
        for environment in (delegate(), TinyWorld())
    ]
    assert frames[0].equals(frames[1])


def test_a_policy_is_simulated_in_it_as_in_the_world_behind_it() -> None:
    rows = [
        SessionSampler(
            SessionProblem(environment=make, candidates=TinyPool, network=TinyNetwork),
            settings(),
            seed=1,
        ).simulate()
        for make in (delegate, TinyWorld)
    ]
    assert rows[0].num_valid == rows[1].num_valid > 0
    assert torch.equal(rows[0].columns["item_id"], rows[1].columns["item_id"])


def test_it_has_a_gymnasium_view() -> None:
    view = SessionVectorEnv(delegate, TinyPool, num_envs=3)
    observation, _ = view.reset(seed=0)
    assert observation["candidate_mask"].shape == (3, 12)
