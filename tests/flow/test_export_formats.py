"""`export.formats` on the command line, on a finished run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recomind.artifacts import read_manifest
from tests.flow.commands import MICRO
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
    assert read_manifest(folder / "export").config["export"] == {"formats": []}
    reseal(folder / "export", lambda manifest: manifest.config.pop("export"))
    assert "kept from before" in command("export", *MICRO, at(folder)).err


def test_an_unknown_format_is_named_before_anything_runs(command: Command, folder: Path) -> None:
    outcome = command("export", *MICRO, at(folder), "export.formats=[onyx]")
    assert outcome.status == 2
    assert "did you mean 'onnx'" in outcome.err
