"""A policy that sees the effects of items is exported with them."""

from __future__ import annotations

import pytest
import torch

from recomind.artifacts import read_manifest
from recomind.errors import ArtifactError
from recomind.export import PolicyScorer, compare, export_policy, load_scorer
from recomind.export.golden import make_golden
from recomind.streams import make_generator
from tests.export.test_scorer import greedy, pool, states
from tests.export.tiny import NAMES, NUM_ITEMS, network, settings
from tests.sealing import reseal


def test_a_scorer_ranks_as_the_trained_network(tmp_path):
    trained = network(effects=True)
    export_policy(tmp_path / "scorer", trained, settings())
    scorer, state, (item_id, mask) = load_scorer(tmp_path / "scorer"), states(), pool()
    first = item_id.gather(1, scorer.rank(state, item_id, mask)[0][:, :1])[:, 0]
    assert torch.equal(first, greedy(trained, state, item_id, mask))
    assert not torch.equal(first, greedy(network(), state, item_id, mask))


def test_other_effects_are_found_by_the_golden_requests(tmp_path):
    trained = network(effects=True)
    export_policy(tmp_path / "scorer", trained, settings())
    scorer = load_scorer(tmp_path / "scorer")
    asked = PolicyScorer(trained, NAMES)
    golden = make_golden(asked, make_generator(2), num_states=60, num_candidates=8)
    assert compare(scorer, golden)["passed"]
    effects = scorer.network.effects_NE
    assert effects is not None
    assert effects.shape == (NUM_ITEMS + 1, 2)
    assert not effects[-1].any()
    effects.neg_()
    assert not compare(scorer, golden)["passed"]


def test_effects_of_another_size_are_refused(tmp_path):
    export_policy(tmp_path / "scorer", network(effects=True), settings())
    extra = read_manifest(tmp_path / "scorer").extra
    assert extra["effects_shape"] == [NUM_ITEMS + 1, 2]
    reseal(tmp_path / "scorer", lambda m: m.extra.update(effects_shape=[NUM_ITEMS, 2]))
    with pytest.raises(ArtifactError, match="weights do not fit the model"):
        load_scorer(tmp_path / "scorer")
