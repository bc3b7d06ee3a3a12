"""Tensor files: what is no number is refused, and so is a header that lies about its size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recomind.artifacts import load_tensors, save_tensors
from recomind.errors import ArtifactError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_tensors(tmp_path / "a.safetensors", {"w": torch.ones(3, 2), "n": torch.arange(4)})
    return tmp_path / "a.safetensors"


def test_what_was_written_is_read(path: Path) -> None:
    found = load_tensors(path)
    assert torch.equal(found["w"], torch.ones(3, 2))
    assert torch.equal(found["n"], torch.arange(4))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused(path: Path, value: float) -> None:
    weights = torch.ones(5, 2)
    weights[3, 1] = value
    save_tensors(path, {"a": torch.ones(2), "bad": weights})
    with pytest.raises(ArtifactError, match=r"not finite; got: 'bad' .*1 of 10"):
        load_tensors(path)
    assert load_tensors(path, finite=False)["a"].tolist() == [1.0, 1.0]


def test_large_numbers_are_no_infinity(path: Path) -> None:
    save_tensors(path, {"large": torch.full((8,), 3e38)})  # their sum is infinite
    assert load_tensors(path)["large"].shape == (8,)


@pytest.mark.parametrize("size", [2**63 - 1, 2**40, 10**8])
def test_a_header_larger_than_its_file_is_refused(path: Path, size: int) -> None:
    path.write_bytes(size.to_bytes(8, "little") + path.read_bytes()[8:])
    with pytest.raises(ArtifactError, match=r"unreadable tensor file.*header of \d+ bytes"):
        load_tensors(path)


@pytest.mark.parametrize("keep", [0, 4, 8, 20, -1])
def test_a_file_that_was_cut_is_refused(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ArtifactError, match="unreadable tensor file"):
        load_tensors(path)


@pytest.mark.parametrize(
    "header",
    [
        b'{"w":{"dtype":"F4","shape":[2],"data_offsets":[0,8]}}',
        b'{"w":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}',
        b'{"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}',
        b"[" * 5000,
    ],
)
def test_a_header_that_is_none_is_refused(path: Path, header: bytes) -> None:
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(ArtifactError, match="tensor file"):
        load_tensors(path)
