"""Findings about a world: contract violations, and what is allowed but rarely intended.

for finding in check_world(MyWorld()):
    print(finding)  # error, warning or note, one per line
"""

# Torch's stubs leave the types of some members open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from recomind.candidates import CandidatePool, CandidatesConfig
from recomind.errors import RecomindError, require
from recomind.findings import Finding, Level, finding
from recomind.simulation.check import Event, broken_promises, run_sessions
from recomind.simulation.environment import World
from recomind.streams import LANE_ACT, make_generator
from recomind.types import SessionEnvironment

_LARGE = 20.0  # absolute value above which a feature is not standardised
_NUM_SESSIONS, _NUM_CANDIDATES = 13, 16
_NUM_ITEMS = 1000  # items whose features are checked


def check_world(env: SessionEnvironment, seed: int = 0) -> list[Finding]:
    """Check everything that other rooms rely on, and what a run would reveal too late.

    Args:
        env: a world or a simulator; it is reset, and left at some step.
        seed: selects the sessions.

    Returns:
        Findings; none of level error where all is well. If a step itself is wrong or cannot be
        repeated, that error is the only one, since nothing else can be checked.
    """
    return list(_findings(env, seed))


def _findings(env: SessionEnvironment, seed: int) -> Iterator[Finding]:
    broken = [Finding(Level.error, error) for error in broken_promises(env, seed)]
    yield from broken
    try:
        run = run_sessions(env, seed)
        _check_names(env, run)
        if isinstance(env, World):
            _check_logging(env, seed)
    except RecomindError as error:
        if not broken:
            yield Finding(Level.error, error)
        return
    yield from _ends(env, run)
    yield from _tasks(env, run)
    yield from _features(run)
    yield from _items(env)
    yield from getattr(env, "remarks", list)()


def _check_names(env: SessionEnvironment, run: list[Event]) -> None:
    require(len(set(env.tasks)) == len(env.tasks) > 0, "tasks must be distinct names", env.tasks)
    if isinstance(env, World):
        names, width = list(env.user_feature_names), run[0].before.user_features.shape[1]
        require(
            len(set(names)) == len(names) == width,
            "user_feature_names must name each user feature once",
            names,
            f"{width} names",
        )


def _check_logging(world: World, seed: int) -> None:
    """The logging policy must choose from the pool and return the propensity of its choice."""
    policy = world.logging_policy()
    config = CandidatesConfig(num_candidates=_NUM_CANDIDATES, num_nearest=0, num_fresh=0)
    state = world.reset(_NUM_SESSIONS, make_generator(seed))
    pool = CandidatePool(config, world.catalogue.num_items).candidates(state, world.streams)
    decision = policy.act(state, pool, world.streams.uniform(state.step, 4, LANE_ACT))
    offered = (pool.item_id == decision.item_id[:, None]) & pool.mask
    require(
        bool(offered.any(1).all()),
        "the logging policy chose an item that was not a candidate",
        decision.item_id.tolist(),
        mend="choose a slot where the candidates' mask is True",
    )
    log = decision.log_propensity
    require(
        bool(torch.isfinite(log).all()) and bool((log <= 1e-6).all()),
        "a log-propensity of the logging policy is not one",
        log.tolist(),
        "finite and <= 0",
        mend="decide with recomind.policy.decide, whose propensities are exact",
    )


def _ends(env: SessionEnvironment, run: list[Event]) -> Iterator[Finding]:
    depth_B = torch.stack([event.step.valid for event in run]).sum(0).double()
    left = torch.stack([event.step.terminated for event in run]).any(0)
    if not bool(left.any()):
        yield finding(
            Level.warning,
            "nobody leaves: every session was truncated",
            f"{len(left)} sessions of {depth_B.mean():.1f} steps, horizon {env.horizon}",
            mend="a leave model cannot be learned from such logs; raise the horizon if users "
            "leave later, and continue if they never do",
        )
    if bool((depth_B == 1).all()) and env.horizon > 1:
        yield finding(Level.warning, "every session has one step, so nothing can be planned")
    yield finding(
        Level.note,
        f"{len(left)} sessions of random items: {depth_B.mean():.1f} steps on average, "
        f"{int(left.sum())} left by the user",
    )


def _tasks(env: SessionEnvironment, run: list[Event]) -> Iterator[Finding]:
    valid = torch.cat([event.step.valid for event in run])
    feedback_EH = torch.cat([event.step.response.feedback for event in run])[valid]
    rewards = torch.cat([event.step.reward for event in run])[valid]
    shares = feedback_EH.double().mean(0).tolist()
    for task, weight, share in zip(env.tasks, env.reward_weights_H, shares, strict=True):
        if bool(weight) and share in (0.0, 1.0):
            yield finding(
                Level.warning,
                f"task {task!r} {'always' if share else 'never'} happens",
                f"in {len(feedback_EH)} random events",
                mend="a ranker learns nothing from it; give the task another meaning",
            )
    if bool((rewards == rewards[0]).all()):
        yield finding(
            Level.warning,
            "the reward is the same whatever is shown",
            float(rewards[0]),
            mend="weigh the tasks that tell items apart (ranker.utility_weights)",
        )


def _features(run: list[Event]) -> Iterator[Finding]:
    seen_EU: Tensor = torch.cat([event.before.user_features for event in run])
    largest = float(seen_EU.abs().max()) if seen_EU.numel() else 0.0
    if largest > _LARGE:
        yield finding(
            Level.warning,
            "user features are not standardised",
            f"up to {largest:.4g}",
            "mean 0 and standard deviation 1, or near that",
        )


def _items(env: SessionEnvironment) -> Iterator[Finding]:
    catalogue = env.catalogue
    few = torch.linspace(0, catalogue.num_items - 1, min(_NUM_ITEMS, catalogue.num_items)).long()
    dense_NF = catalogue.features(few).dense
    if bool((dense_NF == dense_NF[:1]).all()):
        yield finding(
            Level.warning,
            "the dense features of all items are the same",
            mend="the models of leaving and of fatigue see only the dense features of items: put "
            "there what tires users, such as a category as 0 and 1; simulation.item_effects=true "
            "learns an effect for each item",
        )
    largest = float(dense_NF.abs().max()) if dense_NF.numel() else 0.0
    if largest > _LARGE:
        worst = int(dense_NF.abs().amax(0).argmax())
        yield finding(
            Level.warning,
            "item features are not standardised",
            f"{catalogue.dense_names[worst]!r} up to {largest:.4g}",
            "mean 0 and standard deviation 1, or near that",
        )
