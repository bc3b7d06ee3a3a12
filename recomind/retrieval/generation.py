"""The folders of a live index: generations, bases, and the locks of writers.

Symbols: `B` queries, `D` length of a vector, `S` side items, `W` withdrawn items.
"""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from recomind.artifacts import Manifest, loads, read_manifest, write_artifact, write_json
from recomind.errors import ArtifactError
from recomind.retrieval.index import ItemIndex, map_lists
from recomind.retrieval.lists import ListPart, empty_lists, id_bitmap, write_merged

CURRENT, INDEX = "CURRENT.json", "index.faiss"
WRITE_LOCK, MERGE_LOCK = ".write.lock", ".merge.lock"
KIND, BASE_KIND = "index-generation", "index-base"
_KEEP = 3  # generations on disk, so that readers of CURRENT.json have time to open one
_ARRAYS = ("side_id", "side_vector", "hidden", "withdrawn")


@dataclass(kw_only=True)
class Generation:
    """The searchable content at one time."""

    number: int  # increases by 1
    base: str  # name of the base's folder
    version: int  # version of the catalogue
    num_items: int  # `N` of the catalogue
    nprobe: int  # inverted lists read for a query
    side_id: np.ndarray  # [S] int64, items that are new or changed since the base
    side_vector: np.ndarray  # [S, D] float32
    hidden: np.ndarray  # int64 ascending: ids that are hidden in the base
    withdrawn: np.ndarray  # [W] int64 ascending, all ever withdrawn

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"generation-{self.number:06d}"

    def next(self, **changes: Any) -> Generation:
        """The generation after this one."""
        return dataclasses.replace(self, number=self.number + 1, **changes)

    def rebased(self, base: str, merged: Generation) -> Generation:
        """The generation after this one, on a `base` that holds all of `merged`.

        Changes between `merged` and this one stay beside the base, and hidden in it.
        """
        stays = ~_held(self, merged)
        late = np.setdiff1d(self.withdrawn, merged.withdrawn)
        return self.next(
            base=base,
            side_id=self.side_id[stays],
            side_vector=self.side_vector[stays],
            hidden=np.union1d(self.side_id[stays], late),
        )


def _held(now: Generation, merged: Generation) -> np.ndarray:
    """[S] bool: side items of `now` that `merged` holds with the same vector."""
    if not len(merged.side_id):
        return np.zeros(len(now.side_id), dtype=bool)
    order = np.argsort(merged.side_id)
    place = np.searchsorted(merged.side_id, now.side_id, sorter=order)
    row = order[place.clip(max=len(order) - 1)]
    same = (merged.side_vector[row] == now.side_vector).all(axis=1)
    return same & (merged.side_id[row] == now.side_id)


class Base:
    """The inverted lists of a live index, memory-mapped."""

    def __init__(self, folder: Path, name: str, *, verify: bool) -> None:
        read_manifest(folder / name, BASE_KIND, verify=verify)
        self.name, self.path = name, folder / name / INDEX
        self.index = map_lists(self.path)
        self._bitmap: tuple[int, np.ndarray | None] = (0, None)  # and its generation

    def search(
        self, query_BD: np.ndarray, num: int, generation: Generation
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores [B, num] and ids [B, num], without the items that the generation hides."""
        parameters: dict[str, Any] = {"nprobe": min(generation.nprobe, self.index.nlist)}
        bitmap = self._hidden(generation)
        if bitmap is not None:
            selector = faiss.IDSelectorNot(_selector(bitmap))
            parameters["sel"] = selector
        faiss.omp_set_num_threads(1)
        return self.index.search(query_BD, num, params=faiss.SearchParametersIVF(**parameters))

    def _hidden(self, generation: Generation) -> np.ndarray | None:
        number, bitmap = self._bitmap  # one read: other threads may be searching
        if number != generation.number:
            hidden = generation.hidden
            bitmap = id_bitmap(hidden, generation.num_items) if len(hidden) else None
            self._bitmap = (generation.number, bitmap)
        return bitmap


def _selector(bitmap: np.ndarray) -> faiss.IDSelector:
    make: Any = faiss.IDSelectorBitmap  # takes an array, unlike its type stub says
    return make(bitmap)


def write_base(folder: Path, source: ItemIndex | Base, side: Generation | None = None) -> str:
    """Write a new base and return its name.

    Args:
        folder: folder of the live index.
        source: the index to start from.
        side: its side items are merged in, and the items that it hides are left out.
    """
    name = f"base-{1 + max((_number(path) for path in folder.glob('base-*')), default=0):06d}"
    with write_artifact(folder / name, Manifest(kind=BASE_KIND)) as staging:
        if isinstance(source, Base):
            assert side is not None
            _merge(source, side, staging / INDEX)
        elif source.num_lists:
            source.save(staging / INDEX)
        else:
            faiss.write_index(source.as_one_list(), str(staging / INDEX))
    return name


def _merge(source: Base, side: Generation, path: Path) -> None:
    trained, late = empty_lists(map_lists(source.path)), empty_lists(map_lists(source.path))
    faiss.omp_set_num_threads(1)
    if len(side.side_id):
        late.add_with_ids(side.side_vector, side.side_id)
    hidden = id_bitmap(side.hidden, side.num_items) if len(side.hidden) else None
    write_merged(trained, [ListPart(source.index, hidden), ListPart(late)], path)


def write_generation(folder: Path, generation: Generation) -> None:
    """Write the folder of a generation, then point `CURRENT.json` to it."""
    values = {
        field.name: getattr(generation, field.name) for field in dataclasses.fields(Generation)
    }
    arrays = {name: values.pop(name) for name in _ARRAYS}
    manifest = Manifest(kind=KIND, extra=values)
    with write_artifact(folder / generation.name, manifest) as staging:
        for name, array in arrays.items():
            np.save(staging / f"{name}.npy", array, allow_pickle=False)
    current = {"generation": generation.name, "identity": manifest.identity}
    write_json(folder / CURRENT, current)


@loads("generation of an index")
def read_generation(folder: Path, identity: str | None) -> Generation:
    """Read what `write_generation` wrote, whose manifest has the `identity` that `CURRENT` names.

    Raises:
        ArtifactError: absent, removed meanwhile, damaged, or another than was named.
    """
    manifest = read_manifest(folder, KIND)
    named = manifest.digest or identity is not None  # generations of format version 1 are not
    if named and manifest.identity != identity:
        raise ArtifactError(
            f"another generation than {CURRENT} names", got=folder, mend="build the index again"
        )
    extra = manifest.extra
    try:
        arrays = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in _ARRAYS}
        return Generation(**extra, **arrays)
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError("unreadable generation", got=f"{folder}: {error}") from error


def sweep(folder: Path, present: Generation) -> None:
    """Remove old generations, and bases that no remaining generation names."""
    named = [_number(Path(present.base))]
    for path in sorted(folder.glob("generation-*")):
        if _number(path) <= present.number - _KEEP:
            shutil.rmtree(path, ignore_errors=True)
        else:
            extra = read_manifest(path, KIND, verify=False).extra
            named.append(_number(Path(extra["base"])))
    for path in folder.glob("base-*"):
        # A later base belongs to a merge that has not finished. Searchers keep the pages of theirs.
        if _number(path) < min(named):
            shutil.rmtree(path, ignore_errors=True)


def _number(path: Path) -> int:
    return int(path.name.rsplit("-", 1)[1])


def check_new_folder(folder: Path) -> None:
    """Make `folder`; raise an ArtifactError where it holds a live index."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / CURRENT).exists():
        raise ArtifactError(
            "there is a live index here already", got=folder, mend="open it, or name another folder"
        )
