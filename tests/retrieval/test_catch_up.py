"""A catalogue on disk that changes, and the indexes that must keep up with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from recomind.data import (
    CatalogueStore,
    StoreFormat,
    add_items,
    change_items,
    create_catalogue_store,
    withdraw_items,
)
from recomind.errors import ArtifactError
from recomind.retrieval import (
    LiveIndex,
    Retrieval,
    RetrievalConfig,
    TwoTower,
    build_index,
    catch_up,
    create_live_index,
)
from recomind.retrieval.retrieval import index_items
from recomind.retrieval.two_tower import tower_shape
from recomind.streams import make_generator

NUM, DIM = 400, 8
CONFIG = RetrievalConfig(dim=DIM)


def write(folder: Path, ids: range | list[int], seed: int) -> Path:
    vectors = np.random.default_rng(seed).standard_normal((len(ids), DIM)).astype(np.float32)
    rows = pl.DataFrame({"item_id": list(ids), "age": vectors[:, 0], "embedding": vectors})
    rows.write_parquet(folder / "items.parquet")
    return folder / "items.parquet"


@pytest.fixture
def store(tmp_path: Path) -> CatalogueStore:
    form = StoreFormat(dense_names=["age"], categorical_names=[], vocab_sizes=[], embedding_dim=DIM)
    create_catalogue_store(tmp_path / "store", form)
    return add_items(tmp_path / "store", write(tmp_path, range(NUM), 0))


def expected(store: CatalogueStore, query: Tensor, num: int) -> Tensor:
    """The nearest of what is there, by the store's own embeddings."""
    ids = torch.arange(store.num_items)
    scores = query @ store.embeddings(ids).T
    return scores.masked_fill(store.is_withdrawn(ids), -torch.inf).topk(num).indices


def test_live_index_follows_the_catalogue(store: CatalogueStore, tmp_path: Path) -> None:
    static = build_index(store.embeddings, NUM, CONFIG)
    index = create_live_index(tmp_path / "live", static, store.version)
    query = torch.randn(16, DIM, generator=make_generator(0))
    assert not catch_up(index, store, store.embeddings)
    add_items(store.folder, write(tmp_path, range(NUM, NUM + 50), 1))
    change_items(store.folder, write(tmp_path, [3, 7, NUM + 1], 2))
    withdraw_items(store.folder, torch.tensor([7, 9, NUM + 2]))
    assert store.refresh()
    with pytest.raises(ArtifactError, match="index is older than the catalogue"):
        index.check_version(store.version)
    assert catch_up(index, store, store.embeddings)
    index.check_version(store.version)
    assert torch.equal(index.search(query, 30), expected(store, query, 30))
    withdraw_items(store.folder, torch.tensor([NUM + 3]))
    index.merge()
    store.refresh()
    catch_up(LiveIndex(tmp_path / "live"), store, store.embeddings)
    assert torch.equal(index.search(query, 30), expected(store, query, 30))


def test_index_older_than_its_catalogue_is_refused(store: CatalogueStore, tmp_path: Path) -> None:
    model = TwoTower(tower_shape(store, 2, CONFIG), make_generator(0))
    retrieval = index_items(model, store, CONFIG)
    live = create_live_index(tmp_path / "live", retrieval.index, store.version)  # type: ignore[arg-type]
    Retrieval(model, live, store)
    change_items(store.folder, write(tmp_path, [3], 2))
    store.refresh()
    for index in (retrieval.index, live):
        with pytest.raises(
            ArtifactError, match="index is older than the catalogue; got: version 1"
        ):
            Retrieval(model, index, store)
    catch_up(live, store, retrieval.item_vectors)
    Retrieval(model, live, store)
