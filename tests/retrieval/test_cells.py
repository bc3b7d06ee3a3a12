"""The cells of an index: every item that can be found is in one, once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from recomind.retrieval import (
    IndexKind,
    IndexUpdate,
    ItemIndex,
    LiveIndex,
    RetrievalConfig,
    build_index,
    create_live_index,
)
from recomind.retrieval.cells import Cells
from recomind.retrieval.index import load_index
from recomind.streams import make_generator

DIM, NUM = 8, 1_000
VECTORS_ND = functional.normalize(torch.randn(NUM + 100, DIM, generator=make_generator(0)), dim=1)


def build(kind: IndexKind) -> ItemIndex:
    config = RetrievalConfig(dim=DIM, kind=kind, nprobe=1_000, num_lists=20)
    return build_index(lambda ids: VECTORS_ND[ids], NUM, config)


def change(version: int, item_id: Tensor, withdrawn: Tensor) -> IndexUpdate:
    return IndexUpdate(
        version=version,
        num_items=NUM + 100,
        item_id=item_id,
        vectors=VECTORS_ND[item_id],
        withdrawn=withdrawn,
    )


def every_entry(cells: Cells) -> Tensor:
    """Ids of all entries, hidden ones as -1."""
    cell = torch.arange(len(cells.sizes_C)).repeat_interleave(cells.sizes_C)
    first = cells.sizes_C.cumsum(0) - cells.sizes_C
    return cells.items(cell, torch.arange(len(cell)) - first[cell])


def test_a_flat_index_is_one_cell() -> None:
    cells = build(IndexKind.flat).cells()
    assert cells.sizes_C.tolist() == [NUM]
    assert torch.equal(every_entry(cells), torch.arange(NUM))


@pytest.mark.parametrize("mapped", [False, True])
def test_inverted_lists_hold_every_item_once(mapped: bool, tmp_path: Path) -> None:
    index = build(IndexKind.ivf)
    if mapped:
        index.save(tmp_path / "index.faiss")
        index = load_index(tmp_path / "index.faiss")
    cells = index.cells()
    del index  # its memory is needed further on
    assert len(cells.sizes_C) == 20
    assert torch.equal(every_entry(cells).sort().values, torch.arange(NUM))


def test_items_of_a_cell_are_near_each_other() -> None:
    ids = every_entry(cells := build(IndexKind.ivf).cells())
    groups = VECTORS_ND[ids].split(cells.sizes_C.tolist())
    centre = functional.normalize(torch.stack([group.mean(0) for group in groups]), dim=1)
    own = torch.arange(len(groups)).repeat_interleave(cells.sizes_C)
    assert float(((VECTORS_ND[ids] @ centre.T).argmax(1) == own).float().mean()) > 0.8


def test_ids_come_in_the_shape_that_they_are_asked_in() -> None:
    cells = Cells([[7, 8], [], [9]])
    assert cells.sizes_C.tolist() == [2, 1]
    cell = torch.tensor([[0, 0, 1], [1, 0, 0]])
    offset = torch.tensor([[0, 1, 0], [0, 0, 1]])
    assert cells.items(cell, offset).tolist() == [[7, 8, 9], [9, 7, 8]]


@pytest.mark.parametrize("kind", [IndexKind.flat, IndexKind.ivf])
def test_a_live_index_holds_what_can_be_found_once(kind: IndexKind, tmp_path: Path) -> None:
    live = create_live_index(tmp_path, build(kind))
    reader = LiveIndex(tmp_path)
    assert torch.equal(every_entry(reader.cells()).sort().values, torch.arange(NUM))
    changed, gone = torch.tensor([3, 4, NUM + 5, NUM + 6]), torch.tensor([0, 1, 2])
    live.update(change(1, changed, gone))
    there = {*range(3, NUM), NUM + 5, NUM + 6}
    now = Counter(every_entry(reader.cells()).tolist())
    assert now.pop(-1) == 5, "three are withdrawn, two have moved to the side"
    assert now == Counter(there)
    live.merge()
    assert Counter(every_entry(reader.cells()).tolist()) == Counter(there)
    assert int(reader.cells().sizes_C.sum()) == len(there)


def test_cells_are_made_once_a_generation(tmp_path: Path) -> None:
    live = create_live_index(tmp_path, build(IndexKind.ivf))
    before = live.cells()
    assert live.cells() is before
    live.update(change(1, torch.tensor([NUM]), torch.tensor([5])))
    assert live.cells() is not before
    assert int((every_entry(before) == 5).sum()) == 1, "who draws meanwhile sees no change"
