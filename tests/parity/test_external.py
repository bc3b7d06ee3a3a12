"""A ranker that existed already goes through the whole pipeline, and step-0 parity is exact."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch

from recomind.artifacts import Manifest, load_tensors, read_manifest, save_tensors
from recomind.errors import ArtifactError, ConfigError, SchemaError
from recomind.evaluation.parity import step0_parity
from recomind.export import (
    ExportRecord,
    export_and_verify,
    export_policy,
    load_scorer,
)
from recomind.pipeline.factories import NetworkFactory, SimulatorFactory
from recomind.plugins import VARIABLE
from recomind.policy import PolicyConfig, QNetwork, QPolicy, RankerPolicy, own_part
from recomind.ranker import (
    CompletedRanker,
    ExternalKind,
    ExternalRanker,
    load_rankers,
    load_weights,
    new_ranker,
    predict,
    save_rankers,
    trunk_of,
    utility,
)
from recomind.ranker.recipe import ranker_recipe
from recomind.simulation import LearnedSimulator, fit_simulator, load_simulator
from recomind.streams import make_generator
from recomind.training.target import TargetCopy
from recomind.types import Catalogue, Ranker
from tests.parity.existing import FILES, HERE, TASK, ensemble, existing, write_ensemble
from tests.parity.test_step0 import random_candidates, random_states
from tests.simulation.tiny import (
    RANKER,
    SIMULATOR,
    WEIGHTS,
    tiny_catalogue,
    tiny_dataset,
    tiny_ranker,
)

pytestmark = pytest.mark.usefixtures("_allowed")


@pytest.fixture(scope="module", autouse=True)
def _allowed():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, HERE.rpartition(".")[0])
        yield


@pytest.fixture(scope="module", params=FILES, ids=lambda kind: kind.name)
def kind(request) -> ExternalKind:
    return request.param


@pytest.fixture(scope="module")
def saved(kind, tmp_path_factory):
    """The ensemble as it was in memory, and its folder; the original model is gone."""
    folder = tmp_path_factory.mktemp(kind.name) / "ranker"
    return write_ensemble(kind, folder), folder


@pytest.fixture(scope="module")
def folder(saved):
    return saved[1]


@pytest.fixture(scope="module")
def simulator_folder(saved, tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulator") / "simulator"
    rankers = load_rankers(saved[1])
    fit_simulator(folder, rankers, tiny_dataset(), SIMULATOR, Manifest(kind=""), seed=0)
    return folder


@pytest.fixture
def network(folder) -> QNetwork:
    factory = NetworkFactory(
        ranker_folder=folder, reward_weights=WEIGHTS, config=PolicyConfig(), seed=1
    )
    return factory()


def few(num=60):
    return random_states()[:num], random_candidates().item_id[:num]


def learn(network: QNetwork) -> QNetwork:
    """Move everything that may move, in one update that is far from small."""
    state, item_id = few()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.05)
    for _ in range(2):  # the trunk's first gradient is zero: the last layer is
        (network.q_values(state, item_id)[0] - 3.0).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return network


def record(**changes) -> ExportRecord:
    names = tiny_dataset().user_feature_names
    given = {"config": {}, "seed": 3, "released": True, "reasons": []} | changes
    return ExportRecord(**given, user_feature_names=names)


class Popularity:
    """A ranker of nobody's: no module, no catalogue, no weights."""

    tasks = tiny_dataset().tasks

    def encode_state(self, state, snapshot=None):
        return state.step

    def score(self, encoding, item_id, snapshot=None):
        logits = (item_id % 7)[..., None] - 0.3 * torch.arange(len(self.tasks))
        return logits - 0.1 * encoding[:, None, None]


# Before the first update.


def test_q_is_the_utility_of_the_external_ranker_to_the_bit(network, folder):
    state, item_id = random_states(), random_candidates().item_id
    ranker = load_rankers(folder)[0]
    with torch.no_grad():
        q, u = network.q_values(state, item_id)
        theirs = utility(ranker.score(ranker.encode_state(state), item_id), network.weights_H)
        own = tiny_ranker(0)
        ours = utility(own.score(own.encode_state(state), item_id), network.weights_H)
    assert torch.equal(q, u)
    assert torch.equal(q, theirs)
    parity = step0_parity(theirs, q, random_candidates().mask)
    assert (parity["max_rank_difference"], parity["max_score_difference"]) == (0, 0.0)
    assert step0_parity(ours, q, random_candidates().mask)["max_rank_difference"] > 5


def test_both_choose_the_same_item(network, folder):
    state, candidates = random_states(), random_candidates()
    uniforms = torch.rand(len(state), 4, generator=make_generator(2))
    one = QPolicy(network).act(state, candidates, uniforms)
    two = RankerPolicy(load_rankers(folder)[:1], WEIGHTS).act(state, candidates, uniforms)
    assert torch.equal(one.item_id, two.item_id)


def test_a_ranker_of_any_class_will_do():
    ranker, (state, item_id) = Popularity(), few()
    assert isinstance(ranker, Ranker)
    network = QNetwork(ranker, WEIGHTS, PolicyConfig(), trunk=tiny_ranker(0))
    expected = utility(ranker.score(ranker.encode_state(state), item_id), network.weights_H)
    with torch.no_grad():
        q, u = network.q_values(state, item_id)
    assert torch.equal(q, expected)
    assert torch.equal(u, expected)
    assert not torch.equal(learn(network).q_values(state, item_id)[0], expected)
    assert torch.equal(network.q_values(state, item_id)[1], expected)


def test_without_a_ranker_of_ours_there_is_no_residual():
    with pytest.raises(ConfigError, match=r"residual needs a trunk; got: Popularity"):
        QNetwork(Popularity(), WEIGHTS, PolicyConfig())
    with pytest.raises(ConfigError, match=r"without a ranker of our own; got: \['Popularity'\]"):
        trunk_of([Popularity()])


# What learns, and what does not.


def test_nothing_of_the_external_ranker_learns_or_travels(network):
    state, item_id = few()
    with torch.no_grad():
        before = network.q_values(state, item_id)
    assert all(name.startswith(("trunk.", "residual.")) for name in network.trainable_state())
    assert "residual.weight" in network.trainable_state()
    q, u = (x.detach() for x in learn(network).q_values(state, item_id))
    assert torch.equal(u, before[1])
    assert not torch.equal(q, before[0])


def test_what_was_trained_comes_back_and_the_target_lags_behind(network, folder):
    state, item_id = few()
    target = TargetCopy(network)
    fresh = copy.deepcopy(network)
    learn(network)
    fresh.load_trainable_state({k: v.clone() for k, v in network.trainable_state().items()})
    with torch.no_grad():
        q, u = network.q_values(state, item_id)
        assert torch.equal(fresh.q_values(state, item_id)[0], q)
        assert torch.equal(target.q_values(state, item_id)[0], u)  # as at step 0


def test_training_leaves_the_ranker_it_started_from_alone(folder):
    rankers, (state, item_id) = load_rankers(folder), few()
    with torch.no_grad():
        before = [r.score(r.encode_state(state), item_id) for r in rankers]
    learn(QNetwork(rankers[0], WEIGHTS, PolicyConfig(), trunk_of(rankers)))
    with torch.no_grad():
        after = [r.score(r.encode_state(state), item_id) for r in rankers]
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))
    assert all(p.requires_grad for p in trunk_of(rankers).parameters())


def test_catalogue_and_item_table_are_there_once(folder):
    rankers = load_rankers(folder)
    network = QNetwork(rankers[0], WEIGHTS, PolicyConfig(), trunk_of(rankers))
    own = own_part(network.frozen)
    catalogues = {id(x.catalogue) for x in (*rankers, network.frozen, network.trunk, own)}  # type: ignore[union-attr]
    assert len(catalogues) == 1
    assert network.trunk.table is own.table is trunk_of(rankers).table  # type: ignore[union-attr]
    assert own.table is not None  # type: ignore[union-attr]


def test_a_trunk_with_other_items_keeps_its_own_table(kind, tmp_path):
    rankers, (state, item_id) = ensemble(existing(kind, tmp_path / "model")), few()
    network = QNetwork(rankers[0], WEIGHTS, PolicyConfig(), tiny_ranker(1))
    own = own_part(network.frozen)
    with torch.no_grad():
        torch.nn.init.normal_(network.residual.weight, generator=make_generator(0))
        before = network.q_values(state, item_id)[0]
        network.share_items(tiny_catalogue())
        assert torch.equal(network.q_values(state, item_id)[0], before)
    assert own is not None
    assert not torch.equal(network.trunk.item_vectors(item_id), own.item_vectors(item_id))


# The ensemble on disk.


def test_the_same_ensemble_comes_back(saved):
    before, dataset = saved[0], tiny_dataset()
    after, rows = load_rankers(saved[1]), tiny_dataset().rows("test")
    assert [type(r) for r in after] == [type(r) for r in before]
    for one, two in zip(before, after, strict=True):
        assert two.tasks == dataset.tasks
        assert torch.equal(predict(one, dataset, rows)[0], predict(two, dataset, rows)[0])
    assert isinstance(after[0], CompletedRanker)
    assert after[0].own is after[1]  # in memory once
    calibration = saved[0][0].external.calibration.state_dict()
    assert float(calibration["slope"]) != 1.0
    loaded = after[0].external.calibration.state_dict()
    assert all(torch.equal(loaded[name], calibration[name]) for name in calibration)


def test_the_artifact_holds_the_model_and_hashes_it(folder, kind, tmp_path):
    name = f"external/{FILES[kind]}"
    manifest = read_manifest(folder, "ranker")
    assert name in manifest.files
    assert str(folder.parent) not in json.dumps(manifest.extra)
    moved = tmp_path / "moved"
    save_rankers(moved, load_rankers(folder), tiny_catalogue(), Manifest(kind=""))
    with (moved / name).open("ab") as file:
        file.write(b"\n")
    with pytest.raises(ArtifactError, match=r"damaged artifact.*external"):
        load_rankers(moved)


def test_an_ensemble_written_again_is_the_same(folder, tmp_path):
    save_rankers(tmp_path / "again", load_rankers(folder), tiny_catalogue(), Manifest(kind=""))
    one, two = (read_manifest(path, "ranker") for path in (folder, tmp_path / "again"))
    assert (one.extra, one.files) == (two.extra, two.files)


def test_an_external_ranker_whose_own_part_is_no_member_comes_back(kind, tmp_path):
    external = existing(kind, tmp_path / "model")
    rankers = [CompletedRanker(external, tiny_ranker(1)), tiny_ranker(0), external]
    save_rankers(tmp_path / "ranker", rankers, tiny_catalogue(), Manifest(kind=""))
    after, (state, item_id) = load_rankers(tmp_path / "ranker"), few()
    assert isinstance(after[2], ExternalRanker)
    for one, two in zip(rankers, after, strict=True):
        with torch.no_grad():
            ours, theirs = (r.score(r.encode_state(state), item_id) for r in (one, two))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_weights_that_are_not_all_there_are_refused(folder, tmp_path):
    ranker = load_rankers(folder)[0]
    assert isinstance(ranker, CompletedRanker)
    tensors = load_tensors(folder / "member_0.safetensors")
    assert all(name.startswith("external.calibration.") for name in tensors)
    del tensors["external.calibration.slope"]
    save_tensors(tmp_path / "w.safetensors", tensors)
    with pytest.raises(ArtifactError, match=r"do not fit the model.*external\.calibration\.slope"):
        load_weights(ranker, tmp_path / "w.safetensors", "own.")
    save_tensors(tmp_path / "w.safetensors", tensors | {"strange": torch.zeros(1)})
    with pytest.raises(ArtifactError, match=r"do not fit the model.*strange"):
        load_weights(ranker, tmp_path / "w.safetensors", "own.")


def test_an_external_ranker_alone_may_be_what_a_policy_starts_from(kind, tmp_path):
    external, (state, item_id) = existing(kind, tmp_path / "model"), few()
    rankers = [external, tiny_ranker(0)]
    save_rankers(tmp_path / "ranker", rankers, tiny_catalogue(), Manifest(kind=""))
    network = NetworkFactory(
        ranker_folder=tmp_path / "ranker", reward_weights={TASK: 1.0}, config=PolicyConfig(), seed=0
    )()
    logits = external.score(external.encode_state(state), item_id)
    with torch.no_grad():
        assert torch.equal(network.q_values(state, item_id)[0], logits[..., 0].sigmoid())


def test_an_artifact_brings_no_trust_of_its_own(folder, monkeypatch):
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(ConfigError, match="outside the allowed prefixes"):
        load_rankers(folder)


def test_a_ranker_without_a_recipe_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no artifact can hold; got: Popularity"):
        ranker_recipe(Popularity(), tmp_path)
    with pytest.raises(ConfigError, match="no artifact can hold"):
        save_rankers(
            tmp_path / "r", [Popularity(), tiny_ranker(0)], tiny_catalogue(), Manifest(kind="")
        )
    assert list(tmp_path.iterdir()) == []


# The simulator.


def test_it_is_a_member_of_the_simulators_ensemble(folder, simulator_folder):
    factory = SimulatorFactory(
        simulator_folder=simulator_folder, ranker_folder=folder, reward_weights=WEIGHTS
    )
    steps = [_play(factory()) for _ in range(2)]
    assert torch.equal(steps[0], steps[1])
    simulator, (state, item_id) = factory(), few()
    with torch.no_grad():
        match = torch.stack(
            [r.score(r.encode_state(state), item_id[:, :1])[:, 0] for r in simulator.rankers]
        )
        p_EBH = simulator.member_probabilities(state, item_id[:, 0])[:-1]  # without the trees
    theirs = simulator.tasks.index(TASK)
    ours = 1 - theirs if theirs < 2 else 0
    assert len(p_EBH) == 3
    assert not torch.allclose(match[0, :, theirs], match[1, :, theirs])
    assert torch.equal(match[0, :, ours], match[1, :, ours])  # the same ranker of ours
    assert bool((p_EBH <= match.sigmoid() + 1e-6).all())  # fatigue only lowers them


def _play(simulator: LearnedSimulator) -> torch.Tensor:
    simulator.reset(16, make_generator(0))
    item_id = torch.arange(16)
    return torch.stack([simulator.step(item_id + k).response.feedback for k in range(4)])


def test_a_simulator_of_foreign_rankers_is_told_its_catalogue(folder, simulator_folder):
    there = load_simulator(simulator_folder, folder, WEIGHTS)
    assert there.fatigue_nets is not None
    fatigue_nets = there.fatigue_nets[:1]

    def build(catalogue: Catalogue | None = None):
        return LearnedSimulator(
            [Popularity()],
            fatigue_nets,
            there.hazards[:1],
            starts=there.starts,
            dwell=there.dwell,
            couplings=there.couplings,
            reward_weights=WEIGHTS,
            horizon=3,
            item_categories=there.item_categories,
            catalogue=catalogue,
        )

    assert _play(build(tiny_catalogue())).any()
    with pytest.raises(SchemaError, match=r"no ranker.*has a catalogue.*catalogue=\.\.\."):
        build()


# The export.


def test_a_trunk_of_another_shape_comes_back(kind, tmp_path):
    rankers, (state, item_id) = ensemble(existing(kind, tmp_path / "model")), few()
    trunk = new_ranker(tiny_dataset(), replace(RANKER, hidden=24), seed=3)
    network = learn(QNetwork(rankers[0], WEIGHTS, PolicyConfig(), trunk))
    export_policy(tmp_path / "scorer", network, record())
    scorer = load_scorer(tmp_path / "scorer")
    with torch.no_grad():
        q, _ = network.q_values(state, item_id)
    assert torch.equal(scorer.score(scorer.encode_state(state), item_id)[..., 0], q)


@pytest.mark.parametrize("kind", [ExternalKind.torch], indirect=True)  # a process costs seconds
def test_it_answers_in_a_fresh_process(network, tmp_path):
    report = export_and_verify(
        tmp_path / "scorer", learn(network), record(), num_states=30, num_candidates=8
    )
    assert report["passed"]
    assert report["forbidden_modules_loaded"] == []
    assert f"external/{FILES[ExternalKind.torch]}" in read_manifest(tmp_path / "scorer").files


def test_the_scorer_is_whole_by_itself(network, kind, tmp_path):
    export_policy(tmp_path / "there", learn(network), record())
    (tmp_path / "there").rename(tmp_path / "scorer")
    assert f"external/{FILES[kind]}" in read_manifest(tmp_path / "scorer", "scorer").files
    scorer, (state, item_id) = load_scorer(tmp_path / "scorer"), few()
    with torch.no_grad():
        q, u = network.q_values(state, item_id)
    encoding = scorer.encode_state(state)
    assert torch.equal(scorer.score(encoding, item_id)[..., 0], q)
    assert torch.equal(scorer.utility(encoding, item_id), u)
    own = own_part(scorer.network.frozen)
    assert own is not None
    assert scorer.network.trunk.table is own.table
    assert not scorer.network.trainable_state()


def test_a_scorer_brings_no_trust_of_its_own(network, tmp_path, monkeypatch):
    export_policy(tmp_path / "scorer", network, record())
    load_scorer(tmp_path / "scorer")
    monkeypatch.delenv(VARIABLE)  # which a process that verifies or serves inherits
    with pytest.raises(ConfigError, match="outside the allowed prefixes"):
        load_scorer(tmp_path / "scorer")
