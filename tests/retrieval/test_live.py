"""New items at once, withdrawn items never, one generation at a time."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from recomind.errors import ArtifactError, SchemaError
from recomind.retrieval import (
    IndexKind,
    IndexUpdate,
    LiveIndex,
    RetrievalConfig,
    build_index,
    create_live_index,
)
from recomind.retrieval import index as index_module
from recomind.retrieval.recall import recall
from recomind.streams import make_generator

DIM, NUM = 8, 1_000
VECTORS_ND = functional.normalize(torch.randn(2_000, DIM, generator=make_generator(0)), dim=1)
QUERY_BD = functional.normalize(torch.randn(32, DIM, generator=make_generator(1)), dim=1)
NONE = torch.zeros(0, dtype=torch.int64)


def live(folder: Path, kind: IndexKind = IndexKind.ivf) -> LiveIndex:
    """The first `NUM` items, every list read, so that search is exact but for compression."""
    config = RetrievalConfig(dim=DIM, kind=kind, nprobe=1_000)
    return create_live_index(folder, build_index(lambda ids: VECTORS_ND[ids], NUM, config))


def change(
    version: int, item_id: Tensor = NONE, withdrawn: Tensor = NONE, num_items: int = 2_000
) -> IndexUpdate:
    return IndexUpdate(
        version=version,
        num_items=num_items,
        item_id=item_id,
        vectors=VECTORS_ND[item_id],
        withdrawn=withdrawn,
    )


def true_nearest(there: Tensor, num: int) -> Tensor:
    """[B, num] among the ids `there`."""
    return there[(QUERY_BD @ VECTORS_ND[there].T).topk(num, dim=1).indices]


@pytest.mark.parametrize("kind", [IndexKind.flat, IndexKind.ivf])
def test_search_is_that_of_what_is_there(kind: IndexKind, tmp_path: Path) -> None:
    index = live(tmp_path, kind)
    assert torch.equal(index.search(QUERY_BD, 20), true_nearest(torch.arange(NUM), 20))
    index.update(change(1, torch.arange(NUM, 1_500), torch.arange(0, 400)))
    there = torch.arange(400, 1_500)
    for _ in range(2):
        assert torch.equal(index.search(QUERY_BD, 20), true_nearest(there, 20))
        assert torch.equal(LiveIndex(tmp_path).search(QUERY_BD, 20), true_nearest(there, 20))
        index.merge()
        assert index.num_side_items == 0
    assert (index.num_items, index.version) == (2_000, 1)


def test_merge_into_compressed_lists_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "COMPRESS_FROM", 500)
    index = live(tmp_path)
    index.update(change(1, torch.arange(NUM, 2_000), torch.arange(0, 400)))
    index.merge()
    found, true = index.search(QUERY_BD, 20), true_nearest(torch.arange(400, 2_000), 20)
    assert recall(found, true) > 0.9
    everything = index.search(QUERY_BD, 2_000)
    assert (everything[:, 1_600:] == -1).all()
    assert (everything[:, :1_600].sort(1).values == torch.arange(400, 2_000)).all()


def test_changed_item_is_found_by_its_new_vector_alone(tmp_path: Path) -> None:
    index = live(tmp_path)
    update = change(1, torch.tensor([7]))
    update.vectors = -VECTORS_ND[7:8]
    index.update(update)
    for _ in range(2):
        near_old, near_new = index.search(torch.stack([VECTORS_ND[7], -VECTORS_ND[7]]), NUM)
        assert near_new[0] == 7
        assert near_old[-1] == 7, "the farthest of all"
        assert (near_old == 7).sum() == 1
        index.merge()


def test_withdrawn_side_item_is_gone_and_cannot_come_back(tmp_path: Path) -> None:
    index = live(tmp_path)
    index.update(change(1, torch.tensor([1_200])))
    assert index.search(VECTORS_ND[1_200:1_201], 1).item() == 1_200
    index.update(change(2, withdrawn=torch.tensor([1_200, 3])))
    for _ in range(2):
        assert not torch.isin(index.search(QUERY_BD, 2_000), torch.tensor([3, 1_200])).any()
        with pytest.raises(SchemaError, match="withdrawn and cannot come back; got: 1, the first"):
            index.update(change(3, torch.tensor([3])))
        index.merge()


def test_updates_during_a_merge_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the merge writes its base, other hands add, change and withdraw."""
    from recomind.retrieval import live as live_module

    index, write_base = live(tmp_path), live_module.write_base
    index.update(change(1, torch.arange(NUM, 1_200)))

    def busy(*args: object) -> str:
        name = write_base(*args)  # type: ignore[arg-type]
        late = change(2, torch.tensor([5, 1_000, 1_300]), torch.tensor([6, 1_001]))
        late.vectors = -late.vectors
        other = LiveIndex(tmp_path)
        for version in range(2, 7):  # more generations than are kept
            late.version = version
            other.update(late)
        return name

    monkeypatch.setattr(live_module, "write_base", busy)
    index.merge()
    assert index.num_side_items == 3
    for item in (5, 1_000, 1_300):
        assert index.search(-VECTORS_ND[item : item + 1], 1).item() == item
        assert index.search(VECTORS_ND[item : item + 1], 1).item() != item
    everything = index.search(QUERY_BD[:1], 2_000)[0]
    kept = [item for item in (*range(1_200), 1_300) if item not in (6, 1_001)]
    assert everything[everything >= 0].sort().values.tolist() == kept


def test_versions(tmp_path: Path) -> None:
    index = live(tmp_path)
    index.update(change(3))
    index.check_version(3)
    with pytest.raises(ArtifactError, match="older than the catalogue; got: version 3"):
        index.check_version(4)
    with pytest.raises(ArtifactError, match="at this version or a later one"):
        index.update(change(3))
    with pytest.raises(ArtifactError, match="a live index here already"):
        live(tmp_path)
    with pytest.raises(ArtifactError, match="no live index here"):
        LiveIndex(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (
            change(1, torch.tensor([1_000, 1_001, 1_000])),
            "repeated item ids; got: 1, the first is 1000",
        ),
        (change(1, torch.tensor([1_500]), num_items=1_500), "not in the catalogue of 1500"),
        (change(1, withdrawn=torch.tensor([-1])), "not in the catalogue of 2000"),
        (
            IndexUpdate(
                version=1,
                num_items=2_000,
                item_id=torch.tensor([1, 2]),
                vectors=VECTORS_ND[:1],
                withdrawn=NONE,
            ),
            "one vector for each item; got: 2 ids",
        ),
        (
            IndexUpdate(
                version=1,
                num_items=2_000,
                item_id=torch.tensor([1]),
                vectors=torch.zeros(1, DIM),
                withdrawn=NONE,
            ),
            "item vector is zero or not finite",
        ),
        (
            IndexUpdate(
                version=1,
                num_items=2_000,
                item_id=torch.tensor([1]),
                vectors=torch.ones(1, DIM + 1),
                withdrawn=NONE,
            ),
            "item vector of another length",
        ),
    ],
)
def test_bad_updates_are_named_and_change_nothing(
    update: IndexUpdate, message: str, tmp_path: Path
) -> None:
    index = live(tmp_path)
    with pytest.raises(SchemaError, match=message):
        index.update(update)
    assert LiveIndex(tmp_path).version == 0


def test_damaged_generation_is_an_error(tmp_path: Path) -> None:
    index = live(tmp_path)
    index.update(change(1, torch.tensor([1_000])))
    (tmp_path / "generation-000002" / "side_id.npy").write_bytes(b"")
    with pytest.raises(ArtifactError, match="damaged artifact"):
        LiveIndex(tmp_path)


def test_old_generations_and_bases_are_swept(tmp_path: Path) -> None:
    index = live(tmp_path)
    for version in range(1, 6):
        index.update(change(version, torch.tensor([NUM + version])))
        index.merge()
    kept = sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("."))
    assert kept[0] == "CURRENT.json"
    assert kept[1:3] == ["base-000005", "base-000006"]
    assert kept[3:] == ["generation-000009", "generation-000010", "generation-000011"]


def forked(work: Callable[[], object]) -> int:
    """Run `work` in a process of its own, whose status is 0 where it returns."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def test_searches_never_see_half_a_change(tmp_path: Path) -> None:
    """Version v holds the pair (NUM + 2 v, NUM + 2 v + 1) and not the pair before it.

    Two processes search while a third adds and withdraws pairs, merging now and then. Whatever a
    search returns holds exactly one pair, and a later search never an earlier pair.
    """
    num_versions, index = 40, live(tmp_path)
    index.update(change(1, torch.tensor([NUM + 2, NUM + 3])))

    def write() -> None:
        writer = LiveIndex(tmp_path)
        for version in range(2, num_versions + 1):
            pair = torch.tensor([NUM + 2 * version, NUM + 2 * version + 1])
            writer.update(change(version, pair, pair - 2))
            if version % 7 == 0:
                writer.merge()

    def read() -> None:
        reader, last, seen = LiveIndex(tmp_path), 1, set[int]()
        while last < num_versions:
            found = reader.search(QUERY_BD[:1], 2_000)[0]
            new = found[found >= NUM].sort().values.tolist()
            assert len(new) == 2, new
            assert new[1] == new[0] + 1, new
            assert len(found[(found >= 0) & (found < NUM)]) == NUM
            assert (new[0] - NUM) // 2 >= last
            last = (new[0] - NUM) // 2
            seen.add(last)
        assert len(seen) > 1, "the searches saw nothing of the changes"

    children = [forked(read), forked(read), forked(write)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]


def write_on(folder: Path) -> None:
    """A change a version, and a merge every fifth, for ever."""
    writer = LiveIndex(folder)
    while True:
        version = writer.version + 1
        writer.update(change(version, torch.tensor([NUM + version % 900])))
        if version % 5 == 0:
            writer.merge()


def test_killed_writer_leaves_a_whole_index_and_no_lock(tmp_path: Path) -> None:
    index, draws = live(tmp_path), random.Random(0)
    for _ in range(5):
        version, deadline = index.version, time.monotonic() + 60
        child = forked(lambda: write_on(tmp_path))
        while index.version < version + 2:
            assert time.monotonic() < deadline, "no version was made"
            index.refresh()
        time.sleep(draws.uniform(0.0, 0.2))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        index = LiveIndex(tmp_path)
        found = index.search(QUERY_BD[:1], 2_000)[0]
        new = {NUM + made % 900 for made in range(1, index.version + 1)}
        assert found[found >= 0].sort().values.tolist() == sorted({*range(NUM), *new})
    index.update(change(index.version + 1, torch.tensor([1_999])))
    assert index.search(VECTORS_ND[1_999:], 1).item() == 1_999
