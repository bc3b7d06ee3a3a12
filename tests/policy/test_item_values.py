"""Values of items: Q inside the support, nothing outside of it."""

from __future__ import annotations

import pytest
import torch

from recomind.errors import RecomindError
from recomind.policy import PolicyConfig, QNetwork, SupportedValues, support_mask
from recomind.streams import make_generator
from tests.simulation.tiny import NUM_ITEMS, WEIGHTS, tiny_dataset, tiny_ranker


def network(support_ratio: float) -> QNetwork:
    made = QNetwork(tiny_ranker(0), WEIGHTS, PolicyConfig(support_ratio=support_ratio))
    with torch.no_grad():
        made.residual.weight.normal_(generator=make_generator(1))
    return made


def test_q_inside_the_support_and_nothing_outside() -> None:
    dataset, q_network = tiny_dataset(), network(0.8)
    state = dataset.state(dataset.rows("test")[:20])
    item_id = torch.arange(NUM_ITEMS).expand(20, -1)
    got = SupportedValues(q_network)(state, item_id)
    with torch.no_grad():
        q, utility = q_network.q_values(state, item_id)
    allowed = support_mask(utility, torch.ones_like(item_id, dtype=torch.bool), 0.8)
    assert torch.equal(got.isfinite(), allowed)
    assert torch.equal(got[allowed], q[allowed])
    assert (got[~allowed] == -torch.inf).all()
    assert 0 < int((~allowed).sum()) < allowed.numel()


def test_without_a_constraint_every_item_has_a_value() -> None:
    dataset = tiny_dataset()
    state = dataset.state(dataset.rows("test")[:5])
    got = SupportedValues(network(0.0))(state, torch.arange(30).expand(5, -1))
    assert got.isfinite().all()


def test_a_policy_that_diverged_is_refused() -> None:
    dataset, q_network = tiny_dataset(), network(0.8)
    with torch.no_grad():
        q_network.residual.bias.fill_(torch.nan)
    state = dataset.state(dataset.rows("test")[:5])
    with pytest.raises(RecomindError, match="value of a candidate is not finite"):
        SupportedValues(q_network)(state, torch.arange(30).expand(5, -1))
