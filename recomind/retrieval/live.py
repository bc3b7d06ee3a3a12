"""An index that takes new items immediately and never returns withdrawn ones.

Symbols: `B` queries, `D` length of a vector, `N` items, `S` items of the side index, `W` withdrawn.

    folder/CURRENT.json        {"generation": "generation-000003"}, replaced in one step
    folder/generation-000003/  side vectors, hidden and withdrawn items; refers to its base
    folder/base-000001/        an index with inverted lists, memory-mapped by every searcher

Generations and bases are artifacts: written once, never changed. Every search reads `CURRENT.json`
first, so that the next search sees a change as a whole. Writers take turns by a lock. A merge
writes a new base, with the side items in their lists and without the hidden items.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recomind.artifacts import holding, read_json
from recomind.errors import ArtifactError
from recomind.retrieval.cells import Cells, list_ids
from recomind.retrieval.generation import (
    CURRENT,
    MERGE_LOCK,
    WRITE_LOCK,
    Base,
    Generation,
    check_new_folder,
    read_generation,
    sweep,
    write_base,
    write_generation,
)
from recomind.retrieval.index import ItemIndex, check_vectors
from recomind.retrieval.update import IndexUpdate, updated

_ATTEMPTS = 20  # to open a generation while writers replace it


def create_live_index(folder: Path, index: ItemIndex, version: int = 0) -> LiveIndex:
    """Create a live index with the items of `index`, at `version` of the catalogue.

    Raises:
        ArtifactError: `folder` holds one already.
    """
    folder = Path(folder)
    check_new_folder(folder)
    with holding(folder / WRITE_LOCK):
        base = write_base(folder, index)
        write_generation(
            folder,
            Generation(
                number=1,
                base=base,
                version=version,
                num_items=index.num_items,
                nprobe=max(1, index.nprobe),
                side_id=np.zeros(0, dtype=np.int64),
                side_vector=np.zeros((0, index.dim), dtype=np.float32),
                hidden=np.zeros(0, dtype=np.int64),
                withdrawn=np.zeros(0, dtype=np.int64),
            ),
        )
    return LiveIndex(folder)


class LiveIndex:
    """Searches the current generation of a folder, and writes new ones.

    Args:
        folder: created by `create_live_index`.
        verify: check the hash of the base, which takes one or two seconds per GB.

    Raises:
        ArtifactError: absent, damaged, or of another kind.
    """

    def __init__(self, folder: Path, *, verify: bool = True) -> None:
        self.folder = Path(folder)
        # One attribute, replaced atomically: other threads may be searching.
        self._present = self._opened(None, verify=verify)
        self._lists: tuple[Base | None, list[np.ndarray]] = (None, [])
        self._cells: tuple[str, Cells] = ("", Cells([]))  # and their generation

    @property
    def num_items(self) -> int:
        """`N` of the index's catalogue; ids are 0 .. N - 1."""
        return self._generation.num_items

    @property
    def version(self) -> int:
        """Version of the index's catalogue."""
        return self._generation.version

    @property
    def dim(self) -> int:
        """`D`."""
        return self._generation.side_vector.shape[1]

    @property
    def nprobe(self) -> int:
        """Inverted lists read for a query."""
        return self._generation.nprobe

    @property
    def num_side_items(self) -> int:
        """`S`: every query is compared with all of them, so merge above ten thousand or so."""
        return len(self._generation.side_id)

    def check_version(self, version: int) -> None:
        """Raise an ArtifactError if the index is older than `version` of the catalogue."""
        self.refresh()
        if self.version < version:
            raise ArtifactError(
                "the index is older than the catalogue",
                got=f"version {self.version} in {self.folder}",
                expected=f"version {version}",
                mend="update the index with update()",
            )

    def refresh(self) -> None:
        """Switch to the newest generation; `search` does this by itself."""
        if _current(self.folder) != self._present[0]:
            self._present = self._opened(self._present[2], verify=False)

    def search(self, query_BD: Tensor, num: int) -> Tensor:
        """Ids [B, num] int64 of the nearest items, best first; -1 where fewer were found.

        Raises:
            SchemaError: queries of another length, or NaN, infinite or zero.
        """
        self.refresh()
        _, generation, base = self._present
        query = check_vectors(query_BD, generation.side_vector.shape[1], "query")
        score, ids = base.search(query, num, generation)
        if len(generation.side_id):
            side = query @ generation.side_vector.T
            score = np.concatenate([score, side], axis=1)
            ids = np.concatenate([ids, np.broadcast_to(generation.side_id, side.shape)], axis=1)
        order = np.argsort(-score, axis=1, kind="stable")[:, :num]
        return torch.from_numpy(np.take_along_axis(ids, order, axis=1)).to(query_BD.device)

    def cells(self) -> Cells:
        """The inverted lists of the current generation; its side items are a separate cell.

        Changed and withdrawn items keep their place in their list, hidden, until the next merge.
        """
        self.refresh()
        name, generation, base = self._present
        known, cells = self._cells
        if known != name:
            owner, lists = self._lists
            if owner is not base:
                lists = list_ids(base.index)
                self._lists = (base, lists)
            cells = Cells(lists, generation.hidden, generation.side_id, owner=base)
            self._cells = (name, cells)
        return cells

    def update(self, change: IndexUpdate) -> None:
        """Update the index to `change.version`; the next search of any process sees it.

        Raises:
            SchemaError: bad or too many vectors; an id that is repeated, unknown or withdrawn.
            ArtifactError: the version is not newer.
        """
        with holding(self.folder / WRITE_LOCK):
            self.refresh()
            self._write(updated(self._generation, change))

    def merge(self) -> None:
        """Write a new base with everything searchable now; searches and updates may go on."""
        with holding(self.folder / MERGE_LOCK):
            self.refresh()
            _, merged, source = self._present
            base = write_base(self.folder, source, merged)
            with holding(self.folder / WRITE_LOCK):
                self.refresh()
                self._write(self._generation.rebased(base, merged))

    @property
    def _generation(self) -> Generation:
        return self._present[1]

    def _write(self, generation: Generation) -> None:
        write_generation(self.folder, generation)
        sweep(self.folder, generation)
        self.refresh()

    def _opened(self, base: Base | None, *, verify: bool) -> tuple[str, Generation, Base]:
        """The current generation and its base; `base` itself where it has not changed."""
        for _ in range(_ATTEMPTS):
            name = _current(self.folder)
            try:
                generation = read_generation(self.folder / name, _identity(self.folder))
                if base is None or base.name != generation.base:
                    base = Base(self.folder, generation.base, verify=verify)
                return name, generation, base
            except ArtifactError:
                if _current(self.folder) == name:  # not removed meanwhile, but damaged
                    raise
        raise ArtifactError(
            "generations are replaced faster than they can be read", got=self.folder
        )


def _current(folder: Path) -> str:
    """Name of the present generation's folder."""
    return _named(folder)[0]


def _identity(folder: Path) -> str | None:
    """What the present generation's manifest has to say; None in indices of earlier releases."""
    return _named(folder)[1]


def _named(folder: Path) -> tuple[str, str | None]:
    try:
        current = read_json(folder / CURRENT, "live index")
        if unknown := set(current) - {"generation", "identity"}:
            raise KeyError(*sorted(unknown))
        return str(current["generation"]), current.get("identity")
    except (ArtifactError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            "no live index here",
            got=f"{folder}: {error}",
            mend="make one with create_live_index",
        ) from error
