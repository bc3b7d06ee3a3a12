"""A run on a catalogue that is kept in a store: artifacts refer to it and hold no copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from recomind.data import CatalogueStore
from recomind.errors import ArtifactError
from recomind.export import load_scorer
from recomind.ranker import load_rankers
from tests.flow.commands import MICRO, NOT_RELEASED, read_report
from tests.flow.in_process import Command

WORLD = (
    "world._target_=tests.flow.stored_world.StoredFeed",
    "allowed_targets=[tests.flow.]",
)
TABLE = "catalogue.safetensors"


def test_it_comes_to_what_a_table_comes_to(
    command: Command, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = command("run", *MICRO, *WORLD, "+world.store=store")
    assert done.status in (0, NOT_RELEASED), done.err
    folder = Path("runs/tiny").absolute()
    ours, theirs = read_report(folder), read_report(finished)
    for report in (ours, theirs):
        del report["gate"]["policy_identity"]  # it covers where the catalogue lies
    for part in ("environments", "learning_curve", "step0_parity", "gate"):
        assert ours[part] == theirs[part], part
    assert not list(folder.rglob(TABLE))
    assert len(list(finished.rglob(TABLE))) == len(list(folder.rglob("catalogue_store.json"))) > 3

    moved = tmp_path / "moved"
    shutil.move("store", moved)
    with pytest.raises(ArtifactError, match="the catalogue store is not where the artifact says"):
        load_rankers(folder / "round_0" / "ranker")
    monkeypatch.setenv("RECOMIND_CATALOGUE", str(moved))
    network = load_scorer(folder / "export").network
    assert isinstance(network.catalogue, CatalogueStore)
    assert network.catalogue.folder == moved
