"""Checks of what a session remembers: that it can be stored, and that nothing hidden shows.

Part of `recomind.simulation.check`.
"""

# Torch's stubs leave the types of some members open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import torch
from torch import Tensor

from recomind.errors import require
from recomind.simulation.environment import Hidden
from recomind.simulation.states import state_tensors
from recomind.streams import LANE_ACT, SessionStreams, make_generator
from recomind.types import SessionEnvironment, Step

NUM_SESSIONS = 13
_CHANGE, _LEAK = 1e-6, 0.999999  # least change that counts; correlation that is no coincidence
_SECONDS_TOLERANCE = 1e-3  # a network's sums depend a little on the size of the batch


def random_items(env: SessionEnvironment, streams: SessionStreams, index: int) -> Tensor:
    """[B] int64: the items shown at step `index`, independent of what happened before."""
    draw = streams.uniform(torch.full_like(streams.seeds, index), 1, LANE_ACT)[:, 0]
    return (draw.double() * env.catalogue.num_items).long()


def check_resumes(env: SessionEnvironment, *, seed: int) -> None:
    """Sessions restored from `get_state` midway end as they would have."""
    env.reset(NUM_SESSIONS, make_generator(seed), auto_reset=True)
    streams, middle = SessionStreams(torch.arange(NUM_SESSIONS)), max(1, env.horizon // 3)
    items = [random_items(env, streams, index) for index in range(middle + env.horizon)]
    for item_id in items[:middle]:
        env.step(item_id)
    held = {name: value.clone() for name, value in env.get_state().items()}
    first = [_flat(env.step(item_id)) for item_id in items[middle:]]
    env.set_state(held)
    for index, (item_id, expected) in enumerate(zip(items[middle:], first, strict=True)):
        got = _flat(env.step(item_id))
        differing = [name for name, value in expected.items() if not equal(value, got[name])]
        require(
            not differing,
            f"set_state(get_state()) does not continue as the sessions did, {index} steps later",
            f"other {', '.join(differing)}",
            mend="keep all state of a session in `hidden`, none in attributes",
        )


def _flat(step: Step) -> dict[str, Tensor]:
    response = {"feedback": step.response.feedback, "dwell_s": step.response.dwell_s}
    ends = {"terminated": step.terminated, "truncated": step.truncated, "valid": step.valid}
    return response | ends | {f"state.{k}": v for k, v in state_tensors(step.state).items()}


def equal(ours: Tensor, other: Tensor) -> bool:
    """Whether two tensors agree, up to the differences between batches of different size."""
    if ours.is_floating_point():
        return torch.allclose(ours, other, rtol=_SECONDS_TOLERANCE, atol=_SECONDS_TOLERANCE)
    return torch.equal(ours, other)


def check_hidden(env: SessionEnvironment, *, seed: int) -> None:
    """No user feature may equal, up to scale, a hidden quantity that changes in a session.

    Checked where the environment has `hidden`, as `BatchedSessions` has.
    """
    if not hasattr(env, "hidden"):
        return
    state = env.reset(NUM_SESSIONS, make_generator(seed))
    streams, seen, hidden = SessionStreams(torch.arange(NUM_SESSIONS)), [], []
    columns: dict[str, Tensor] = {}
    for index in range(env.horizon):
        real = {k: v for k, v in _hidden_of(env).items() if v.is_floating_point()}
        columns = {k: v.reshape(NUM_SESSIONS, -1) for k, v in sorted(real.items())}
        seen.append(state.user_features)
        hidden.append(torch.cat([torch.zeros(NUM_SESSIONS, 0), *columns.values()], dim=1))
        state = env.step(random_items(env, streams, index)).state
    names = [f"{k}[{i}]" for k, v in columns.items() for i in range(v.shape[1])]
    seen_U, hidden_D = torch.stack(seen).double(), torch.stack(hidden).double()
    changes_D = (hidden_D - hidden_D[:1]).abs().amax((0, 1)) > _CHANGE
    for index in changes_D.nonzero()[:, 0].tolist():
        alike = _correlation(seen_U.flatten(0, 1), hidden_D[..., index].flatten()) > _LEAK
        require(
            not bool(alike.any()),
            f"the hidden {names[index]} shows in the user features",
            f"column {int(alike.int().argmax())} of state.user_features follows it exactly",
            "features that a production log could hold",
        )


def _hidden_of(env: SessionEnvironment) -> Hidden:
    return getattr(env, "hidden", {})


def _correlation(columns_SU: Tensor, other_S: Tensor) -> Tensor:
    """[U] float64: absolute correlation; 0 for constant columns."""
    columns_SU, other_S = columns_SU - columns_SU.mean(0), other_S - other_S.mean()
    norm_U = columns_SU.norm(dim=0) * other_S.norm()
    product_U = (columns_SU * other_S[:, None]).sum(0).abs()
    return torch.where(norm_U > 0, product_U / norm_U.clamp(min=1e-30), 0.0)
