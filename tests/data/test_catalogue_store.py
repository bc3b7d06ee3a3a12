"""The catalogue on disk: what goes in comes out, at every version, in every process."""

from __future__ import annotations

import multiprocessing
import random
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from recomind.artifacts import read_json, write_json
from recomind.data import (
    CatalogueStore,
    EmbeddingKind,
    StoreFormat,
    add_items,
    change_items,
    create_catalogue_store,
    load_catalogue,
    materialise,
    storable,
    withdraw_items,
)
from recomind.data import catalogue_writer as writer_module
from recomind.data.catalogue_format import FORMAT
from recomind.errors import ArtifactError, ConfigError, SchemaError
from recomind.types import Catalogue
from tests.data.storing import DIM, NUM, change_pairs, grow, read_pairs, table, withdraw_many

# Not plain forks: the threads of polars do not live on in them.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.data.storing"])


def form(kind: EmbeddingKind = EmbeddingKind.float16, dim: int = DIM) -> StoreFormat:
    return StoreFormat(
        dense_names=["age", "rate"],
        categorical_names=["tag"],
        vocab_sizes=[5],
        embedding_dim=dim,
        embedding=kind,
    )


def written(folder: Path, rows: pl.DataFrame) -> Path:
    path = folder / "items.parquet"
    rows.write_parquet(path)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of `NUM` items, written in chunks of 300."""
    monkeypatch.setattr(writer_module, "CHUNK_ROWS", 300)
    create_catalogue_store(tmp_path / "store", form())
    add_items(tmp_path / "store", written(tmp_path, table(np.arange(NUM))))
    return tmp_path / "store"


def assert_holds(store: CatalogueStore, ids: torch.Tensor, rows: pl.DataFrame) -> None:
    """The store's items `ids` are the rows of the table."""
    content = store.features(ids)
    assert content.dense.dtype == torch.float32
    assert content.categorical.dtype == torch.int64
    assert torch.equal(content.dense, torch.from_numpy(rows["age", "rate"].to_numpy().astype("f4")))
    assert content.categorical[:, 0].tolist() == rows["tag"].to_list()
    expected = torch.from_numpy(rows["embedding"].to_numpy().copy())
    assert torch.allclose(store.embeddings(ids), expected, atol=2e-3)


def test_it_is_a_catalogue_of_what_was_written(folder: Path) -> None:
    store, rows = CatalogueStore(folder), table(np.arange(NUM))
    assert isinstance(store, Catalogue)
    assert (store.num_items, store.version, store.vocab_sizes) == (NUM, 1, (5,))
    assert_holds(store, torch.arange(NUM), rows)
    ids = torch.tensor([[0, 999, 7], [7, 300, 299]])
    assert store.features(ids).dense.shape == (2, 3, 2)
    assert store.features(ids[:, :0]).dense.shape == (2, 0, 2)
    assert store.embeddings(ids)[1, 0].equal(store.embeddings(torch.tensor([7]))[0])
    store.verify()


def test_eight_bits_are_within_half_a_step(tmp_path: Path) -> None:
    create_catalogue_store(tmp_path / "s", form(EmbeddingKind.int8))
    rows = table(np.arange(NUM))
    store = add_items(tmp_path / "s", written(tmp_path, rows))
    exact = torch.from_numpy(rows["embedding"].to_numpy().copy())
    step = exact.abs().amax(1, keepdim=True) / 127
    assert ((store.embeddings(torch.arange(NUM)) - exact).abs() <= 0.501 * step).all()
    assert (tmp_path / "s" / "items" / "embedding.bin").stat().st_size == NUM * DIM


def test_every_version_keeps_its_content(folder: Path, tmp_path: Path) -> None:
    first, ids = CatalogueStore(folder), np.array([3, 999, 0])
    change_items(folder, written(tmp_path, table(ids, seed=1)))
    change_items(folder, written(tmp_path, table(ids[:1], seed=2)))
    add_items(folder, written(tmp_path, table(np.arange(NUM, NUM + 9), seed=3)))
    newest = withdraw_items(folder, torch.tensor([999, 5]))
    assert_holds(first, torch.arange(NUM), table(np.arange(NUM)))
    assert_holds(CatalogueStore(folder, 2), torch.from_numpy(ids), table(ids, seed=1))
    assert_holds(newest, torch.tensor([3]), table(ids[:1], seed=2))
    assert_holds(newest, torch.tensor([999, 0]), table(ids, seed=1)[1:])
    assert_holds(newest, torch.arange(NUM, NUM + 9), table(np.arange(NUM, NUM + 9), seed=3))
    assert newest.is_withdrawn(torch.tensor([[5, 6], [999, 1_003]])).tolist() == [
        [True, False],
        [True, False],
    ]
    newest.verify()
    assert first.refresh()
    assert (first.version, first.num_items) == (5, NUM + 9)
    assert not first.refresh()


def test_changes_since(folder: Path, tmp_path: Path) -> None:
    add_items(folder, written(tmp_path, table(np.arange(NUM, NUM + 3))))
    change_items(folder, written(tmp_path, table(np.array([2, NUM, 4]))))
    change_items(folder, written(tmp_path, table(np.array([2]))))
    store = withdraw_items(folder, torch.tensor([4, NUM + 1, 8]))
    changes = store.changes_since(1)
    assert changes.added.tolist() == [NUM, NUM + 2]
    assert changes.changed.tolist() == [2]
    assert changes.withdrawn.tolist() == [4, 8, NUM + 1]
    late = store.changes_since(3)
    assert (late.added.tolist(), late.changed.tolist()) == ([], [2])


def test_withdrawing_twice_is_one_version(folder: Path) -> None:
    assert withdraw_items(folder, torch.tensor([1, 1, 2])).version == 2
    assert withdraw_items(folder, torch.tensor([2])).version == 2


def altered(column: str, row: int, value: object) -> pl.DataFrame:
    rows = table(np.arange(NUM, NUM + 500))
    values = rows[column].to_list()
    values[row] = value
    kinds = {"tag": pl.Int64, "age": pl.Float64, "embedding": pl.List(pl.Float32)}
    return rows.with_columns(pl.Series(column, values, dtype=kinds.get(column)))


BAD = [
    (altered("item_id", 450, NUM + 3), "do not go on .* got: 1003, which is there already; expect"),
    (altered("item_id", 0, 7), "got: 7, which is there already; expected: 1000"),
    (altered("item_id", 1, NUM + 2), "got: 1002; expected: 1001"),
    (altered("age", 400, float("nan")), "dense features that are not finite; got: 1, .* 1400"),
    (altered("age", 400, None), "dense features that are not finite; got: 1, .* 1400"),
    (altered("tag", 2, 5), "outside their vocabularies; got: 1, the first is 1002"),
    (altered("tag", 2, -1), "outside their vocabularies"),
    (altered("tag", 2, None), "column 'tag' has nulls"),
    (altered("embedding", 9, [1.0] * 5), "embeddings that are not 6 long; got: 1, .* 1009"),
    (altered("embedding", 9, None), "embeddings that are not 6 long"),
    (altered("embedding", 9, [0.0] * DIM), "embeddings that are zero or not finite"),
    (altered("embedding", 9, [float("nan")] + [1.0] * 5), "zero or not finite"),
    (altered("embedding", 9, [1e9] + [1.0] * 5), "zero or not finite"),
    (table(np.arange(NUM, NUM + 2)).drop("rate"), r"columns of items are absent.*\['rate'\]"),
    (table(np.arange(NUM, NUM + 2)).with_columns(tag=pl.lit("x")), "'tag' of another type"),
]


@pytest.mark.parametrize(("rows", "message"), BAD)
def test_bad_rows_are_named_and_change_nothing(
    rows: pl.DataFrame, message: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(SchemaError, match=message):
        add_items(folder, written(tmp_path, rows))
    assert CatalogueStore(folder).version == 1
    good = add_items(folder, written(tmp_path, table(np.arange(NUM, NUM + 500), seed=4)))
    assert_holds(good, torch.arange(NUM, NUM + 500), table(np.arange(NUM, NUM + 500), seed=4))
    good.verify()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 2, 1], "ids that come twice; got: 1, the first is 1"),
        ([1, NUM], f"ids outside the catalogue of {NUM}"),
        ([-1], "ids outside the catalogue"),
        ([3, 4], "ids that were withdrawn; got: 1, the first is 4"),
    ],
)
def test_bad_changes_are_named(ids: list[int], message: str, folder: Path, tmp_path: Path) -> None:
    withdraw_items(folder, torch.tensor([4]))
    with pytest.raises(SchemaError, match=message):
        change_items(folder, written(tmp_path, table(np.array(ids))))
    assert CatalogueStore(folder).version == 2


@pytest.mark.parametrize("item", [-1, NUM])
def test_ids_that_are_not_in_the_catalogue_are_refused(item: int, folder: Path) -> None:
    store, ids = CatalogueStore(folder), torch.tensor([0, item])
    for ask in (store.features, store.embeddings, store.is_withdrawn):
        with pytest.raises(SchemaError, match=f"item id out of range; got: {item}; expected: in"):
            ask(ids)
    with pytest.raises(SchemaError, match="item id out of range"):
        withdraw_items(folder, ids)


def test_damage_is_an_artifact_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="unreadable catalogue"):
        CatalogueStore(tmp_path)
    with pytest.raises(ArtifactError, match="unreadable catalogue"):
        CatalogueStore(folder, 9)
    with pytest.raises(ArtifactError, match="a catalogue here already"):
        create_catalogue_store(folder, form())
    path = folder / "items" / "dense.bin"
    content = bytearray(path.read_bytes())
    content[5_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"their recorded hash; .*dense.bin, bytes 4"):
        CatalogueStore(folder).verify()
    path.write_bytes(content[:-1])
    with pytest.raises(ArtifactError, match="shorter than its version says"):
        CatalogueStore(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dense_names", 3),
        ("dense_names", None),
        ("dense_names", "age"),
        ("dense_names", ["age", 1]),
        ("dense_names", ["age", "age"]),
        ("categorical_names", True),
        ("vocab_sizes", {"tag": 5}),
        ("vocab_sizes", [True]),
        ("vocab_sizes", ["5"]),
        ("embedding_dim", 0.5),
        ("embedding_dim", "4"),
        ("embedding", []),
    ],
)
def test_a_format_of_other_types_is_refused(name: str, value: object, folder: Path) -> None:
    write_json(folder / FORMAT, read_json(folder / FORMAT) | {name: value})
    with pytest.raises(ArtifactError, match=r"unreadable catalogue; got: .*"):
        CatalogueStore(folder)
    with pytest.raises(ArtifactError, match="unreadable catalogue"):
        add_items(folder, written(folder.parent, table(np.arange(NUM, NUM + 2))))


def test_a_version_that_shrinks_while_it_is_open_is_refused(folder: Path, tmp_path: Path) -> None:
    store = CatalogueStore(folder)
    change_items(folder, written(tmp_path, table(np.arange(3))))
    path = folder / "changed" / "item_id.bin"
    path.unlink()
    path.mkdir()
    with pytest.raises(ArtifactError, match=r"catalogue"):
        store.refresh()


def test_store_without_embeddings(tmp_path: Path) -> None:
    create_catalogue_store(tmp_path / "s", form(dim=0))
    store = add_items(tmp_path / "s", written(tmp_path, table(np.arange(5)).drop("embedding")))
    assert store.features(torch.arange(5)).dense.shape == (5, 2)
    with pytest.raises(SchemaError, match="a catalogue without embeddings"):
        store.embeddings(torch.arange(5))


def test_bad_formats_are_named() -> None:
    with pytest.raises(ConfigError, match="one vocabulary a categorical feature"):
        StoreFormat(dense_names=[], categorical_names=["a"], vocab_sizes=[])
    with pytest.raises(ConfigError, match="a size is not positive"):
        StoreFormat(dense_names=[], categorical_names=["a"], vocab_sizes=[0])


def test_killed_writers_leave_no_trace(folder: Path, tmp_path: Path) -> None:
    draws, sizes = random.Random(0), [NUM]
    for _ in range(4):
        process = PROCESSES.Process(target=grow, args=(folder, tmp_path / "items.parquet"))
        process.start()
        deadline = time.monotonic() + 60
        while CatalogueStore(folder).num_items == sizes[-1] and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(draws.uniform(0.0, 0.1))
        process.kill()
        process.join()
        sizes.append(CatalogueStore(folder).num_items)
    assert sizes == sorted(set(sizes)), "a version was lost, or none was written"
    CatalogueStore(folder).verify()
    store = add_items(folder, written(tmp_path, table(np.arange(sizes[-1], sizes[-1] + 5))))
    store.verify()
    for begin in range(NUM, sizes[-1], 400):
        rows = table(np.arange(begin, begin + 400), seed=begin)
        assert_holds(store, torch.arange(begin, begin + 400), rows)


def test_readers_see_whole_versions_while_another_writes(folder: Path, tmp_path: Path) -> None:
    processes = [PROCESSES.Process(target=read_pairs, args=(folder,)) for _ in range(2)]
    writer = PROCESSES.Process(target=change_pairs, args=(folder, tmp_path / "items.parquet"))
    for process in (*processes, writer):
        process.start()
    for process in (*processes, writer):
        process.join()
    assert [process.exitcode for process in (*processes, writer)] == [0, 0, 0]


def test_two_writers_take_turns(folder: Path) -> None:
    processes = [PROCESSES.Process(target=withdraw_many, args=(folder, at)) for at in (0, 500)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    store = CatalogueStore(folder)
    assert store.version == 1 + 2 * 20
    assert store.is_withdrawn(torch.arange(NUM)).nonzero()[:, 0].tolist() == [
        *range(20),
        *range(500, 520),
    ]
    store.verify()


def test_columns_are_mapped_and_not_read(tmp_path: Path) -> None:
    """A process that opens 26 MB of embeddings gets none of them for itself."""
    num, dim = 200_000, 64
    create_catalogue_store(tmp_path / "s", form(dim=dim))
    vectors = np.ones((num, dim), dtype=np.float32)
    rows = pl.DataFrame({"item_id": np.arange(num), "age": 0.0, "rate": 0.0, "tag": 0})
    add_items(tmp_path / "s", written(tmp_path, rows.with_columns(embedding=pl.Series(vectors))))

    def own_kib() -> int:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))

    before = own_kib()
    stores = [CatalogueStore(tmp_path / "s") for _ in range(3)]
    assert all(
        store.embeddings(torch.arange(0, num, 100)).sum() == num // 100 * dim for store in stores
    )
    assert own_kib() - before < 10_000


def test_an_artifact_refers_to_the_version_it_was_made_from(folder: Path, tmp_path: Path) -> None:
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    CatalogueStore(folder).save(artifact)
    rows = table(np.arange(NUM, NUM + 10), seed=1)
    add_items(folder, written(tmp_path, rows))
    found = load_catalogue(artifact)
    assert isinstance(found, CatalogueStore)
    assert (found.num_items, found.version) == (NUM, 1)
    assert found.refresh()
    assert found.num_items == NUM + 10


def test_another_store_in_the_same_place_is_refused(folder: Path, tmp_path: Path) -> None:
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    CatalogueStore(folder).save(artifact)
    folder.rename(tmp_path / "away")
    with pytest.raises(ArtifactError, match=r"not where the artifact says.*RECOMIND_CATALOGUE"):
        load_catalogue(artifact)
    create_catalogue_store(folder, form())
    add_items(folder, written(tmp_path, table(np.arange(NUM), seed=1)))
    with pytest.raises(ArtifactError, match="another catalogue store than the artifact was made"):
        load_catalogue(artifact)
    (artifact / "catalogue_store.json").write_text("{}")
    with pytest.raises(ArtifactError, match="unreadable catalogue"):
        load_catalogue(artifact)


def test_a_store_is_never_copied_into_a_table(folder: Path) -> None:
    store = CatalogueStore(folder)
    assert storable(store, 1) is store
    with pytest.raises(ConfigError, match="too large to be copied"):
        storable(materialise(store, NUM), 1)
