"""Simulators whose manifest names larger networks than their weights are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from recomind.artifacts import Manifest
from recomind.errors import ArtifactError
from recomind.simulation import load_holdout, load_simulator
from tests.sealing import reseal
from tests.simulation.tiny import WEIGHTS

MANY = 2**18  # times a width of some tens: a failed test takes no more than the machine has


def widen(manifest: Manifest) -> None:
    manifest.extra["config"]["hidden"] = MANY


def test_a_simulator_of_larger_sizes_than_its_weights_is_refused(
    simulator_folder: Path, ranker_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(simulator_folder, tmp_path / "simulator"))
    load_simulator(folder, ranker_folder, WEIGHTS)
    reseal(folder, widen)
    with pytest.raises(ArtifactError, match="the manifest names sizes of"):
        load_simulator(folder, ranker_folder, WEIGHTS)


def test_a_holdout_simulator_of_larger_sizes_than_its_weights_is_refused(
    holdout_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(holdout_folder, tmp_path / "holdout"))
    load_holdout(folder, WEIGHTS)
    reseal(folder, widen)
    with pytest.raises(ArtifactError, match="the manifest names sizes of"):
        load_holdout(folder, WEIGHTS)
