"""Training to artifact to search, on sessions in which users like the items of one tag."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from recomind.artifacts import Manifest, read_manifest
from recomind.candidates import CandidatePool, CandidatesConfig
from recomind.data import SessionDataset, TableCatalogue
from recomind.errors import ArtifactError, SchemaError
from recomind.retrieval import (
    IndexKind,
    Retrieval,
    RetrievalConfig,
    load_retrieval,
    train_retrieval,
)
from recomind.retrieval.targets import positive_rows
from recomind.retrieval.training import fit_towers
from recomind.streams import SessionStreams, draw_seeds, make_generator
from tests.sealing import reseal

NUM_TAGS = 5  # of the fixtures' world
MakeCatalogue = Callable[[int], TableCatalogue]

CONFIG = RetrievalConfig(
    dim=8, hidden=16, num_epochs=8, batch_size=128, learning_rate=1e-2, recall_at=50
)


@pytest.fixture(scope="module")
def folder(dataset: SessionDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("index") / "artifact"
    train_retrieval(dataset, CONFIG, path, inputs={"sessions": "abc"})
    return path


@pytest.fixture(scope="module")
def retrieval(dataset: SessionDataset, folder: Path) -> Retrieval:
    return load_retrieval(folder, dataset.catalogue)


def test_nearest_items_are_of_the_users_tag(dataset: SessionDataset, retrieval: Retrieval) -> None:
    rows = dataset.rows("calibration")
    state = dataset.state(rows)
    nearest = retrieval.nearest(state, 20)
    assert nearest.shape == (len(rows), 20)
    assert nearest.dtype == torch.int64
    right = nearest % NUM_TAGS == (state.user_id % NUM_TAGS)[:, None]
    assert right.float().mean() > 0.95, "one tag in five would be right by chance"


def test_artifact_says_what_it_is(folder: Path) -> None:
    manifest = read_manifest(folder, "index")
    assert set(manifest.files) == {"index.faiss", "towers.safetensors"}
    assert manifest.inputs == {"sessions": "abc"}
    assert manifest.metrics["recall@50"] == 1.0
    assert manifest.metrics["hit_rate@50"] > 0.5, "50 of the 80 items of a tag, 0.62 at best"
    assert manifest.config["retrieval"]["kind"] == "auto"


def test_hit_rate_of_untrained_towers_is_low(dataset: SessionDataset, tmp_path: Path) -> None:
    config = RetrievalConfig(dim=8, hidden=16, num_epochs=0, recall_at=50)
    train_retrieval(dataset, config, tmp_path / "index")
    assert read_manifest(tmp_path / "index").metrics["hit_rate@50"] < 0.4


def test_loaded_equals_trained(dataset: SessionDataset, tmp_path: Path) -> None:
    config = RetrievalConfig(
        dim=8,
        num_epochs=1,
        batch_size=128,
        kind=IndexKind.ivf,
        nprobe=2,
        num_recall_queries=64,
        min_recall=0.0,
        recall_at=50,
    )
    losses: list[float] = []
    trained = train_retrieval(
        dataset, config, tmp_path / "index", on_batch=lambda done, total, loss: losses.append(loss)
    )
    loaded = load_retrieval(tmp_path / "index", dataset.catalogue)
    state = dataset.state(dataset.rows("test", "calibration")[:100])
    assert torch.equal(trained.nearest(state, 30), loaded.nearest(state, 30))
    recall = read_manifest(tmp_path / "index").metrics["recall@50"]
    assert 0.1 < recall < 1.0, "two lists of eight cannot find all"
    assert losses[-1] < losses[0]


def test_training_is_repeatable(dataset: SessionDataset) -> None:
    config = RetrievalConfig(dim=8, batch_size=128)
    one, two = fit_towers(dataset, config), fit_towers(dataset, config)
    other = fit_towers(dataset, RetrievalConfig(dim=8, batch_size=128, seed=1))
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name])
        assert not torch.equal(value, other.state_dict()[name])


def test_later_content_does_not_leak_into_training(
    make_dataset: Callable[..., SessionDataset],
) -> None:
    """All events are of snapshot 0, so what snapshot 1 holds may not change a weight."""
    config = RetrievalConfig(dim=8, batch_size=32)
    one, two = (fit_towers(make_dataset(200, 50, later), config) for later in (0.0, 3.0))
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name])


def test_positive_rows_are_liked_and_of_users_in_training(dataset: SessionDataset) -> None:
    rows = positive_rows(dataset, "train")
    assert (dataset.labels(rows)[:, 0] == 1).all()
    user = dataset.state(rows).user_id
    assert not (user % 10 == 3).any(), "those are hold-out users"
    assert not (user % 4 == 0).any(), "those are in the split 'calibration'"
    assert len(rows) > 1000


def test_pool_from_a_trained_index(dataset: SessionDataset, retrieval: Retrieval) -> None:
    state = dataset.state(dataset.rows("calibration")[:200])
    pool = CandidatePool(CandidatesConfig(), retrieval.num_items, retrieval)
    streams = SessionStreams(draw_seeds(200, make_generator(0)))
    got = pool.candidates(state, streams)
    right = (got.item_id % NUM_TAGS == (state.user_id % NUM_TAGS)[:, None]) & got.mask
    assert right[:, :32].float().mean() > 0.9
    assert right[:, 32:].float().mean() < 0.3
    assert torch.equal(got.item_id, pool.candidates(state, streams).item_id)


def test_another_number_of_items_is_refused(folder: Path, make_catalogue: MakeCatalogue) -> None:
    with pytest.raises(ArtifactError, match=r"got: 400 items .* expected: 401 items"):
        load_retrieval(folder, make_catalogue(401))


def test_other_features_are_refused(folder: Path, make_catalogue: MakeCatalogue) -> None:
    catalogue = make_catalogue(400)
    catalogue.categorical_names = ("genre",)
    with pytest.raises(SchemaError, match=r"categorical_names; got: .'genre'"):
        load_retrieval(folder, catalogue)


def test_damaged_index_is_refused(
    dataset: SessionDataset, retrieval: Retrieval, tmp_path: Path
) -> None:
    retrieval.save(tmp_path / "index", Manifest(kind="index"))
    with (tmp_path / "index" / "index.faiss").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ArtifactError, match="damaged artifact"):
        load_retrieval(tmp_path / "index", dataset.catalogue)


def test_manifest_without_towers_is_refused(
    dataset: SessionDataset, retrieval: Retrieval, tmp_path: Path
) -> None:
    retrieval.save(tmp_path / "index", Manifest(kind="index"))
    reseal(tmp_path / "index", lambda m: m.extra["towers"].update(dim=9))
    with pytest.raises(ArtifactError, match="unreadable towers"):
        load_retrieval(tmp_path / "index", dataset.catalogue)


def test_sessions_without_a_positive_are_refused(
    make_dataset: Callable[..., SessionDataset],
) -> None:
    dataset = make_dataset(1, 400)  # its one session is in the split "calibration"
    with pytest.raises(SchemaError, match="no positive row of task 'like' in split train"):
        fit_towers(dataset, CONFIG)
