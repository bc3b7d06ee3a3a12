"""A hazard that is off on later days is moved onto them; too few outcomes move nothing."""

from __future__ import annotations

import pytest
import torch

from recomind.simulation.response import Fit, SummaryNet, calibrate_leave
from recomind.streams import make_generator


def hazard(bias):
    net = SummaryNet(2, 1, 4, bias)
    last = net.net[-1]
    assert isinstance(last, torch.nn.Linear)
    torch.nn.init.constant_(last.weight, 0.3)
    return net


def later_days(net, num, known_share=1.0):
    """Outcomes whose true logit is .5 * the net's + 1; unknown ones are all labelled as left."""
    generator = make_generator(0)
    inputs = 3 * torch.randn(num, 2, generator=generator)
    rate = (0.5 * net(inputs)[:, 0].detach() + 1.0).sigmoid()
    labels = (torch.rand(num, generator=generator) < rate).float()
    known = torch.rand(num, generator=generator) < known_share
    return Fit(inputs, known.float(), torch.where(known, labels, 1.0)), rate


@pytest.mark.parametrize("known_share", [1.0, 0.4])
def test_a_hazard_is_moved_onto_later_days(known_share):
    torch.manual_seed(0)
    net = hazard(-3.0)
    later, rate = later_days(net, 20_000, known_share)
    assert (net(later.inputs)[:, 0].sigmoid() - rate).abs().mean() > 0.2
    calibrate_leave(net, later)
    assert (net(later.inputs)[:, 0].sigmoid() - rate).abs().mean() < 0.02


def test_few_outcomes_move_nothing():
    net = hazard(-3.0)
    later, _ = later_days(net, 60)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    calibrate_leave(net, later)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
