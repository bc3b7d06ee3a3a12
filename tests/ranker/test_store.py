"""An ensemble comes back from disk to the bit, or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from recomind.artifacts import Manifest, read_manifest
from recomind.errors import ArtifactError
from recomind.ranker import SessionRanker, load_rankers, load_weights, predict, save_rankers
from tests.simulation.tiny import RANKER, tiny_catalogue, tiny_dataset, tiny_ranker


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "ranker"
    save_rankers(
        folder, [tiny_ranker(0), tiny_ranker(1)], tiny_catalogue(), Manifest(kind="", seed=4)
    )
    return folder


def test_the_same_ensemble_comes_back(folder):
    dataset = tiny_dataset()
    rows, loaded = dataset.rows("test"), load_rankers(folder)
    assert len(loaded) == 2
    for seed, ranker in enumerate(loaded):
        assert torch.equal(
            predict(ranker, dataset, rows)[0], predict(tiny_ranker(seed), dataset, rows)[0]
        )
        assert isinstance(ranker, SessionRanker)
        assert ranker.config == RANKER
        assert not ranker.training
        assert ranker.table is not None


def test_nothing_in_it_is_a_pickle(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "manifest.json",
        "catalogue.json",
        "catalogue.safetensors",
        "member_0.safetensors",
        "member_1.safetensors",
    }
    manifest = read_manifest(folder, "ranker")
    assert manifest.seed == 4
    assert set(manifest.files) == names - {"manifest.json"}


def test_a_damaged_member_is_refused(folder):
    path = folder / "member_1.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ArtifactError, match=r"damaged artifact.*member_1"):
        load_rankers(folder)


def test_weights_of_another_shape_are_refused(folder):
    dataset = tiny_dataset()
    other = SessionRanker(
        tiny_catalogue(), dataset.tasks, dataset.num_user_features, replace(RANKER, dim=6)
    )
    with pytest.raises(ArtifactError, match=r"(?s)weights do not fit the model.*size mismatch"):
        load_weights(other, folder / "member_0.safetensors")


def test_an_absent_ensemble_is_told(tmp_path):
    with pytest.raises(ArtifactError, match="no ranker here"):
        load_rankers(tmp_path)
