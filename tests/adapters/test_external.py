"""The ranker around an external model, and ours around it for the other tasks."""

from __future__ import annotations

import copy

import pytest
import safetensors.torch
import torch

from recomind.adapters import FlatRows, StateBatch, copy_model
from recomind.errors import ArtifactError, ConfigError, SchemaError
from recomind.ranker import SessionRanker
from recomind.ranker.config import ExternalConfig, ExternalKind, OutputKind, RankerConfig
from recomind.ranker.external import (
    CompletedRanker,
    ExternalRanker,
    load_external,
    require_tasks,
)
from recomind.types import Ranker
from tests.adapters.models import (
    HERE,
    LENGTH,
    LOG_TASKS,
    Flat,
    candidates,
    catalogue,
    crossed,
    states,
)


def shares(batch):
    """[R, 2] probabilities."""
    return crossed(batch)[:, [0, 2]].sigmoid()


def make(tasks=("like", "watch_10s"), model=shares, **changes):
    """A ranker whose model is the function `model` itself."""
    config = ExternalConfig(kind=ExternalKind.torch, tasks=list(tasks), **changes)
    scorer = FlatRows(lambda inputs: inputs, model, config, "torch ranker x")
    return ExternalRanker(scorer, config, catalogue())


def own_ranker():
    config = RankerConfig(history_length=LENGTH, dim=4, hidden=8, id_buckets=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ranker = SessionRanker(catalogue(), LOG_TASKS, 2, config)
    return ranker.precompute_items()


def ask(ranker, state, item_id, snapshot=None):
    dated = None if snapshot is None else snapshot[:, None]
    with torch.no_grad():
        return ranker.score(ranker.encode_state(state, snapshot), item_id, dated)


def test_both_are_rankers():
    assert isinstance(make(), Ranker)
    assert isinstance(CompletedRanker(make(), own_ranker()), Ranker)


def test_probabilities_become_logits():
    state, item_id = states(3), candidates(3, 4)
    logits = ask(make(), state, item_id)
    own = state.user_features[:, :1].expand(3, 4)
    torch.testing.assert_close(logits[..., 0], own, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits[..., 1], catalogue().features(item_id).dense[..., 0])


def certain(batch):
    return torch.stack([torch.zeros(len(batch.item_id)), torch.ones(len(batch.item_id))], dim=1)


def test_certainty_stays_finite():
    logits = ask(make(model=certain), states(1), candidates(1, 1))[0, 0]
    torch.testing.assert_close(logits, torch.tensor([-13.8155, 13.8155]), atol=0.05, rtol=0)


def slightly_off(batch):
    return torch.stack([torch.full((len(batch.item_id),), p) for p in (-1e-7, 1 + 1e-7)], dim=1)


def test_rounding_at_the_edge_is_forgiven():
    ranker = make(model=slightly_off)
    assert torch.equal(
        ask(ranker, states(2), candidates(2, 2)),
        ask(make(model=certain), states(2), candidates(2, 2)),
    )


@pytest.mark.parametrize("value", [-0.5, 1.5])
def test_what_is_no_probability(value):
    def off_once(batch):
        return shares(batch).index_fill(1, torch.tensor([1]), value)

    message = rf"no probability; got: {value} for task 'watch_10s' in row 0 \(4 of 8 values\)"
    with pytest.raises(SchemaError, match=message):
        ask(make(model=off_once), states(2), candidates(2, 2))


def test_the_history_has_the_content_of_its_day():
    table, state, snapshot = catalogue(), states(4), torch.tensor([0, 1, 0, 1])
    dated = StateBatch(state=state, catalogue=table, snapshot=snapshot).history.dense
    for row, day in enumerate(snapshot):
        expected = table.dense_DNF[day, state.history_item_id[row]]
        assert torch.equal(dated[row], expected)
    latest = StateBatch(state=state, catalogue=table).history.dense
    assert torch.equal(latest, table.dense_DNF[1, state.history_item_id])


def test_no_graph_is_built():
    seen = []

    def watching(batch):
        seen.append(torch.is_grad_enabled())
        return shares(batch)

    ranker = make(model=watching)
    ranker.score(ranker.encode_state(states(2)), candidates(2, 2))
    assert seen == [False]


def test_calibration_comes_after_the_model():
    ranker, state, item_id = make(), states(3), candidates(3, 4)
    raw = ask(ranker, state, item_id)
    ranker.calibration.slope.copy_(torch.tensor([2.0, 0.5]))
    ranker.calibration.offset.copy_(torch.tensor([1.0, -1.0]))
    expected = raw * torch.tensor([2.0, 0.5]) + torch.tensor([1.0, -1.0])
    torch.testing.assert_close(ask(ranker, state, item_id), expected)


def test_a_copy_shares_the_model_and_not_the_calibration():
    ranker, state, item_id = make(), states(3), candidates(3, 4)
    ranker.calibration.offset.fill_(0.5)
    before, twin = ask(ranker, state, item_id), copy.deepcopy(ranker)
    assert torch.equal(ask(twin, state, item_id), before)
    assert twin._scorer is ranker._scorer
    assert twin.catalogue is ranker.catalogue
    twin.calibration.offset.fill_(9.0)
    assert torch.equal(ask(ranker, state, item_id), before)
    assert not torch.equal(ask(twin, state, item_id), before)


def test_one_copy_in_a_network_that_holds_it_twice():
    ranker = make()
    first, second = copy.deepcopy([ranker, ranker])
    assert first is second
    assert first is not ranker


@pytest.fixture
def config(tmp_path):
    """Of a model with dropout, on disk."""
    path = tmp_path / "theirs" / "flat.safetensors"
    path.parent.mkdir()
    with torch.random.fork_rng(devices=[]):
        safetensors.torch.save_model(Flat(), str(path))
    return ExternalConfig(
        kind=ExternalKind.torch,
        path=str(path),
        factory=f"{HERE}.make_flat",
        inputs=f"{HERE}.crossed",
        tasks=["like", "watch_10s"],
        output=OutputKind.logits,
    )


def test_training_mode_does_not_reach_the_model(config):
    ranker, state, item_id = load_external(config, catalogue()), states(3), candidates(3, 4)
    before = ask(ranker, state, item_id)
    completed = CompletedRanker(ranker, own_ranker()).train()
    assert completed.own.training
    assert not ranker.training
    assert torch.equal(ask(ranker, state, item_id), before)


def test_the_model_is_no_part_of_the_weights(config):
    ranker = load_external(config, catalogue())
    assert set(ranker.state_dict()) == {f"calibration.{k}" for k in ranker.calibration.state_dict()}
    assert not list(ranker.parameters())


def test_a_model_in_an_artifact(config, tmp_path):
    staging = tmp_path / "artifact"
    staging.mkdir()
    ranker, state, item_id = load_external(config, catalogue()), states(3), candidates(3, 4)
    stored = copy_model(ranker.config, staging)
    assert stored.path == "external/flat.safetensors"
    moved = staging.rename(tmp_path / "moved")
    (tmp_path / "theirs" / "flat.safetensors").unlink()
    again = load_external(stored, catalogue(), moved)
    assert torch.equal(ask(again, state, item_id), ask(ranker, state, item_id))
    second = tmp_path / "second"
    second.mkdir()
    assert copy_model(again.config, second) == stored  # from one artifact into the next
    assert (second / stored.path).read_bytes() == (moved / stored.path).read_bytes()


def test_two_models_of_one_name_in_an_artifact(config, tmp_path):
    first = copy_model(config, tmp_path)
    second = copy_model(config, tmp_path)
    assert first.path != second.path
    assert (tmp_path / first.path).is_file()
    assert (tmp_path / second.path).is_file()


def test_a_folder_of_boosters_in_an_artifact(tmp_path):
    theirs, staging = tmp_path / "theirs", tmp_path / "artifact"
    theirs.mkdir()
    staging.mkdir()
    for name in ("like.txt", "watch_10s.txt", "notes.txt"):
        (theirs / name).write_text(name)
    config = ExternalConfig(
        kind=ExternalKind.lightgbm, path=str(theirs), tasks=["like", "watch_10s"]
    )
    assert copy_model(config, staging).path == "external"
    copied = {path.name: path.read_text() for path in (staging / "external").iterdir()}
    assert copied == {"like.txt": "like.txt", "watch_10s.txt": "watch_10s.txt"}


@pytest.mark.parametrize("path", ["../theirs/flat.safetensors", "absolute", "link"])
def test_an_artifact_names_no_files_outside_itself(config, tmp_path, path):
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    (artifact / "link").symlink_to(config.path)
    config.path = config.path if path == "absolute" else path
    with pytest.raises(ArtifactError, match="may not name files outside its folder"):
        load_external(config, catalogue(), artifact)


def test_an_artifact_without_its_model(config, tmp_path):
    config.path = "external/gone.onnx"
    with pytest.raises(ArtifactError, match=r"external model is absent; got: .*gone\.onnx"):
        load_external(config, catalogue(), tmp_path)


@pytest.mark.parametrize("dated", [False, True])
def test_our_ranker_fills_in_the_other_tasks(dated):
    external, own = make(), own_ranker()
    completed, state, item_id = CompletedRanker(external, own), states(5), candidates(5, 4)
    snapshot = torch.arange(5) % 2 if dated else None
    logits = ask(completed, state, item_id, snapshot)
    theirs, ours = (ask(ranker, state, item_id, snapshot) for ranker in (external, own))
    assert completed.tasks == LOG_TASKS
    assert torch.equal(logits[..., 0], theirs[..., 1])
    assert torch.equal(logits[..., 1], theirs[..., 0])
    assert torch.equal(logits[..., 2], ours[..., 2])


def test_with_every_task_ours_is_not_asked():
    def thrice(batch):
        return shares(batch)[:, [0, 1, 1]]

    external = make(("hide", "like", "watch_10s"), thrice)
    completed, state, item_id = CompletedRanker(external, own_ranker()), states(2), candidates(2, 3)
    encoding = completed.encode_state(state)
    assert encoding.own is None
    theirs = ask(external, state, item_id)
    assert torch.equal(completed.score(encoding, item_id), theirs[..., [2, 1, 0]])


def test_one_catalogue_for_both():
    completed, other = CompletedRanker(make(), own_ranker()), catalogue()
    completed.catalogue = other
    assert completed.own.catalogue is completed.external.catalogue is completed.catalogue is other


def test_a_copy_of_a_completed_ranker():
    completed, state, item_id = CompletedRanker(make(), own_ranker()), states(2), candidates(2, 3)
    twin, before = copy.deepcopy(completed), ask(completed, state, item_id)
    assert torch.equal(ask(twin, state, item_id), before)
    for parameter in twin.own.parameters():
        parameter.data.zero_()
    twin.own.precompute_items()
    assert torch.equal(ask(completed, state, item_id), before)
    assert not torch.equal(ask(twin, state, item_id), before)


def test_a_task_that_the_log_does_not_have():
    message = r"the log does not have; got: liked; expected: of \['watch_10s', 'like', 'hide'\]"
    with pytest.raises(ConfigError, match=rf"{message}; .*did you mean 'like'\?"):
        require_tasks(make(["hide", "liked"]).config, LOG_TASKS)
    with pytest.raises(ConfigError, match=message):
        CompletedRanker(make(["hide", "liked"]), own_ranker())
    require_tasks(make(["hide", "like"]).config, LOG_TASKS)
