"""`export.formats` on the command line, on a finished run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from recomind.artifacts import read_manifest
from recomind.ranker import load_rankers
from tests.flow.commands import MICRO, NOT_RELEASED
from tests.flow.in_process import Command
from tests.flow.test_stages import at
from tests.sealing import reseal

TOY = "export.formats=[safetensors,tests.export.test_formats.TOY]"


def test_a_finished_run_is_exported_again_in_another_form(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECOMIND_ALLOWED_TARGETS", "tests")
    outcome = command("export", *MICRO, at(folder), TOY)
    assert outcome.status == 0, outcome.err
    assert json.loads((folder / "export" / "by_item" / "means.json").read_text())
    parity = json.loads((folder / "export" / "parity.json").read_text())
    assert parity["formats"]["by_item"]["passed"] is True
    assert "kept from before" in command("export", *MICRO, at(folder), TOY).err
    assert "export: done" in command("export", *MICRO, at(folder)).err  # without it again
    assert not (folder / "export" / "by_item").exists()


def test_an_export_made_before_there_were_formats_is_kept(command: Command, folder: Path) -> None:
    assert read_manifest(folder / "export").config["export"]["formats"] == []
    reseal(folder / "export", lambda manifest: manifest.config.pop("export"))
    assert "kept from before" in command("export", *MICRO, at(folder)).err


def test_an_unknown_format_is_named_before_anything_runs(command: Command, folder: Path) -> None:
    outcome = command("export", *MICRO, at(folder), "export.formats=[onyx]")
    assert outcome.status == 2
    assert "did you mean 'onnx'" in outcome.err


@pytest.mark.slow
def test_the_policy_becomes_a_ranker_that_the_next_run_starts_from(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    # A policy that ranks nearly as its ranker did would leave nothing to distil.
    longer = (*MICRO, at(folder), "training.num_env_steps=1600", "training.num_sessions=32")
    assert command("train-policy", *longer).status == 0
    assert command("evaluate", *longer).status in (0, NOT_RELEASED)
    small = ["export.target=ranker", "export.distil_states=600", "export.distil_epochs=4"]
    outcome = command("export", *longer, *small)
    assert outcome.status == 0, outcome.err
    entry = json.loads((folder / "export" / "parity.json").read_text())["formats"]["ranker"]
    assert entry["ndcg_at_10"] > entry["ndcg_at_10_bound"]
    there = folder / "export" / "ranker"
    assert read_manifest(there, "ranker").metrics["ndcg_at_10"] == entry["ndcg_at_10"]
    assert len(load_rankers(there)) == len(load_rankers(folder / "round_0" / "ranker"))

    later = tmp_path / "later"
    (later / "round_0").mkdir(parents=True)
    shutil.copytree(folder / "round_0" / "sessions", later / "round_0" / "sessions")
    begin = f"ranker.start_from={there}"
    outcome = command("train-ranker", *MICRO, at(later), begin)
    assert outcome.status == 0, outcome.err
    inputs = read_manifest(later / "round_0" / "ranker", "ranker").inputs
    assert inputs["ranker"] == read_manifest(there).identity
    weights = [load_rankers(each)[0].state_dict() for each in (there, later / "round_0" / "ranker")]  # type: ignore[attr-defined]
    tables = [w["items.tables.embedding_bags.table_feature_0.weight"] for w in weights]
    unseen = (tables[0] == tables[1]).all(1)
    assert bool(unseen.any())  # rows of items that no impression showed stay the ones it began with


def test_a_ranker_to_start_from_that_is_none_is_named(command: Command, folder: Path) -> None:
    outcome = command("train-ranker", *MICRO, at(folder), "ranker.start_from=nowhere")
    assert outcome.status == 2
    assert "nowhere" in outcome.err
