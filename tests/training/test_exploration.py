"""Training explores as its settings say, with the propensities of that kind."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from recomind.candidates import ExplorationKind
from recomind.errors import ConfigError
from recomind.policy import RankerPolicy
from recomind.training.sampler import SessionSampler
from recomind.types import SessionState
from tests.training.tiny import CLICK, PROBLEM, settings

TASKS = ("click", "like")


class Opinion:
    """A ranker that knows the click rates but for one item that it overrates."""

    tasks: tuple[str, ...] = TASKS

    def __init__(self, overrated: int) -> None:
        rate = CLICK.clone()
        rate[overrated] = 0.999
        self.logit = rate.logit()

    def encode_state(self, state: SessionState, snapshot: Tensor | None = None) -> None:
        """Nothing: states are all alike to it."""

    def score(self, encoding: None, item_id: Tensor, snapshot: Tensor | None = None) -> Tensor:
        return torch.stack([self.logit[item_id], torch.zeros(item_id.shape)], 2)


def members() -> RankerPolicy:
    return RankerPolicy([Opinion(item) for item in (3, 5, 7)], {"click": 1.0})


def rows_of(kind: ExplorationKind, **changes) -> tuple[Tensor, Tensor]:
    """Items and log-propensities of the valid events of some rollouts."""
    training = settings(exploration=kind, support_ratio=0.0, num_sessions=64, **changes)
    sampler = SessionSampler(dataclasses.replace(PROBLEM, members=members), training, seed=3)
    columns = sampler.simulate().columns
    valid = columns["valid"]
    return columns["item_id"][valid], columns["log_propensity"][valid]


def test_members_are_followed_in_their_share():
    item_id, log_propensity = rows_of(ExplorationKind.ensemble, epsilon_start=0.0, epsilon_end=0.0)
    assert set(item_id.tolist()) == {3, 5, 7}
    torch.testing.assert_close(log_propensity.exp(), torch.full((len(item_id),), 1 / 3))


@pytest.mark.parametrize("kind", [k for k in ExplorationKind if k is not ExplorationKind.ensemble])
def test_without_epsilon_every_other_kind_is_greedy(kind):
    item_id, log_propensity = rows_of(kind, epsilon_start=0.0, epsilon_end=0.0)
    assert set(item_id.tolist()) == {int(CLICK[:11].argmax())}
    assert not log_propensity.any()


def test_softmax_follows_its_temperature():
    low, high = (
        rows_of(
            ExplorationKind.softmax, epsilon_start=1.0, epsilon_end=1.0, temperature=temperature
        )[1]
        for temperature in (0.02, 100.0)
    )
    assert float(low.exp().mean()) > 0.3
    uniform = torch.tensor([1 / 12, 1 / 11])  # the last slot is padding at odd steps
    assert float((high.exp()[:, None] - uniform).abs().amin(1).max()) < 1e-3


def test_an_ensemble_that_is_not_there_is_asked_for():
    with pytest.raises(ConfigError, match=r"needs one.*members=.*exploration=subset"):
        SessionSampler(PROBLEM, settings(exploration=ExplorationKind.ensemble), seed=0)
