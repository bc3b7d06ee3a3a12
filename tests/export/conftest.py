"""A trained network, what it exports to, and requests."""

from __future__ import annotations

import pytest
import torch

from recomind.export import Golden, PolicyScorer, export_policy
from recomind.export.golden import make_golden
from recomind.streams import make_generator
from tests.export.tiny import NAMES, network, settings

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def trained():
    return network()


@pytest.fixture(scope="session")
def golden(trained) -> Golden:
    scorer = PolicyScorer(trained, NAMES)
    return make_golden(scorer, make_generator(2), num_states=150, num_candidates=12)


@pytest.fixture(scope="session")
def exported(trained, tmp_path_factory):
    """Read-only: a test that damages a scorer exports its own."""
    folder = tmp_path_factory.mktemp("export") / "scorer"
    export_policy(folder, trained, settings())
    return folder
