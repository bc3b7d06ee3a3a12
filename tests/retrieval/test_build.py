"""The streamed build: byte-identical to the one in memory, whenever it is killed."""

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

from recomind.errors import ArtifactError, SchemaError
from recomind.retrieval import (
    IndexKind,
    ItemIndex,
    RetrievalConfig,
    build_index,
    build_index_file,
)
from recomind.retrieval import build as build_module
from recomind.retrieval import index as index_module
from recomind.retrieval.index import load_index
from recomind.retrieval.recall import choose_nprobe, exact_search, recall
from recomind.streams import hash_int64, hash_normal

NUM_ITEMS, DIM = 4_000, 8
CONFIG = RetrievalConfig(dim=DIM, kind=IndexKind.ivf, num_lists=40)
SMALL = (
    (index_module, "CHUNK_ITEMS", 100),
    (index_module, "COMPRESS_FROM", 1_000),
    (build_module, "PART_ITEMS", 300),
)


def vectors_of(item_id: Tensor) -> Tensor:
    """[n, D], a hash of the id."""
    return hash_normal(hash_int64(item_id, 5)[:, None] + torch.arange(DIM) * 0x5851F42D)


def build(folder: Path, pause_s: float = 0.0) -> ItemIndex:
    """Build `index.faiss` in `folder`, with a pause at every chunk of items."""

    def slowly(item_id: Tensor) -> Tensor:
        time.sleep(pause_s)
        return vectors_of(item_id)

    return build_index_file(slowly, NUM_ITEMS, CONFIG, folder / "index.faiss", source="hash")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in SMALL:
        monkeypatch.setattr(module, name, value)


def in_memory(folder: Path, config: RetrievalConfig = CONFIG) -> bytes:
    build_index(vectors_of, NUM_ITEMS, config).save(folder / "memory.faiss")
    return (folder / "memory.faiss").read_bytes()


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        RetrievalConfig(dim=DIM, kind=IndexKind.flat),
        RetrievalConfig(dim=DIM, kind=IndexKind.ivf, num_lists=40, build_threads=2),
    ],
)
def test_build_in_parts_is_the_build_in_memory(config: RetrievalConfig, tmp_path: Path) -> None:
    built = build_index_file(vectors_of, NUM_ITEMS, config, tmp_path / "b.faiss", source="hash")
    assert (tmp_path / "b.faiss").read_bytes() == in_memory(tmp_path, config)
    assert {path.name for path in tmp_path.iterdir()} == {"b.faiss", "memory.faiss"}
    query = vectors_of(torch.arange(20))
    found = load_index(tmp_path / "memory.faiss").search(query, 9)
    assert torch.equal(built.search(query, 9), found)


def test_sparse_lists_are_written_as_faiss_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All vectors are near one of two centroids of 40, which is more empty lists than full."""

    def two_places(item_id: Tensor) -> Tensor:
        return torch.eye(DIM)[item_id % 2] + 1e-6 * vectors_of(item_id)

    trained_on_all = build_module.train_index
    monkeypatch.setattr(
        build_module, "train_index", lambda _, num, config: trained_on_all(vectors_of, num, config)
    )
    parts = build_index_file(two_places, 2_000, CONFIG, tmp_path / "b.faiss", source="two")
    whole = trained_on_all(vectors_of, 2_000, CONFIG)
    whole.add(two_places(torch.arange(2_000)).numpy())
    build_module.faiss.write_index(whole, str(tmp_path / "whole.faiss"))
    assert b"sprs" in (tmp_path / "b.faiss").read_bytes()
    assert (tmp_path / "b.faiss").read_bytes() == (tmp_path / "whole.faiss").read_bytes()
    assert parts.num_items == 2_000


def forked(work: Callable[[], object]) -> int:
    """Start `work` in a process of its own and return the process's id."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    return child


def test_killed_builds_go_on_and_end_the_same(tmp_path: Path) -> None:
    draws, work = random.Random(0), tmp_path / ".index.faiss.build"
    parts_seen = [0]
    for _ in range(4):
        child, deadline = forked(lambda: build(tmp_path, 0.1)), time.monotonic() + 60
        while len(list(work.glob("part-?????.faiss"))) == parts_seen[-1]:
            assert time.monotonic() < deadline, "no part was made"
            time.sleep(0.01)
        time.sleep(draws.uniform(0.0, 0.3))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, "it ended before the kill"
        parts_seen.append(len(list(work.glob("part-?????.faiss"))))
    assert parts_seen == sorted(parts_seen), "a finished part was lost"
    assert not (tmp_path / "index.faiss").exists()
    build(tmp_path)
    assert (tmp_path / "index.faiss").read_bytes() == in_memory(tmp_path)


@pytest.mark.parametrize("stage", ["trained.faiss", "part-00003.faiss", "merged.faiss"])
def test_kill_while_a_file_is_written(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork dies as its file is written but not yet renamed; what it left is not believed."""
    finish = build_module._finish

    def die(staging: Path, path: Path) -> None:
        if path.name == stage:
            staging.write_bytes(staging.read_bytes()[:-100])
            os.kill(os.getpid(), signal.SIGKILL)
        finish(staging, path)

    monkeypatch.setattr(build_module, "_finish", die)
    child = forked(lambda: build(tmp_path))
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    monkeypatch.setattr(build_module, "_finish", finish)
    assert list((tmp_path / ".index.faiss.build").glob("*.tmp"))
    build(tmp_path)
    assert (tmp_path / "index.faiss").read_bytes() == in_memory(tmp_path)


def test_finished_parts_are_not_made_again(tmp_path: Path) -> None:
    asked: list[int] = []

    def failing(item_id: Tensor) -> Tensor:
        asked.extend(item_id.tolist())
        if len(item_id) <= 100 and item_id[0] >= 2_000:
            raise KeyboardInterrupt
        return vectors_of(item_id)

    path = tmp_path / "index.faiss"
    for _ in range(2):
        asked.clear()
        with pytest.raises(KeyboardInterrupt):
            build_index_file(failing, NUM_ITEMS, CONFIG, path, source="hash")
    assert min(asked) == 1_800, "six parts of 300 were there"


def test_work_on_other_vectors_is_thrown_away(tmp_path: Path) -> None:
    def failing(item_id: Tensor) -> Tensor:
        if len(item_id) <= 100 and item_id[0] >= 2_000:
            raise KeyboardInterrupt
        return -vectors_of(item_id)

    path = tmp_path / "index.faiss"
    with pytest.raises(KeyboardInterrupt):
        build_index_file(failing, NUM_ITEMS, CONFIG, path, source="minus")
    build(tmp_path)
    assert path.read_bytes() == in_memory(tmp_path)


def test_bad_vectors_stop_the_build(tmp_path: Path) -> None:
    def bad(item_id: Tensor) -> Tensor:
        return torch.where((item_id == 3_333)[:, None], torch.nan, vectors_of(item_id))

    with pytest.raises(SchemaError, match="item vector is zero or not finite; got: 1 of"):
        build_index_file(bad, NUM_ITEMS, CONFIG, tmp_path / "index.faiss", source="bad")
    assert not (tmp_path / "index.faiss").exists()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_cut_index_is_refused_rather_than_read(share: float, tmp_path: Path) -> None:
    build(tmp_path)
    content = (tmp_path / "index.faiss").read_bytes()
    (tmp_path / "cut.faiss").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ArtifactError, match="unreadable index"):
        load_index(tmp_path / "cut.faiss")


def test_loaded_index_is_mapped_and_saves_itself(tmp_path: Path) -> None:
    build(tmp_path)
    index = load_index(tmp_path / "index.faiss")
    assert str(tmp_path / "index.faiss") in Path("/proc/self/maps").read_text()
    index.save(tmp_path / "copy.faiss")
    assert (tmp_path / "copy.faiss").read_bytes() == (tmp_path / "index.faiss").read_bytes()
    (tmp_path / "index.faiss").unlink()
    with pytest.raises(ArtifactError, match="file is gone"):
        index.save(tmp_path / "late.faiss")


def test_nprobe_is_raised_until_recall_is_reached(tmp_path: Path) -> None:
    query = vectors_of(torch.arange(NUM_ITEMS, NUM_ITEMS + 64))
    true = exact_search(query, vectors_of, NUM_ITEMS, 20)
    index, nprobe = build(tmp_path), []
    for wanted in (0.3, 0.9, 1.0):
        index.nprobe = 1
        config = RetrievalConfig(dim=DIM, nprobe=1, min_recall=wanted, max_nprobe=32)
        got = choose_nprobe(index, query, true, config)
        assert got == recall(index.search(query, 20), true)
        nprobe.append(index.nprobe)
        assert got >= wanted or index.nprobe == 32
    assert nprobe[0] < nprobe[1] < nprobe[2] == 32, "8 bits a number never find all"
