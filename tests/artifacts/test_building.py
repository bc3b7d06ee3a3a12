"""Sizes that a manifest names are held against its weights before memory is taken for them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from recomind.artifacts import Manifest, NoLargerThan
from recomind.errors import ArtifactError
from recomind.export import export_policy, load_scorer
from recomind.policy import LoggedDensity, load_density
from recomind.ranker import load_rankers, new_ranker, save_rankers
from recomind.retrieval import RetrievalConfig, load_retrieval, train_retrieval
from tests.export.tiny import network, settings
from tests.sealing import reseal
from tests.simulation import tiny

MANY = 2**18  # times a width of some tens: a failed test takes no more than the machine has

TOWERS = RetrievalConfig(dim=6, history_length=tiny.LENGTH, num_epochs=1)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, dataset = tmp_path_factory.mktemp("building"), tiny.tiny_dataset()
    rankers = [new_ranker(dataset, tiny.RANKER, 0)]
    save_rankers(root / "ranker", rankers, tiny.tiny_catalogue(), Manifest(kind="ranker"))
    LoggedDensity(5, 4).save(root / "density", Manifest(kind="density"))
    train_retrieval(dataset, TOWERS, root / "index")
    export_policy(root / "scorer", network(), settings())
    return root


def state_width(extra: Any) -> None:
    extra["state_width"] = MANY


def item_width(extra: Any) -> None:
    extra["item_width"] = MANY


def user_features(extra: Any) -> None:
    extra["members"][0]["num_user_features"] = MANY


def towers(extra: Any) -> None:
    extra["towers"]["dim"] = MANY


def effects(extra: Any) -> None:
    extra["effects_shape"] = [MANY, 16]


CASES: list[tuple[str, Callable[[Any], None], Callable[[Path], Any]]] = [
    ("density", state_width, load_density),
    ("density", item_width, load_density),
    ("ranker", user_features, load_rankers),
    ("index", towers, lambda folder: load_retrieval(folder, tiny.tiny_catalogue())),
    ("scorer", effects, load_scorer),
]


@pytest.mark.parametrize(("kind", "change", "load"), CASES)
def test_a_manifest_of_larger_sizes_than_its_weights_is_refused(
    kind: str,
    change: Callable[[Any], None],
    load: Callable[[Path], Any],
    written: Path,
    tmp_path: Path,
) -> None:
    folder = Path(shutil.copytree(written / kind, tmp_path / kind))
    load(folder)
    reseal(folder, lambda manifest: change(manifest.extra))
    with pytest.raises(ArtifactError, match="the manifest names sizes of"):
        load(folder)


def test_many_small_layers_count_together(tmp_path: Path) -> None:
    def build() -> None:
        for _ in range(1000):
            torch.nn.Linear(100, 100)

    with pytest.raises(ValueError, match="the manifest names sizes of"), NoLargerThan(tmp_path):
        build()
