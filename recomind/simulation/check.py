"""The contract of an environment, as a check for whoever writes one.

    check_environment(MyWorld())    # silent, or a SchemaError that names the first violation
    broken_promises(MyWorld())      # all violations

Sessions are run with items drawn from the whole catalogue, without a policy. Checked are: fields,
shapes and types; histories; endings; the reward; that equal seeds give equal sessions, independent
of the rest of the batch; auto-reset; that `get_state` is complete; and that nothing hidden shows in
the user features.
"""

# Torch's stubs leave the types of some members open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from recomind.errors import RecomindError, SchemaError, require
from recomind.simulation.memory import (
    NUM_SESSIONS,
    check_hidden,
    check_resumes,
    equal,
    random_items,
)
from recomind.simulation.shapes import check_history, check_state, check_step
from recomind.simulation.states import state_tensors
from recomind.streams import SessionStreams, make_generator
from recomind.types import SessionEnvironment, SessionState, Step

_PARTS = (slice(0, 1), slice(3, 8))  # smaller batches in which sessions are run again
_NEEDED = (
    *("tasks", "catalogue", "horizon", "history_length", "reward_weights_H", "streams"),
    *("reset", "reset_to", "step", "get_state", "set_state"),
)


@dataclass(slots=True)
class Event:
    """One step of a run."""

    before: SessionState
    item_id: Tensor
    step: Step


def check_environment(env: SessionEnvironment, seed: int = 0) -> None:
    """Run sessions of `env` and check everything that other rooms rely on.

    Args:
        env: the world or simulator; it is reset, and left at some step.
        seed: selects the sessions.

    Raises:
        SchemaError: a promise is broken; the error says which, what was seen and expected.
    """
    for error in broken_promises(env, seed):
        raise error


def broken_promises(env: SessionEnvironment, seed: int = 0) -> Iterator[RecomindError]:
    """Like `check_environment`, but continue after a violation where more can be checked.

    An error in the steps themselves, or a session that cannot be repeated, is the only error:
    nothing else can be compared then.
    """
    try:
        run = _first_run(env, seed)
        _check_repeats(env, run, seed)
    except RecomindError as error:
        yield error
        return
    parts = partial(_check_parts, run=run)
    for check in (parts, _check_auto_reset, check_resumes, check_hidden):
        try:
            check(env, seed=seed)
        except RecomindError as error:
            yield error


def _first_run(env: SessionEnvironment, seed: int) -> list[Event]:
    missing = [name for name in _NEEDED if not hasattr(env, name)]
    require(
        not missing,
        "not a session environment: it lacks",
        missing,
        mend="see recomind.types",
    )
    run = run_sessions(env, seed)
    seeds = env.streams.seeds
    require(
        seeds.dtype == torch.int64 and len(seeds) == NUM_SESSIONS and len(seeds.unique()) > 1,
        "streams.seeds must hold a seed for each session",
        seeds.tolist(),
    )
    _check_ends(env, run)
    return run


def run_sessions(env: SessionEnvironment, seed: int) -> list[Event]:
    """Run some sessions with random items, and check each step.

    Raises:
        SchemaError: a step breaks the contract.
    """
    state = env.reset(NUM_SESSIONS, make_generator(seed))
    return list(_run(env, state, torch.arange(NUM_SESSIONS)))


def _check_repeats(env: SessionEnvironment, run: list[Event], seed: int) -> None:
    state = env.reset(NUM_SESSIONS, make_generator(seed))
    again = _run(env, state, torch.arange(NUM_SESSIONS))
    _check_same(run, again, slice(None), "the same generator gives different sessions")


def _check_parts(env: SessionEnvironment, *, run: list[Event], seed: int) -> None:
    env.reset(NUM_SESSIONS, make_generator(seed))
    seeds, sessions = env.streams.seeds, torch.arange(NUM_SESSIONS)
    for part in _PARTS:
        other = _run(env, env.reset_to(seeds[part]), sessions[part])
        _check_same(run, other, part, "a session depends on the others of its batch")


def _run(env: SessionEnvironment, state: SessionState, sessions: Tensor) -> Iterator[Event]:
    """Step until the horizon and once more, checking each step; `sessions` [B] picks the items."""
    streams, num = SessionStreams(sessions), len(sessions)
    check_state(env, state, num)
    require(bool((state.step == 0).all()), "a session begins at step 0", state.step.tolist())
    valid = torch.ones(num, dtype=torch.bool)
    for index in range(env.horizon + 1):
        item_id = random_items(env, streams, index)
        before = state.clone()
        step = env.step(item_id)
        _check_unchanged(before, state)
        check_step(env, step, num)
        _check_outcome(env, step, valid, first=index == 0)
        check_history(before, item_id, step)
        yield Event(before, item_id, step)
        state, valid = step.state, valid & ~(step.terminated | step.truncated)


def _check_unchanged(before: SessionState, after: SessionState) -> None:
    now = state_tensors(after)
    for name, value in state_tensors(before).items():
        if value.is_floating_point():
            same = torch.equal(value.nan_to_num(), now[name].nan_to_num())
        else:
            same = torch.equal(value, now[name])
        require(
            same,
            f"step() changed state.{name} of a state it had returned earlier",
            mend="write into a copy: a replay buffer may hold that state",
        )


def _check_outcome(
    env: SessionEnvironment, step: Step, valid: Tensor, *, first: bool = False
) -> None:
    """Endings and reward of a step, given which sessions had not ended before it."""
    require(
        bool(step.valid.all()) or not first,
        "a session without steps: it had ended before its first",
        step.valid.tolist(),
        mend="begin no session that is over; every user sees at least one item",
    )
    require(
        torch.equal(step.valid, valid),
        "valid must be False exactly where a session had ended",
        step.valid.tolist(),
        valid.tolist(),
    )
    ended = step.terminated | step.truncated
    require(not bool((step.terminated & step.truncated).any()), "terminated and truncated at once")
    require(not bool((ended & ~valid).any()), "a session ends twice")
    require(
        torch.equal(step.terminated, step.response.left & valid),
        "terminated must be True exactly where the user left",
        step.terminated.tolist(),
        step.response.left.tolist(),
    )
    _check_truncated(env, step, valid & ~step.terminated)
    expected = (step.response.feedback.float() @ env.reward_weights_H) * valid
    require(
        torch.allclose(step.reward, expected, atol=1e-5),
        "reward is not the weighted sum of the feedback (0 where not valid)",
        step.reward.tolist(),
        expected.tolist(),
    )


def _check_truncated(env: SessionEnvironment, step: Step, running: Tensor) -> None:
    """The horizon truncates every running session; before it, only `cuts_early` does."""
    over = running & (step.state.step >= env.horizon)
    require(
        not bool((over & ~step.truncated).any()),
        "truncated must be True where the horizon cut a session",
        step.truncated.tolist(),
    )
    early = step.truncated & ~over
    require(
        getattr(env, "cuts_early", False) or not bool(early.any()),
        "truncated before the horizon",
        step.truncated.tolist(),
        mend="return True from `cuts_early` if sessions may be cut early, and cut them in `_cut`",
    )


def _check_ends(env: SessionEnvironment, run: list[Event]) -> None:
    ends = torch.stack([event.step.terminated | event.step.truncated for event in run])
    open_B = ~ends.any(0)
    require(
        not bool(open_B.any()),
        "sessions do not end",
        f"{int(open_B.sum())} still run",
        f"an end after at most {env.horizon} steps",
    )


def _check_same(run: list[Event], other: Iterator[Event], part: slice, what: str) -> None:
    """The sessions `part` of `run` must equal those of `other`, up to their ends."""
    for index, (one, two) in enumerate(zip(run, other, strict=True)):
        valid = one.step.valid[part]
        for name, ours in _outcome(one).items():
            a, b = ours[part][valid], _outcome(two)[name][valid]
            if not equal(a, b):
                raise SchemaError(
                    f"{what}: {name} differs at step {index}",
                    got=b.tolist(),
                    expected=a.tolist(),
                    mend="draw all randomness from `streams` at `state.step`; in a Gymnasium "
                    "environment from `self.np_random`, which `reset(seed=...)` seeds",
                )


def _outcome(event: Event) -> dict[str, Tensor]:
    response = event.step.response
    before = {f"state.{name}": value for name, value in state_tensors(event.before).items()}
    return before | {
        "feedback": response.feedback,
        "dwell_s": response.dwell_s,
        "left": response.left,
        "truncated": event.step.truncated,
    }


def _check_auto_reset(env: SessionEnvironment, *, seed: int) -> None:
    """After its end a session must skip one step, which begins the next session."""
    state = env.reset(NUM_SESSIONS, make_generator(seed), auto_reset=True)
    ended = torch.zeros(NUM_SESSIONS, dtype=torch.bool)
    for _ in range(2 * env.horizon + 2):
        step = env.step(torch.zeros(NUM_SESSIONS, dtype=torch.int64))
        check_state(env, step.state, NUM_SESSIONS)
        require(
            torch.equal(step.valid, ~ended) and not bool(step.reward[ended].any()),
            "with auto_reset, the step after an end must be skipped: valid False, reward 0",
            step.valid.tolist(),
            (~ended).tolist(),
        )
        expected = torch.where(ended, 0, state.step + 1)
        require(
            torch.equal(step.state.step, expected),
            "with auto_reset, the step after an end must return a new session at step 0",
            step.state.step.tolist(),
            expected.tolist(),
        )
        state, ended = step.state, step.terminated | step.truncated
