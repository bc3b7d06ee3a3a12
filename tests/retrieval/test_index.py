"""The index against exact search, and the vectors that it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from recomind.errors import ArtifactError, ConfigError, SchemaError
from recomind.retrieval import IndexKind, ItemIndex, RetrievalConfig, build_index
from recomind.retrieval import index as index_module
from recomind.retrieval.index import factory_string, load_index
from recomind.retrieval.recall import exact_search, recall


def unit_vectors(num: int, dim: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(num, dim, generator=generator), dim=1)


ITEMS_ND, QUERIES_BD = unit_vectors(2000, 8, 0), unit_vectors(64, 8, 1)
TRUE_BK = (QUERIES_BD @ ITEMS_ND.T).topk(10, dim=1).indices


def vectors_of(item_id: Tensor) -> Tensor:
    return ITEMS_ND[item_id]


def build(kind: IndexKind, nprobe: int = 16, num_lists: int = 0) -> ItemIndex:
    config = RetrievalConfig(dim=8, kind=kind, nprobe=nprobe, num_lists=num_lists)
    return build_index(vectors_of, len(ITEMS_ND), config)


def test_flat_index_and_chunked_reference_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "CHUNK_ITEMS", 300)  # 2000 items: 7 chunks, one partial
    assert torch.equal(build(IndexKind.flat).search(QUERIES_BD, 10), TRUE_BK)
    assert torch.equal(exact_search(QUERIES_BD, vectors_of, 2000, 10), TRUE_BK)


@pytest.mark.parametrize("kind", [IndexKind.flat, IndexKind.ivf])
def test_nearest_is_by_inner_product_not_by_distance(kind: IndexKind) -> None:
    config = RetrievalConfig(dim=8, kind=kind, nprobe=1000)
    length = torch.linspace(1.0, 3.0, 2000)[:, None]
    index = build_index(lambda ids: ITEMS_ND[ids] * length[ids], 2000, config)
    true = (QUERIES_BD @ (ITEMS_ND * length).T).topk(10, dim=1).indices
    assert torch.equal(index.search(QUERIES_BD, 10), true)


def test_ivf_reads_what_it_is_told_to() -> None:
    found = [
        recall(build(IndexKind.ivf, nprobe, num_lists=40).search(QUERIES_BD, 10), TRUE_BK)
        for nprobe in (1, 8, 40)
    ]
    assert found[0] < found[1] < found[2] == 1.0


def test_recall_counts_shares_and_ignores_order() -> None:
    found, true = torch.tensor([[3, 1, -1], [4, 5, 6]]), torch.tensor([[1, 3, 2], [7, 8, 4]])
    assert recall(found, true) == pytest.approx((2 + 1) / 6)


def test_ivf_is_repeatable() -> None:
    one, two = (build(IndexKind.ivf, nprobe=2).search(QUERIES_BD, 50) for _ in range(2))
    assert torch.equal(one, two)


def test_fewer_items_than_asked_for_are_padded() -> None:
    config = RetrievalConfig(dim=8)
    got = build_index(vectors_of, 3, config).search(QUERIES_BD[:2], 5)
    assert got.shape == (2, 5)
    assert (got[:, 3:] == -1).all()
    assert got[:, :3].sort(1).values.tolist() == [[0, 1, 2]] * 2


@pytest.mark.parametrize(
    ("num_items", "kind", "expected"),
    [
        (49_999, IndexKind.auto, "Flat"),
        (50_000, IndexKind.auto, "IVF447,Flat"),
        (50_000, IndexKind.flat, "Flat"),
        (120, IndexKind.ivf, "IVF2,Flat"),
        (10, IndexKind.ivf, "IVF1,Flat"),
        (100_000_000, IndexKind.auto, "IVF20000_HNSW32,SQ8"),
    ],
)
def test_kind_of_index_by_size(num_items: int, kind: IndexKind, expected: str) -> None:
    assert factory_string(num_items, RetrievalConfig(kind=kind)) == expected


def test_compressed_index_finds_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "COMPRESS_FROM", 1000)
    assert recall(build(IndexKind.ivf, nprobe=40).search(QUERIES_BD, 10), TRUE_BK) > 0.9


@pytest.mark.parametrize("kind", [IndexKind.flat, IndexKind.ivf])
def test_index_survives_the_disk(kind: IndexKind, tmp_path: Path) -> None:
    index = build(kind, nprobe=2)
    index.save(tmp_path / "index.faiss")
    loaded = load_index(tmp_path / "index.faiss", nprobe=2)
    assert torch.equal(loaded.search(QUERIES_BD, 20), index.search(QUERIES_BD, 20))
    assert (loaded.num_items, loaded.dim) == (2000, 8)


def test_faiss_leaves_torchs_threads_alone() -> None:
    before = torch.get_num_threads()
    build(IndexKind.ivf).search(QUERIES_BD, 5)
    assert torch.get_num_threads() == before


def with_row(value: float) -> Callable[[Tensor], Tensor]:
    def vectors(item_id: Tensor) -> Tensor:
        return torch.where((item_id == 1700)[:, None], value, ITEMS_ND[item_id])

    return vectors


@pytest.mark.parametrize("kind", [IndexKind.flat, IndexKind.ivf])
@pytest.mark.parametrize("value", [0.0, torch.nan, torch.inf])
def test_bad_item_vectors_are_named(kind: IndexKind, value: float) -> None:
    config = RetrievalConfig(dim=8, kind=kind)
    with pytest.raises(SchemaError, match="item vector is zero or not finite; got: 1 of 2000"):
        build_index(with_row(value), 2000, config)


def test_vectors_of_another_length_are_refused() -> None:
    with pytest.raises(SchemaError, match=r"item vector of another length; .* \[n, 9\]"):
        build_index(vectors_of, 2000, RetrievalConfig(dim=9))
    with pytest.raises(SchemaError, match="query of another length"):
        build(IndexKind.flat).search(torch.ones(2, 9), 5)


def test_query_that_is_no_number_is_refused() -> None:
    with pytest.raises(SchemaError, match="query is zero or not finite; got: 1 of 2 rows"):
        build(IndexKind.flat).search(torch.tensor([[1.0] * 8, [torch.nan] * 8]), 5)


@pytest.mark.parametrize("content", [None, b"", b"not an index"])
def test_unreadable_index_is_an_artifact_error(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "index.faiss"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match="unreadable index"):
        load_index(path)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"dim": 0}, "dim is not positive"),
        ({"temperature": -1.0}, "temperature is not positive"),
        ({"learning_rate": float("nan")}, "learning_rate is not positive"),
        ({"num_epochs": -1}, "num_epochs is negative"),
        ({"batch_size": 1}, "no negatives"),
    ],
)
def test_bad_settings_are_named(setting: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RetrievalConfig(**setting)  # pyright: ignore[reportArgumentType]
