"""Indexes over consecutive ranges of item ids, one a shard; each build goes on where it was.

Symbols: `N` items, `D` length of a vector, `F` shards.

    folder/shard-00000/         artifact of kind "index_shard": items 0 .. N / F - 1, and so on
    folder/shard-00000/index.faiss   its items under the numbers 0 .. end - begin - 1
    folder/.shard-00001.build/  a build that is not finished

Ids are spread over shards by range. A shard's share of the nearest items is even only if ids say
nothing of content; ids given out in the order of upload put what is new in the last shard.
"""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from recomind.artifacts import Manifest, is_complete, read_manifest, write_artifact
from recomind.errors import ArtifactError, ConfigError
from recomind.retrieval import RetrievalConfig
from recomind.retrieval.build import OnItems, build_in, make_plan
from recomind.retrieval.index import ItemVectors

KIND, INDEX = "index_shard", "index.faiss"
_NAME = re.compile(r"shard-\d{5}")


@dataclass(kw_only=True, slots=True)
class Shard:
    """What one shard holds, and of what whole it is a part."""

    begin: int  # first item id
    end: int  # last item id + 1
    num_items: int  # N, of all shards together
    num_shards: int  # F
    dim: int  # D
    version: int  # version of the catalogue whose vectors these are
    source: str  # names the vectors


def build_shards(
    vectors_of: ItemVectors,
    num_items: int,
    num_shards: int,
    config: RetrievalConfig,
    folder: Path,
    *,
    source: str,
    version: int = 0,
    numbers: Sequence[int] | None = None,
    on_items: OnItems | None = None,
) -> list[Path]:
    """Build every shard that is not there yet, one after another.

    A shard of the same plan is kept, a killed one goes on where it was. A folder holds one
    version: build the next one beside it, and let searches turn to it when it is whole.

    Args:
        vectors_of: item ids [n] -> vectors [n, config.dim]; the same ones at every call.
        num_items: `N`.
        num_shards: `F`, at most `N`.
        config: of every shard's index; its size follows from the shard's own number of items.
        folder: where the shards go; each shard has one writer at a time.
        source: names the vectors: equal vectors, equal name.
        version: of the catalogue.
        numbers: of the shards to build here, where others are built elsewhere; all where None.
        on_items: told how many items of all are in finished parts.

    Returns:
        Folders of all shards, in the order of their items.

    Raises:
        ConfigError: more shards than items, none, or a number of a shard that is not one.
        SchemaError: vectors of another length, or NaN, infinite or zero ones.
    """
    shards = _ranges(num_items, num_shards, config, version, source)
    folder = Path(folder)
    paths = [folder / f"shard-{number:05d}" for number in range(num_shards)]
    for number in _checked(numbers, num_shards):
        _build_shard(vectors_of, shards[number], config, paths[number], on_items)
    for stale in set(shard_folders(folder)) - set(paths):  # left by an earlier, larger number
        shutil.rmtree(stale, ignore_errors=True)
    return paths


def _checked(numbers: Sequence[int] | None, num_shards: int) -> Sequence[int]:
    if numbers is None:
        return range(num_shards)
    if not all(0 <= number < num_shards for number in numbers):
        raise ConfigError("numbers of shards", got=numbers, expected=f"in 0 .. {num_shards - 1}")
    return numbers


def _ranges(
    num_items: int, num_shards: int, config: RetrievalConfig, version: int, source: str
) -> list[Shard]:
    if not 1 <= num_shards <= num_items:
        raise ConfigError("num_shards", got=num_shards, expected=f"1 to {num_items}, the items")
    bounds = [num_items * number // num_shards for number in range(num_shards + 1)]
    return [
        Shard(
            begin=begin,
            end=end,
            num_items=num_items,
            num_shards=num_shards,
            dim=config.dim,
            version=version,
            source=source,
        )
        for begin, end in itertools.pairwise(bounds)
    ]


def _build_shard(
    vectors_of: ItemVectors,
    shard: Shard,
    config: RetrievalConfig,
    path: Path,
    on_items: OnItems | None,
) -> None:
    def of_shard(number: Tensor) -> Tensor:
        return vectors_of(number + shard.begin)

    def tell(done: int, _: int) -> None:
        if on_items is not None:
            on_items(shard.begin + done, shard.num_items)

    work, num = path.parent / f".{path.name}.build", shard.end - shard.begin
    source = f"{shard.source} from {shard.begin}"
    extra = {"shard": asdict(shard), "plan": asdict(make_plan(num, config, source))}
    if not _is_there(path, extra):
        index = build_in(work, of_shard, num, config, source=source, on_items=tell)
        manifest = Manifest(kind=KIND, seed=config.seed, extra=extra)
        with write_artifact(path, manifest) as staging:
            index.save(staging / INDEX)
    shutil.rmtree(work, ignore_errors=True)
    tell(num, num)


def _is_there(path: Path, extra: Mapping[str, Any]) -> bool:
    if not is_complete(path):
        return False
    try:
        return read_manifest(path, KIND).extra == extra
    except ArtifactError:  # damaged: build it anew
        return False


def shard_folders(folder: Path) -> list[Path]:
    """Folders of all shards below `folder`, in the order of their names."""
    return sorted(path for path in Path(folder).glob("shard-*") if _NAME.fullmatch(path.name))


def read_shard(path: Path, *, verify: bool = False) -> Shard:
    """What the shard in `path` says of itself; its hash is checked where `verify`.

    Raises:
        ArtifactError: absent, damaged, or of another kind.
    """
    try:
        return Shard(**read_manifest(path, KIND, verify=verify).extra["shard"])
    except (KeyError, TypeError) as error:
        raise ArtifactError("unreadable shard", got=f"{path}: {error}") from error


def read_shards(folder: Path) -> list[Shard]:
    """All shards below `folder`, which must make one whole.

    Raises:
        ArtifactError: none, one is absent or damaged, or they are of several versions.
    """
    shards = [read_shard(path) for path in shard_folders(folder)]
    if not shards:
        raise ArtifactError("no shards here", got=folder, mend="make them with build_shards")
    first, ends = shards[0], [0] + [shard.end for shard in shards]
    whole = [s.begin for s in shards] + [first.num_items] == ends
    if not whole or len(shards) != first.num_shards:
        raise ArtifactError(
            "shards that do not make one whole",
            got=[f"{shard.begin} .. {shard.end - 1}" for shard in shards],
            expected=f"{first.num_shards} shards of the items 0 .. {first.num_items - 1}",
            mend="run build_shards to its end",
        )
    kinds = {(s.version, s.source, s.dim, s.num_items, s.num_shards) for s in shards}
    if len(kinds) > 1:
        raise ArtifactError(
            "shards of several versions",
            got=sorted({f"version {s.version} of {s.source}" for s in shards}),
            mend="run build_shards to its end",
        )
    return shards
