from pathlib import Path

import pytest

from recomind.artifacts import Manifest
from recomind.ranker import save_rankers
from recomind.simulation import fit_holdout, fit_simulator, load_holdout, load_simulator
from tests.simulation import tiny


@pytest.fixture(scope="session")
def dataset():
    return tiny.tiny_dataset()


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> tuple[Path, Path, Path]:
    root = tmp_path_factory.mktemp("fidelity")
    rankers, dataset = [tiny.tiny_ranker(0), tiny.tiny_ranker(1)], tiny.tiny_dataset()
    save_rankers(root / "ranker", rankers, tiny.tiny_catalogue(), Manifest(kind="ranker"))
    fit_simulator(
        root / "simulator", rankers, dataset, tiny.SIMULATOR, Manifest(kind="simulator"), seed=0
    )
    fit_holdout(root / "holdout", dataset, tiny.SIMULATOR, Manifest(kind="holdout"), seed=0)
    return root / "ranker", root / "simulator", root / "holdout"


@pytest.fixture
def simulator(folders):
    return load_simulator(folders[1], folders[0], tiny.WEIGHTS)


@pytest.fixture
def holdout(folders):
    return load_holdout(folders[2], tiny.WEIGHTS)
