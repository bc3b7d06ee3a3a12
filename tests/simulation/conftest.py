from pathlib import Path

import pytest

from recomind.artifacts import Manifest
from recomind.ranker import save_rankers
from recomind.simulation import fit_holdout, fit_simulator
from tests.simulation import tiny


@pytest.fixture(scope="session")
def dataset():
    return tiny.tiny_dataset()


@pytest.fixture(scope="session")
def rankers():
    """Fitted; not to be changed."""
    return [tiny.tiny_ranker(0), tiny.tiny_ranker(1)]


@pytest.fixture(scope="session")
def ranker_folder(rankers, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ranker") / "artifact"
    save_rankers(folder, rankers, tiny.tiny_catalogue(), Manifest(kind="ranker"))
    return folder


@pytest.fixture(scope="session")
def simulator_folder(rankers, dataset, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("simulator") / "artifact"
    fit_simulator(folder, rankers, dataset, tiny.SIMULATOR, Manifest(kind="simulator"), seed=0)
    return folder


@pytest.fixture(scope="session")
def holdout_folder(dataset, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("holdout") / "artifact"
    fit_holdout(folder, dataset, tiny.SIMULATOR, Manifest(kind="holdout_simulator"), seed=0)
    return folder
