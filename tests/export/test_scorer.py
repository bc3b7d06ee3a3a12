"""The scorer ranks as the policy acts, before and after it went through a folder."""

from __future__ import annotations

import shutil

import pytest
import torch

from recomind.artifacts import read_manifest
from recomind.data import TableCatalogue
from recomind.errors import ArtifactError, ConfigError, SchemaError
from recomind.export import PolicyScorer, export_policy, load_scorer, random_states
from recomind.export.scorer import order_slots
from recomind.policy import PolicyConfig, QPolicy
from recomind.streams import make_generator
from recomind.types import Candidates, Ranker
from tests.export.tiny import (
    LENGTH,
    NAMES,
    NUM_ITEMS,
    NUM_USER,
    TASKS,
    catalogue,
    network,
    settings,
)
from tests.sealing import reseal


def states(num=32, length=LENGTH, num_user=NUM_USER, tasks=TASKS):
    return random_states(catalogue(), tasks, num_user, length, num, make_generator(4))


def pool(num=32, width=10):
    generator = make_generator(6)
    mask = torch.rand(num, width, generator=generator) < 0.8
    mask[:, 3] = True
    return torch.randint(NUM_ITEMS, (num, width), generator=generator) * mask, mask


def greedy(network, state, item_id, mask):
    candidates = Candidates(
        item_id=item_id,
        mask=mask,
        log_propensity=torch.zeros(item_id.shape),
        batch_size=[len(item_id)],
    )
    return QPolicy(network).act(state, candidates, torch.full((len(item_id), 4), 0.5)).item_id


@pytest.mark.parametrize("support_ratio", [0.0, 0.8, 1.0])
def test_the_first_place_is_the_policys_choice(support_ratio):
    trained = network(PolicyConfig(support_ratio=support_ratio))
    state, (item_id, mask) = states(), pool()
    order, _ = PolicyScorer(trained, NAMES).rank(state, item_id, mask)
    first = item_id.gather(1, order[:, :1])[:, 0]
    assert torch.equal(first, greedy(trained, state, item_id, mask))
    by_q = trained.q_values(state, item_id)[0].masked_fill(~mask, -torch.inf).argmax(1)
    differs = (order[:, 0] != by_q).any()
    assert differs == (support_ratio > 0), "the case must show what the constraint does"


def test_supported_by_q_then_others_by_utility_then_padding():
    q = torch.tensor([[0.05, 5.0, 5.0, 9.0, 8.0, 7.0]])
    utility = torch.tensor([[0.9, 0.8, 0.9, 0.1, 0.2, 0.9]])
    supported = torch.tensor([[True, True, True, False, False, False]])
    mask = torch.tensor([[True, True, True, True, True, False]])
    item_id = torch.tensor([[4, 9, 2, 7, 8, 0]])
    assert order_slots(q, supported, utility, item_id, mask).tolist() == [[2, 1, 0, 4, 3, 5]]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_refused_unless_it_is_padding(bad):
    q, utility = torch.tensor([[1.0, bad]]), torch.ones(1, 2)
    supported, item_id = torch.tensor([[True, False]]), torch.tensor([[3, 0]])
    order = order_slots(q, supported, utility, item_id, torch.tensor([[True, False]]))
    assert order.tolist() == [[0, 1]]
    with pytest.raises(SchemaError, match="not a finite number"):
        order_slots(q, supported, utility, item_id, torch.ones(1, 2, dtype=torch.bool))


def test_it_is_a_ranker_whose_logit_is_q(trained):
    scorer = PolicyScorer(trained, NAMES)
    assert isinstance(scorer, Ranker)
    state, (item_id, mask) = states(), pool()
    encoding = scorer.encode_state(state)
    q, utility = trained.q_values(state, item_id)
    assert scorer.tasks == ("session_value",)
    assert torch.equal(scorer.score(encoding, item_id), q[..., None])
    assert torch.equal(scorer.utility(encoding, item_id), utility)
    assert torch.equal(scorer.rank(state, item_id, mask)[1], q.masked_fill(~mask, -torch.inf))


@pytest.mark.parametrize("bootstrap", [True, False])
def test_a_loaded_scorer_answers_bit_for_bit(tmp_path, bootstrap):
    trained = network(PolicyConfig(bootstrap=bootstrap, residual_scale=0.5, support_ratio=0.6))
    export_policy(tmp_path / "scorer", trained, settings())
    random = torch.random.get_rng_state()
    loaded = load_scorer(tmp_path / "scorer")
    assert torch.equal(torch.random.get_rng_state(), random)
    state, (item_id, mask) = states(), pool()
    ours, theirs = (
        loaded.rank(state, item_id, mask),
        PolicyScorer(trained).rank(state, item_id, mask),
    )
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])


def test_a_catalogue_without_a_table_of_vectors_answers_the_same(tmp_path, trained):
    export_policy(tmp_path / "scorer", network(max_table_items=1), settings())
    state, (item_id, mask) = states(), pool()
    loaded = load_scorer(tmp_path / "scorer").rank(state, item_id, mask)
    torch.testing.assert_close(loaded[1], PolicyScorer(trained).rank(state, item_id, mask)[1])


def test_the_folder_says_what_it_is(exported):
    loaded, manifest = load_scorer(exported), read_manifest(exported, "scorer")
    assert (loaded.released, loaded.reasons) == (False, (settings().reasons[0],))
    assert (loaded.user_feature_names, loaded.feedback_tasks) == (NAMES, TASKS)
    assert manifest.extra["reward_weights"] == {"watch_10s": 1.0, "like": 0.5, "hide": 0.0}
    assert (manifest.seed, manifest.inputs) == (5, {"round_0/policy": "abc"})
    assert TableCatalogue.load(exported).num_snapshots == 1, "only the latest content serves"


def test_exporting_leaves_the_network_trainable(trained, exported):
    assert "residual.weight" in trained.trainable_state()
    assert not load_scorer(exported).network.trainable_state()


@pytest.mark.parametrize(
    ("state", "got"),
    [
        (states(num_user=2), r"\(U, H\) = \(2, 3\)"),
        (states(tasks=TASKS[:2]), r"\(U, H\) = \(3, 2\)"),
        (states(length=LENGTH + 1), "L = 7"),
    ],
)
def test_states_of_another_shape_are_refused(trained, state, got):
    with pytest.raises(SchemaError, match=got):
        PolicyScorer(trained, NAMES).encode_state(state)


def test_names_for_other_features_are_refused(trained, tmp_path):
    with pytest.raises(SchemaError, match="each user feature needs one name"):
        export_policy(tmp_path / "s", trained, settings(user_feature_names=["age"]))
    with pytest.raises(ConfigError, match="too large"):
        export_policy(tmp_path / "s", trained, settings(), max_catalogue_items=NUM_ITEMS - 1)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_named(exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "scorer")
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"damaged artifact.*weights\.safetensors"):
        load_scorer(folder)


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("reward_weights", None, "incomplete scorer manifest"),
        ("ranker", {"kind": "forest"}, "unreadable recipe of a ranker"),
        ("ranker", {"kind": "external"}, "unreadable recipe of a ranker"),
        ("policy_config", {"depth": 3}, "unreadable PolicyConfig"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(exported, tmp_path, field, value, error):
    folder = shutil.copytree(exported, tmp_path / "scorer")
    if value is None:
        reseal(folder, lambda manifest: manifest.extra.pop(field))
    else:
        reseal(folder, lambda manifest: manifest.extra.update({field: value}))
    with pytest.raises(ArtifactError, match=error):
        load_scorer(folder)
