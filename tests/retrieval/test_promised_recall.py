"""A build in files keeps the recall that the settings ask for, or says that it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recomind.errors import ConfigError
from recomind.retrieval import IndexKind, RetrievalConfig, build_index_file
from recomind.retrieval.recall import exact_search, recall

NUM, DIM = 6_000, 12


def vectors() -> torch.Tensor:
    """Of very different length: the nearest by inner product lie in many lists."""
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(NUM, DIM, generator=generator)
    length = torch.exp(1.5 * torch.randn(NUM, 1, generator=generator))
    return torch.nn.functional.normalize(direction, dim=1) * length


def build(folder: Path, **changes):
    x = vectors()
    config = RetrievalConfig(dim=DIM, kind=IndexKind.ivf, nprobe=2, **changes)
    return x, build_index_file(lambda i: x[i], NUM, config, folder / "i.faiss", source="x")


def measured(index, x: torch.Tensor) -> float:
    query = torch.randn(100, DIM, generator=torch.Generator().manual_seed(5))
    return recall(index.search(query, 100), exact_search(query, lambda i: x[i], NUM, 100))


def test_nprobe_is_raised_until_the_recall_is_there(tmp_path: Path) -> None:
    x, index = build(tmp_path, min_recall=0.9)
    assert index.nprobe > 2
    assert measured(index, x) > 0.87  # other queries than the build's own


def test_without_a_wish_it_stays(tmp_path: Path) -> None:
    assert build(tmp_path, min_recall=0.0)[1].nprobe == 2


def test_a_recall_out_of_reach_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"recall.*out of reach.*max_nprobe"):
        build(tmp_path, min_recall=0.999, max_nprobe=4)
    assert not (tmp_path / "i.faiss").exists()
