"""Shards against the unsharded exact search; killed, stopped and slow ones with real processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from recomind.candidates import CandidatePool, CandidatesConfig
from recomind.data import TableCatalogue
from recomind.errors import ArtifactError, ConfigError, RecomindError, SchemaError
from recomind.retrieval import IndexKind, Retrieval, RetrievalConfig, TwoTower, build_index
from recomind.retrieval import build as build_module
from recomind.retrieval.two_tower import item_vectors, tower_shape
from recomind.serving.shards import ShardedIndex, ShardsConfig, build_shards
from recomind.serving.shards.actor import IndexShard, merge
from recomind.serving.shards.build import read_shards
from recomind.streams import SessionStreams, draw_seeds, make_generator
from recomind.types import SessionState

NUM_ITEMS, DIM, SPLIT = 2001, 8, 1000  # two shards: 0 .. 999 and 1000 .. 2000
FLAT = RetrievalConfig(dim=DIM, kind=IndexKind.flat)
IVF = RetrievalConfig(dim=DIM, kind=IndexKind.ivf, num_lists=16)


def random_catalogue() -> TableCatalogue:
    dense = torch.randn(1, NUM_ITEMS, 6, generator=make_generator(0))
    return TableCatalogue(
        dense,
        torch.zeros(NUM_ITEMS, 1, dtype=torch.int64),
        dense_names=tuple("abcdef"),
        categorical_names=("type",),
        vocab_sizes=(2,),
    )


CATALOGUE = random_catalogue()
MODEL = TwoTower(tower_shape(CATALOGUE, 3, FLAT), make_generator(1))


with torch.no_grad():
    # At once: rounding in the towers depends on how many items pass them together.
    ITEMS_ND = item_vectors(MODEL, CATALOGUE, torch.arange(NUM_ITEMS))


def vectors_of(item_id: Tensor) -> Tensor:
    return ITEMS_ND[item_id]


FLAT_INDEX = build_index(vectors_of, NUM_ITEMS, FLAT)
# From 20 queries on faiss multiplies matrices, whose rounding depends on how many items there are.
QUERIES_BD = functional.normalize(torch.randn(16, DIM, generator=make_generator(2)), dim=1)


def exact(num: int) -> tuple[Tensor, Tensor]:
    """Scores and ids of the unsharded flat search, equal scores in the order of their ids."""
    score, ids = FLAT_INDEX.search_scored(QUERIES_BD, NUM_ITEMS)
    ids, by_id = ids.sort(dim=1)
    score, order = score.gather(1, by_id).sort(dim=1, descending=True, stable=True)
    return score[:, :num], ids.gather(1, order)[:, :num]


def states(num: int) -> SessionState:
    generator = make_generator(3)
    return SessionState(
        user_id=torch.arange(num),
        user_features=torch.randn(num, 3, generator=generator),
        history_item_id=torch.randint(NUM_ITEMS, (num, 5), generator=generator),
        history_feedback=torch.rand(num, 5, 1, generator=generator) < 0.5,
        history_dwell_s=torch.ones(num, 5),
        history_gap_s=torch.ones(num, 5),
        history_mask=torch.ones(num, 5, dtype=torch.bool),
        gap_s=torch.ones(num),
        step=torch.full((num,), 5),
        batch_size=[num],
    )


def build(folder: Path, num_shards: int = 2, config: RetrievalConfig = FLAT, **given: Any):
    named = {"source": "towers", "version": 3} | given
    return build_shards(vectors_of, NUM_ITEMS, num_shards, config, folder, **named)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shards")
    build(path)
    return path


@pytest.fixture(scope="module")
def running(folder: Path, ray_cluster: None) -> Iterator[ShardedIndex]:
    """Two shards in two processes."""
    index = ShardedIndex(folder, ShardsConfig(num_cpus=0.5))
    yield index
    index.close()


@pytest.fixture
def sharded(running: ShardedIndex) -> Iterator[ShardedIndex]:
    """The same, patient; the config of one test is not that of the next."""
    running.config = ShardsConfig(num_cpus=0.5, timeout_s=30.0)
    yield running
    running.config = ShardsConfig(num_cpus=0.5, timeout_s=30.0)


class Stopped:
    """A process that stands still for a while."""

    def __init__(self, *pids: int) -> None:
        self.pids = pids

    def __enter__(self) -> None:
        for pid in self.pids:
            os.kill(pid, signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        for pid in self.pids:
            os.kill(pid, signal.SIGCONT)


def eventually(holds: Callable[[], bool], patience_s: float = 60.0) -> bool:
    deadline = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


@pytest.mark.parametrize("num", [1, 10, 1500, NUM_ITEMS])
def test_shards_find_what_the_unsharded_exact_search_finds(sharded: ShardedIndex, num: int) -> None:
    score, ids = exact(num)
    answer = sharded.search_shards(QUERIES_BD, num)
    assert answer.num_missing == 0
    assert torch.equal(answer.item_id, ids)
    torch.testing.assert_close(answer.score, score)
    assert torch.equal(sharded.search(QUERIES_BD, num), ids)


def test_more_than_there_are_is_padded(sharded: ShardedIndex) -> None:
    score, ids = sharded.search_scored(QUERIES_BD, NUM_ITEMS + 7)
    assert ids[:, :NUM_ITEMS].sort(dim=1).values.equal(torch.arange(NUM_ITEMS).expand(16, -1))
    assert (ids[:, NUM_ITEMS:] == -1).all()
    assert (score[:, NUM_ITEMS:] == -torch.inf).all()


def test_it_takes_the_place_of_an_index(sharded: ShardedIndex) -> None:
    assert (sharded.num_items, sharded.dim, sharded.version) == (NUM_ITEMS, DIM, 3)
    retrieval = Retrieval(MODEL, sharded, CATALOGUE)
    plain = Retrieval(MODEL, FLAT_INDEX, CATALOGUE)
    state, shape = states(16), CandidatesConfig(num_candidates=30, num_nearest=10, num_fresh=0)
    assert torch.equal(retrieval.nearest(state, 50), plain.nearest(state, 50))
    streams = SessionStreams(draw_seeds(16, make_generator(4)))
    pools = [
        CandidatePool(shape, NUM_ITEMS, found).candidates(state, streams)
        for found in (retrieval, plain)
    ]
    assert torch.equal(pools[0].item_id, pools[1].item_id)
    with pytest.raises(ArtifactError, match="an index in shards keeps itself"):
        sharded.save(Path("elsewhere"))


def test_bad_queries_are_refused(sharded: ShardedIndex) -> None:
    with pytest.raises(SchemaError, match="query of another length"):
        sharded.search(QUERIES_BD[:, :4], 3)
    with pytest.raises(SchemaError, match="query is zero or not finite"):
        sharded.search(torch.full((1, DIM), torch.nan), 3)


def test_a_slow_shard_is_left_out_at_the_deadline(sharded: ShardedIndex) -> None:
    ids, before = exact(NUM_ITEMS)[1], sharded.counts
    sharded.config.timeout_s = 0.4
    with Stopped(sharded.status()[0].pid):
        begin = time.monotonic()
        answer = sharded.search_shards(QUERIES_BD, 10)
        passed = time.monotonic() - begin
    assert 0.4 <= passed < 3.0
    assert answer.num_missing == 1
    of_second = torch.stack([row[row >= SPLIT][:10] for row in ids])
    assert torch.equal(answer.item_id, of_second)
    assert sharded.counts.searches == before.searches + 1
    assert sharded.counts.partial == before.partial + 1
    assert sharded.counts.missing == before.missing + 1
    sharded.config.timeout_s = 30.0
    assert torch.equal(sharded.search(QUERIES_BD, NUM_ITEMS), ids)


def test_a_partial_answer_may_be_forbidden(sharded: ShardedIndex) -> None:
    pids = [status.pid for status in sharded.status()]
    sharded.config.timeout_s = 0.4
    with Stopped(*pids), pytest.raises(RecomindError, match=r"got: 0 of 2; without items 0 \.\."):
        sharded.search(QUERIES_BD, 10)
    sharded.config.allow_partial = False
    expected = r"within 0\.4 s; got: 1 of 2; without items 1000 \.\. 2000; to mend: look at status"
    with Stopped(pids[1]), pytest.raises(RecomindError, match=expected):
        sharded.search(QUERIES_BD, 10)


def test_a_killed_shard_is_missed_at_once_and_comes_back(sharded: ShardedIndex) -> None:
    ids, pid = exact(NUM_ITEMS)[1], sharded.status()[1].pid
    os.kill(pid, signal.SIGKILL)
    begin = time.monotonic()
    answer = sharded.search_shards(QUERIES_BD, 10)
    assert time.monotonic() - begin < 15.0, "an error of the process ends the waiting"
    assert answer.num_missing == 1
    assert torch.equal(answer.item_id, torch.stack([row[row < SPLIT][:10] for row in ids]))
    assert eventually(lambda: sharded.search_shards(QUERIES_BD, 10).num_missing == 0)
    assert torch.equal(sharded.search(QUERIES_BD, NUM_ITEMS), ids)
    statuses = sharded.status()
    assert [(s.begin, s.end, s.alive) for s in statuses] == [(0, 1000, True), (1000, 2001, True)]
    assert statuses[1].pid != pid


@pytest.mark.slow
def test_a_second_replica_is_asked_for_a_late_shard(tmp_path: Path, ray_cluster: None) -> None:
    build(tmp_path, 1)
    config = ShardsConfig(num_cpus=0.5, num_replicas=2, hedge_after_s=0.2, timeout_s=30.0)
    index = ShardedIndex(tmp_path, config)
    try:
        index.search(QUERIES_BD, 5)
        before = index.counts.asked_again
        with Stopped(index.status()[1].pid):  # whose turn it is
            answer = index.search_shards(QUERIES_BD, 10)
        assert answer.num_missing == 0
        assert index.counts.asked_again == before + 1
        assert torch.equal(answer.item_id, exact(10)[1])
    finally:
        index.close()


def test_more_cpus_than_there_are_are_refused(folder: Path, ray_cluster: None) -> None:
    with pytest.raises(ConfigError, match=r"got: 200\.0; expected: <= 3, the CPUs of this Ray"):
        ShardedIndex(folder, ShardsConfig(num_cpus=100.0))


@pytest.mark.slow
def test_a_shard_that_does_not_open_is_an_error(tmp_path: Path, ray_cluster: None) -> None:
    (tmp_path / "shards").mkdir()
    build(tmp_path / "shards")
    (tmp_path / "shards/shard-00001/index.faiss").write_bytes(b"IxF no index")
    with pytest.raises(RecomindError, match=r"a shard does not open.*unreadable index"):
        ShardedIndex(tmp_path / "shards", ShardsConfig(num_cpus=0.25, max_restarts=0))


def test_ivf_shards_read_all_lists_to_be_exact(tmp_path: Path) -> None:
    paths = build(tmp_path, 3, IVF)
    found = [IndexShard(str(path), nprobe=16).search(QUERIES_BD.numpy(), 20) for path in paths]
    assert torch.equal(merge(found, 20)[1], exact(20)[1])
    fewer = [IndexShard(str(path), nprobe=1).search(QUERIES_BD.numpy(), 20) for path in paths]
    assert not torch.equal(merge(fewer, 20)[1], exact(20)[1])


def test_a_killed_build_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "PART_ITEMS", 300)
    whole = build(tmp_path / "whole", 2, IVF)
    asked: list[int] = []

    def killed_late(item_id: Tensor) -> Tensor:
        if len(asked) == 7:  # the second shard is in its parts
            raise KeyboardInterrupt
        asked.append(int(item_id[0]))
        return vectors_of(item_id)

    given = {"source": "towers", "version": 3}
    with pytest.raises(KeyboardInterrupt):
        build_shards(killed_late, NUM_ITEMS, 2, IVF, tmp_path / "cut", **given)
    with pytest.raises(ArtifactError, match="do not make one whole"):
        read_shards(tmp_path / "cut")
    again: list[int] = []

    def counted(item_id: Tensor) -> Tensor:
        again.append(int(item_id[0]))
        return vectors_of(item_id)

    cut = build_shards(counted, NUM_ITEMS, 2, IVF, tmp_path / "cut", **given)
    assert min(again) > SPLIT, "the first shard and the second's centroids are kept"
    assert [(p / "index.faiss").read_bytes() for p in cut] == [
        (p / "index.faiss").read_bytes() for p in whole
    ]
    again.clear()
    build_shards(counted, NUM_ITEMS, 2, IVF, tmp_path / "cut", **given)
    assert again == []
    assert not list((tmp_path / "cut").glob(".*"))


def test_another_plan_builds_anew(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    build(tmp_path, 3)
    assert [(s.begin, s.end) for s in read_shards(tmp_path)] == [
        (0, 667),
        (667, 1334),
        (1334, 2001),
    ]
    build(tmp_path, 2, version=4, on_items=lambda done, total: told.append((done, total)))
    assert [(s.begin, s.version) for s in read_shards(tmp_path)] == [(0, 4), (1000, 4)]
    assert told == [(1000, 2001), (2001, 2001)]


def test_shards_of_two_versions_are_refused(tmp_path: Path) -> None:
    build(tmp_path / "old")
    (second,) = build(tmp_path / "new", source="other towers")[1:]
    for file in second.iterdir():
        file.replace(tmp_path / "old/shard-00001" / file.name)
    with pytest.raises(ArtifactError, match=r"several versions.*version 3 of other towers"):
        read_shards(tmp_path / "old")


def test_shards_may_be_built_apart(tmp_path: Path) -> None:
    build(tmp_path, numbers=[1])
    with pytest.raises(ArtifactError, match="do not make one whole"):
        read_shards(tmp_path)
    build(tmp_path, numbers=[0])
    assert [shard.end for shard in read_shards(tmp_path)] == [SPLIT, NUM_ITEMS]
    with pytest.raises(ConfigError, match=r"numbers of shards; got: \[2\]; expected: in 0 \.\. 1"):
        build(tmp_path, numbers=[2])


def test_a_damaged_shard_is_built_anew(tmp_path: Path) -> None:
    paths = build(tmp_path)
    whole = (paths[1] / "index.faiss").read_bytes()
    (paths[1] / "index.faiss").write_bytes(whole[:-1])
    build(tmp_path)
    assert (paths[1] / "index.faiss").read_bytes() == whole


def test_no_shards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no shards here"):
        read_shards(tmp_path)
    with pytest.raises(ConfigError, match="num_shards; got: 0; expected: 1 to 2001"):
        build(tmp_path, 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"timeout_s": 0.0}, "timeout_s is not positive"),
        ({"num_cpus": 0.0}, "num_cpus is not positive"),
        ({"num_replicas": 0}, "num_replicas; got: 0"),
        ({"nprobe": 0}, "nprobe; got: 0"),
        ({"max_restarts": -2}, "max_restarts; got: -2"),
        ({"hedge_after_s": 0.5, "num_replicas": 2}, "0 <= hedge_after_s < timeout_s"),
        ({"hedge_after_s": 0.1}, "without a second replica"),
    ],
)
def test_settings_that_cannot_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ShardsConfig(**given)
