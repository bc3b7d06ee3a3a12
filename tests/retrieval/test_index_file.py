"""An index file is walked through before faiss, which believes it, reads it."""

from __future__ import annotations

import random
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch

from recomind.errors import ArtifactError
from recomind.retrieval.index import load_index
from recomind.retrieval.index_file import check_index_file

DIM = 8


def made(description: str, num: int = 600) -> faiss.Index:
    x = np.random.default_rng(0).standard_normal((num, DIM)).astype(np.float32)
    index = faiss.index_factory(DIM, description, faiss.METRIC_INNER_PRODUCT)
    index.train(x)
    index.add(x)
    return index


DESCRIPTIONS = ("Flat", "IVF4,Flat", "IVF1,Flat", "IVF12_HNSW32,SQ8", "IVF590,Flat")


@pytest.fixture(scope="module", params=DESCRIPTIONS)
def content(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("index") / "i.faiss"
    faiss.write_index(made(request.param), str(path))
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, content: bytes) -> Path:
    (tmp_path / "i.faiss").write_bytes(content)
    return tmp_path / "i.faiss"


def test_what_faiss_writes_is_read(path: Path) -> None:
    check_index_file(path)
    assert load_index(path).num_items == 600


def test_every_cut_and_every_tail_is_refused(path: Path, content: bytes) -> None:
    for length in [0, 3, 4, 8, 20, 33, 41, *range(60, len(content), 501), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(ArtifactError, match="unreadable index"):
            load_index(path)
    path.write_bytes(content + b"x")
    with pytest.raises(ArtifactError, match="unreadable index"):
        load_index(path)


def test_lengths_that_lie_are_refused(path: Path, content: bytes) -> None:
    """The first kilobyte holds the header: no number of it is obeyed that does not fit."""
    for place in range(4, min(len(content), 400) - 8, 4):
        for value in (2**31 - 1, 2**40, 2**63 - 1, -1):
            changed = bytearray(content)
            changed[place : place + 8] = (value % 2**64).to_bytes(8, "little")
            path.write_bytes(changed)
            try:
                check_index_file(path)
            except ArtifactError:
                continue
            # What is left are numbers that mean nothing: a seed, a hint, a vector's value.
            index = load_index(path)
            index.search(torch.ones(1, DIM), 5)


def test_links_of_a_graph_stay_inside_it(tmp_path: Path) -> None:
    path, draws = tmp_path / "i.faiss", random.Random(0)
    faiss.write_index(made("IVF12_HNSW32,SQ8"), str(path))
    content, refused = path.read_bytes(), 0
    for _ in range(200):
        changed = bytearray(content)
        place = draws.randrange(0, 4000)
        changed[place : place + 4] = draws.randrange(2**32).to_bytes(4, "little")
        path.write_bytes(changed)
        try:
            load_index(path).search(torch.ones(1, DIM), 5)
        except ArtifactError:
            refused += 1
    assert refused > 50
