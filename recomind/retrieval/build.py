"""Building an index part by part, so that a killed build is continued.

Symbols: `D` length of a vector, `N` items.

    work/plan.json         what is being built; a different plan starts over
    work/trained.faiss     centroids and quantiser, from a sample of the items
    work/part-00000.faiss  items 0 .. PART_ITEMS - 1, and so on
    work/merged.faiss      all parts, list by list; then the others are removed

Every file is written under another name, flushed and renamed, so an existing file is complete. The
merged file equals, byte for byte, that of an uninterrupted `build_index(...).save(path)`: training
sees the same sample on one thread, and items are added to every list in the same order.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import faiss
import torch
from torch import Tensor

from recomind.artifacts import read_json, sync_folder, write_json
from recomind.errors import ArtifactError, ConfigError
from recomind.retrieval.config import RetrievalConfig
from recomind.retrieval.index import (
    ItemIndex,
    ItemVectors,
    add_items,
    build_index,
    factory_string,
    load_index,
    map_lists,
    train_index,
)
from recomind.retrieval.index_file import check_index_file
from recomind.retrieval.lists import ListPart, empty_lists, write_merged
from recomind.retrieval.recall import choose_nprobe, exact_search

PART_ITEMS = 4_194_304  # items in a part: a kill costs at most one part, about a minute
PLAN, TRAINED, MERGED = "plan.json", "trained.faiss", "merged.faiss"

OnItems = Callable[[int, int], None]  # items done, items in all


@dataclass(kw_only=True, slots=True)
class BuildPlan:
    """Everything that the bytes of the index depend on, except the vectors."""

    source: str  # name of the vectors: equal for equal vectors
    num_items: int  # N
    dim: int  # D
    factory: str  # faiss description
    seed: int  # for the sample that the centroids are trained on
    part_items: int  # items in a part
    faiss: str  # its version


def build_index_file(
    vectors_of: ItemVectors,
    num_items: int,
    config: RetrievalConfig,
    path: Path,
    *,
    source: str,
    on_items: OnItems | None = None,
    queries: Tensor | None = None,
) -> ItemIndex:
    """Build the index at `path`, or continue a build that was killed.

    Unfinished work lies in a hidden folder beside `path`, which has one writer at a time. The exact
    nearest items of some queries are found, and `nprobe` of the index that is returned is raised
    until its recall@k is `config.min_recall`; no queries, or a wish of 0, leave it.

    Args:
        vectors_of: as in `build_in`, and so are the next two.
        num_items: `N`.
        config: kind of the index, its size and its recall.
        path: an earlier file there is replaced once the new one is whole.
        source: as in `build_in`, and so is the next.
        on_items: told how many items are in finished parts.
        queries: [B, config.dim], such as will be asked; where None, the vectors of
            `config.num_recall_queries` items.

    Returns:
        The index, memory-mapped. Its `nprobe` is kept by a live index, not by the file.

    Raises:
        ConfigError: no `nprobe` up to `config.max_nprobe` gives that recall; the work is kept, so
            that a call with other settings goes on from here.
    """
    path = Path(path)
    work = path.parent / f".{path.name}.build"
    index = build_in(work, vectors_of, num_items, config, source=source, on_items=on_items)
    nprobe = _promised_nprobe(index, vectors_of, config, queries)
    (work / MERGED).replace(path)
    sync_folder(path.parent)
    shutil.rmtree(work)
    return load_index(path, nprobe)


def _promised_nprobe(
    index: ItemIndex, vectors_of: ItemVectors, config: RetrievalConfig, queries: Tensor | None
) -> int:
    """The inverted lists that must be read for a recall of `config.min_recall`."""
    if not index.num_lists or not config.num_recall_queries or not config.min_recall:
        return config.nprobe
    if queries is None:
        generator = torch.Generator().manual_seed(config.seed)
        chosen = torch.randint(index.num_items, (config.num_recall_queries,), generator=generator)
        queries = vectors_of(chosen)
    k = min(config.recall_at, index.num_items)
    true_BK = exact_search(queries, vectors_of, index.num_items, k)
    found = choose_nprobe(index, queries, true_BK, config)
    # All lists are all there is: what then differs are equals, or what compression costs.
    if found < config.min_recall and index.nprobe < index.num_lists:
        raise ConfigError(
            "the recall that is asked for is out of reach",
            got=f"recall@{k} {found:.3f} at nprobe {index.nprobe} of {index.num_lists} lists",
            expected=f"retrieval.min_recall {config.min_recall}",
            mend=f"raise retrieval.max_nprobe ({config.max_nprobe}), or lower min_recall",
        )
    return index.nprobe


def build_in(
    work: Path,
    vectors_of: ItemVectors,
    num_items: int,
    config: RetrievalConfig,
    *,
    source: str,
    on_items: OnItems | None = None,
) -> ItemIndex:
    """Build the index inside `work`; a later call with the same arguments finds it there.

    Args:
        work: folder for the build.
        vectors_of: item ids [n] -> vectors [n, config.dim]; equal at every call.
        num_items: `N`, at least 1.
        config: kind of the index and its size.
        source: name of the vectors, such as a hash of the model's weights; work under another name
            is discarded.
        on_items: called with the number of items in finished parts.

    Returns:
        The index, memory-mapped from `work`.

    Raises:
        SchemaError: vectors of another length, or NaN, infinite or zero ones.
    """
    plan = make_plan(num_items, config, source)
    work = _open_work(Path(work), plan)
    if not (work / MERGED).exists():
        staging = work / f"{MERGED}.tmp"
        if plan.factory == "Flat":
            build_index(vectors_of, num_items, config).save(staging)
        else:
            trained = _trained(vectors_of, config, plan, work)
            _merge(trained, _parts(vectors_of, config, plan, work, on_items), staging)
        _finish(staging, work / MERGED)
    for part in (*work.glob("part-*"), *work.glob(TRAINED)):
        part.unlink()
    return load_index(work / MERGED, config.nprobe)


def make_plan(num_items: int, config: RetrievalConfig, source: str) -> BuildPlan:
    """The plan of a build."""
    return BuildPlan(
        source=source,
        num_items=num_items,
        dim=config.dim,
        factory=factory_string(num_items, config),
        seed=config.seed,
        part_items=PART_ITEMS,
        faiss=faiss.__version__,
    )


def _open_work(work: Path, plan: BuildPlan) -> Path:
    wanted = asdict(plan)
    if work.exists() and _read_plan(work) != wanted:
        shutil.rmtree(work)
    if not work.exists():
        work.mkdir(parents=True)
        write_json(work / PLAN, wanted)
    for unfinished in work.glob("*.tmp"):
        unfinished.unlink()
    return work


def _read_plan(work: Path) -> object:
    try:
        return read_json(work / PLAN)
    except ArtifactError:
        return None  # killed before the plan was there


def _trained(
    vectors_of: ItemVectors, config: RetrievalConfig, plan: BuildPlan, work: Path
) -> faiss.IndexIVF:
    path = work / TRAINED
    if not path.exists():
        index = train_index(vectors_of, plan.num_items, config)
        _write(index, path)
    return empty_lists(map_lists(path))


def _parts(
    vectors_of: ItemVectors,
    config: RetrievalConfig,
    plan: BuildPlan,
    work: Path,
    on_items: OnItems | None,
) -> list[Path]:
    """The files of all parts; missing ones are made now."""
    paths = []
    for number, begin in enumerate(range(0, plan.num_items, plan.part_items)):
        end = min(begin + plan.part_items, plan.num_items)
        paths.append(work / f"part-{number:05d}.faiss")
        if not paths[-1].exists():
            check_index_file(work / TRAINED)
            part = faiss.read_index(str(work / TRAINED))
            add_items(part, vectors_of, begin, end, config, with_ids=True)
            _write(part, paths[-1])
        if on_items is not None:
            on_items(end, plan.num_items)
    return paths


def _merge(trained: faiss.IndexIVF, paths: list[Path], merged: Path) -> None:
    mapped = [map_lists(path) for path in paths]
    write_merged(trained, [ListPart(index) for index in mapped], merged)


def _write(index: faiss.Index, path: Path) -> None:
    staging = path.with_name(f"{path.name}.tmp")
    faiss.write_index(index, str(staging))
    _finish(staging, path)


def _finish(staging: Path, path: Path) -> None:
    """Flush and rename: after a power cut the file is complete or absent."""
    with staging.open("rb") as file:
        os.fsync(file.fileno())
    staging.replace(path)
    sync_folder(path.parent)
