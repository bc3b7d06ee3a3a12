"""The member of the training simulator that is made of trees."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from recomind.artifacts import Manifest, read_manifest
from recomind.errors import ArtifactError
from recomind.simulation import fit_simulator, load_simulator
from recomind.simulation.recency import member_rows, recency_weights
from recomind.simulation.states import rows_of
from recomind.simulation.trees import tree_features
from recomind.streams import make_generator
from tests.simulation import tiny
from tests.simulation.tiny import SIMULATOR, WEIGHTS


@pytest.fixture
def simulator(simulator_folder, ranker_folder):
    return load_simulator(simulator_folder, ranker_folder, WEIGHTS)


def test_it_is_fitted_to_the_training_users(dataset):
    rows, weights, later = member_rows(dataset)
    assert rows.equal(dataset.rows("train", holdout=False))
    assert later.equal(dataset.rows("calibration", holdout=False))
    assert weights.equal(recency_weights(dataset, rows))


@torch.no_grad()
def test_what_it_says_is_what_its_trees_say_of_the_state(simulator):
    simulator.reset(40, make_generator(1))
    item = torch.arange(40)
    for _ in range(3):
        simulator.step(item)
    state, models = simulator._state, simulator.trees.models
    says = simulator.member_probabilities(state, item)[-1]
    anew = models.responses(state, item, simulator.catalogue)
    assert torch.equal(says[:, simulator.trees.columns], anew)
    alone = models.hazard(state, simulator.catalogue)
    assert bool((simulator.hazard(state) >= alone).all())  # the worst of all members
    features = tree_features(state, item, simulator.catalogue, categories=models.categories)
    summary = simulator._summary(state, shown=item)
    given = tree_features(
        state, item, simulator.catalogue, categories=models.categories, summary=summary
    )
    assert (features == given).all()


@torch.no_grad()
def test_a_session_that_goes_on_is_seen_as_one_that_is_read_anew(simulator):
    simulator.reset(40, make_generator(1))
    item = torch.arange(40)
    while simulator._token is None or len(simulator._token_rows) == 40:
        state = simulator.step(item).state
    rows = simulator._token_rows
    running = simulator._running.summarise(simulator._token, item[rows])
    state, item = rows_of(state, rows), item[rows]
    torch.testing.assert_close(running, simulator._summary(state, shown=item), atol=1e-4, rtol=1e-4)


def test_only_what_the_reward_weighs_has_trees(rankers, dataset, ranker_folder, tmp_path):
    manifest = Manifest(kind="")
    folder = tmp_path / "s"
    fit_simulator(folder, rankers, dataset, SIMULATOR, manifest, seed=0, rewarded=["watch_10s"])
    written = read_manifest(folder).extra["tree_member"]
    assert written["tasks"] == ["watch_10s"]
    files = {path.name for path in folder.glob("*.lightgbm.txt")}
    assert {"watch_10s.lightgbm.txt"} <= files <= {"watch_10s.lightgbm.txt", "leave.lightgbm.txt"}
    simulator = load_simulator(folder, ranker_folder, WEIGHTS)
    state, item = simulator.reset(40, make_generator(1)), torch.arange(40)
    with torch.no_grad():
        members = simulator.member_probabilities(state, item)
    others = [h for h, task in enumerate(simulator.tasks) if task != "watch_10s"]
    torch.testing.assert_close(members[-1][:, others], members[:-1].mean(0)[:, others])
    (folder / "watch_10s.lightgbm.txt").unlink()
    with pytest.raises(ArtifactError, match=r"absent|missing|does not exist"):
        load_simulator(folder, ranker_folder, WEIGHTS)


def test_a_simulator_without_it_and_one_of_before_are_read(
    rankers, dataset, ranker_folder, tmp_path
):
    config = dataclasses.replace(SIMULATOR, tree_member=False)
    fit_simulator(tmp_path / "s", rankers, dataset, config, Manifest(kind=""), seed=0)
    assert "tree_member" not in read_manifest(tmp_path / "s").extra
    assert not list((tmp_path / "s").glob("*.lightgbm.txt"))
    assert load_simulator(tmp_path / "s", ranker_folder, WEIGHTS).trees is None
    assert tiny.SIMULATOR.tree_member
