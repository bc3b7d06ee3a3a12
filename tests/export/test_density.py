"""A policy inside the density of its logs is exported with it, and ranks as it was trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from recomind.errors import ArtifactError
from recomind.export import (
    PolicyScorer,
    compare,
    export_and_verify,
    export_policy,
    load_scorer,
)
from recomind.export.golden import GOLDEN, Golden, make_golden
from recomind.policy import PolicyConfig
from recomind.streams import make_generator
from tests.export.test_scorer import greedy, pool, states
from tests.export.tiny import NAMES, network, settings
from tests.sealing import reseal

CONFIG: dict[str, Any] = {"support_ratio": 0.5, "support_density": 0.3}


def test_a_fresh_process_ranks_as_the_trained_network(tmp_path):
    trained = network(PolicyConfig(**CONFIG))
    report = export_and_verify(
        tmp_path / "scorer", trained, settings(), num_states=60, num_candidates=8
    )
    assert report["passed"]
    assert report["num_support_differences"] == 0
    golden, scorer = Golden.load(tmp_path / "scorer" / GOLDEN), load_scorer(tmp_path / "scorer")
    assert golden.log_density is not None
    assert scorer.network.config.support_density == 0.3
    state, (item_id, mask) = states(), pool()
    order, _ = scorer.rank(state, item_id, mask)
    first = item_id.gather(1, order[:, :1])[:, 0]
    assert torch.equal(first, greedy(trained, state, item_id, mask))
    without = network(PolicyConfig(support_ratio=0.5))
    assert not torch.equal(first, greedy(without, state, item_id, mask))  # it binds here


def test_another_density_is_found_by_the_golden_requests(tmp_path):
    trained = network(PolicyConfig(**CONFIG))
    export_policy(tmp_path / "scorer", trained, settings())
    scorer = load_scorer(tmp_path / "scorer")
    golden = make_golden(
        PolicyScorer(trained, NAMES), make_generator(2), num_states=60, num_candidates=8
    )
    assert compare(scorer, golden)["passed"]
    with torch.no_grad():
        density = scorer.network.density
        assert density is not None
        density.key[-1].weight.neg_()  # type: ignore[operator]
    assert compare(scorer, golden)["num_support_differences"] > 0


def test_a_scorer_without_its_density_is_refused(tmp_path):
    folder = tmp_path / "scorer"
    export_policy(folder, network(PolicyConfig(support_ratio=0.5)), settings())
    reseal(folder, lambda m: m.extra["policy_config"].update(support_density=0.3))
    with pytest.raises(ArtifactError, match="weights do not fit the model"):
        load_scorer(folder)


def test_without_any_constraint_the_golden_requests_can_be_kept(tmp_path):
    trained = network(PolicyConfig(support_ratio=0.0))
    golden = make_golden(PolicyScorer(trained, NAMES), make_generator(2), num_states=4)
    golden.save(tmp_path / GOLDEN)
    again = Golden.load(tmp_path / GOLDEN)
    assert torch.equal(again.supported, again.mask)
    assert again.log_density is None
