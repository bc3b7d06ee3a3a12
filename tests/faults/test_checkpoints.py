"""Checkpoints on a full disk, of other versions and of other catalogues."""

from __future__ import annotations

import dataclasses
import errno
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from recomind.errors import ArtifactError
from recomind.training import checkpoint
from recomind.training.checkpoint import (
    catalogue_identity,
    keep_newest,
    load_newest,
    save_checkpoint,
)
from recomind.training.trainer import train_policy
from recomind.types import ItemFeatures
from tests.sealing import reseal
from tests.training.tiny import PROBLEM, TinyCatalogue, TinyWorld, settings


def state(size: int, value: float = 1.0) -> dict:
    return {"weights": np.full(size, value, dtype=np.float32), "numbers": list(range(size // 100))}


@contextmanager
def file_size_limit(num_bytes: int) -> Iterator[None]:
    """A disk on which no file can grow beyond `num_bytes`: writing fails in the middle of one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error of write(), not a kill
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("limit", [100, 20_000], ids=["in the tree", "in the tensors"])
def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, limit: int) -> None:
    save_checkpoint(tmp_path, 1, state(100), {}, seed=0)
    with (
        file_size_limit(limit),
        pytest.raises(ArtifactError, match=r"cannot be written; earlier ones.*iteration-00000002"),
    ):
        save_checkpoint(tmp_path, 2, state(40_000), {}, seed=0)
    assert names(tmp_path) == ["iteration-00000001"]
    found = load_newest(tmp_path)
    assert found is not None
    assert found[1]["weights"].tolist() == [1.0] * 100
    save_checkpoint(tmp_path, 2, state(40_000), {}, seed=0)  # there is room again
    assert names(tmp_path) == ["iteration-00000001", "iteration-00000002"]


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_on_a_full_disk_stops_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tmp_path / "whole")
    real, calls = checkpoint.save_tensors, []

    def full_the_second_time(path: Path, tensors: dict) -> None:
        calls.append(path)
        if len(calls) == 2:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, tensors)

    monkeypatch.setattr(checkpoint, "save_tensors", full_the_second_time)
    with pytest.raises(ArtifactError, match="no room on the disk"):
        train(tmp_path / "full")
    assert names(tmp_path / "full") == ["iteration-00000001"]
    again = train(tmp_path / "full")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def train(folder: Path, problem=PROBLEM, inputs=None) -> dict[str, torch.Tensor]:
    network = train_policy(
        problem,
        settings(),
        seed=0,
        checkpoint_dir=folder,
        on_iteration=lambda report: None,
        inputs=inputs,
    )
    return {name: tensor.detach().clone() for name, tensor in network.named_parameters()}


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, state(10), {}, seed=0)
    (tmp_path / ".iteration-00000007.deadbeef.tmp").mkdir()
    keep_newest(tmp_path, 2)
    assert names(tmp_path) == ["iteration-00000001"]


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, state(10), {}, seed=0)
    path = save_checkpoint(tmp_path, 2, state(10), {}, seed=0)
    reseal(path, lambda manifest: setattr(manifest, "format_version", 99))
    with pytest.raises(ArtifactError, match=r"another format version; got: 99 .*expected: .*2;"):
        load_newest(tmp_path)


class OtherCatalogue(TinyCatalogue):
    """The same shape, other content."""

    dense_names: tuple[str, ...] = ("age",)

    def __init__(self, age: float) -> None:
        self.age = age

    def features(self, item_id: torch.Tensor, snapshot=None) -> ItemFeatures:
        dense = torch.full((*item_id.shape, 1), self.age)
        return dataclasses.replace(super().features(item_id, snapshot), dense=dense)


class OtherWorld(TinyWorld):
    def __init__(self) -> None:
        super().__init__()
        self.catalogue = OtherCatalogue(2.0)


def test_identity_of_a_catalogue_is_that_of_its_content() -> None:
    assert catalogue_identity(OtherCatalogue(1.0)) == catalogue_identity(OtherCatalogue(1.0))
    assert catalogue_identity(OtherCatalogue(1.0)) != catalogue_identity(OtherCatalogue(2.0))
    assert catalogue_identity(OtherCatalogue(1.0)) != catalogue_identity(TinyCatalogue())


@pytest.mark.usefixtures("ray_cluster")
def test_checkpoints_of_another_catalogue_or_input_are_refused(tmp_path: Path) -> None:
    train(tmp_path, inputs={"ranker": "1"})
    with pytest.raises(
        ArtifactError, match=r"with other inputs; got: {'ranker': '1'}; expected:.*2"
    ):
        train(tmp_path, inputs={"ranker": "2"})
    other = dataclasses.replace(PROBLEM, environment=OtherWorld)
    with pytest.raises(ArtifactError, match=r"with another catalogue; got: {'catalogue': "):
        train(tmp_path, other, inputs={"ranker": "1"})
