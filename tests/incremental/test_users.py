"""The layers over the user are the same where their static part is kept."""

from __future__ import annotations

import pytest
import torch

from recomind.incremental.users import RunningUsers
from recomind.ranker.history import state_parts
from recomind.ranker.numbers import PiecewiseLinear
from recomind.streams import make_generator
from tests.incremental.test_encodings import NUM, items, make_ranker, make_world

TOLERANCE = 5e-6  # sums of 400 terms, in another order


def fitted_ranker():
    """Bins like those of data, no two features alike."""
    ranker, generator = make_ranker(), make_generator(3)
    rows = torch.randn(500, ranker.users.num_features, generator=generator) * 2 + 0.5
    ranker.users.fit(rows)
    return ranker


def compare(users, state):
    pooled = torch.randn(len(state.step), 6 * users.ranker.config.dim, generator=make_generator(1))
    parts = state_parts(state)
    ours, plain = users(state, pooled, parts), users.ranker._over_users(state, pooled, parts)
    sizes = [float(((a - b).abs() / (1 + b.abs())).max()) for a, b in zip(ours, plain, strict=True)]
    return max(sizes)


@torch.no_grad()
def test_sessions_that_run_on_and_restart_are_those_of_the_plain_layers():
    users, world = RunningUsers(fitted_ranker()), make_world()
    computed, of_features = [], users._of_features

    def counted(features_nU):
        computed.append(len(features_nU))
        return of_features(features_nU)

    users._of_features = counted
    state = world.reset(NUM, make_generator(0), auto_reset=True)
    for step in range(60):
        assert compare(users, state) < TOLERANCE
        state = world.step(items(step)).state
    assert NUM < sum(computed) < 60 * NUM / 3  # of users that begin alone


@torch.no_grad()
@pytest.mark.parametrize("what", ["features", "row", "state.0", "wide_user", "bins"])
def test_what_changed_is_seen_at_once(what):
    ranker = fitted_ranker()
    users, state = RunningUsers(ranker), make_world().reset(NUM, make_generator(0))
    compare(users, state)
    match what:
        case "features":
            state.user_features.add_(1.0)
        case "row":
            state.user_features = state.user_features.clone()
            state.user_features[3] -= 1.0
        case "bins":
            ranker.users.get_buffer("low").add_(0.3)
        case _:
            ranker.get_parameter(f"{what}.weight").mul_(1.7)
    assert compare(users, state) < TOLERANCE


def test_some_features_are_encoded_as_among_all():
    users, values = PiecewiseLinear(4, 3), torch.randn(20, 4, generator=make_generator(0))
    users.fit(values)
    some = [2, 0]
    assert torch.equal(users.only(some)(values[:, some]), users(values)[:, users.columns(some)])
