"""The support by the logs' density from the command line: fitted, used, exported, or refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recomind.artifacts import Manifest, read_manifest
from recomind.data import load_catalogue, write_sessions
from recomind.export import load_scorer
from recomind.pipeline.stages import collect_logs
from recomind.policy import QPolicy
from tests.flow.commands import MICRO, NOT_RELEASED
from tests.flow.in_process import Command

TAU = "policy.support_density=0.2"


def at(folder: Path) -> str:
    return f"hydra.run.dir={folder}"


def manifest_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


@pytest.mark.slow
def test_the_whole_job_is_done_inside_the_density(command: Command, folder: Path) -> None:
    first = folder / "round_0"
    before = manifest_of(first / "policy")
    assert not (first / "density").exists()
    assert not any("density" in name for name in before["inputs"])
    shutil.rmtree(folder / "export")
    outcome = command("train-policy", *MICRO, at(folder), TAU)
    assert outcome.status == 0, outcome.err
    assert "fit-density: done" in outcome.err
    density = read_manifest(first / "density", "density")
    assert density.metrics["rows"] > 200
    inputs = read_manifest(first / "policy", "policy").inputs
    assert inputs["round_0/density"] == density.identity
    assert command("evaluate", *MICRO, at(folder), TAU).status in (0, NOT_RELEASED)
    assert command("export", *MICRO, at(folder), TAU).status == 0
    scorer = load_scorer(folder / "export")
    assert scorer.network.config.support_density == 0.2
    assert scorer.network.density is not None
    assert "kept from before" in command("train-policy", *MICRO, at(folder), TAU).err
    # Another threshold is another policy: checkpoints of this one are none of its own.
    outcome = command("train-policy", *MICRO, at(folder), "policy.support_density=0.4")
    assert outcome.status == 2
    assert (
        "checkpoints here were written with other inputs; got: {'policy.support_density'"
        in outcome.err
    )
    shutil.rmtree(first / "checkpoints")
    outcome = command("train-policy", *MICRO, at(folder), "policy.support_density=0.4")
    assert outcome.status == 0, outcome.err
    assert "fit-density" not in outcome.err  # the density is the same


def test_a_log_without_propensities_is_refused_before_anything(
    command: Command, folder: Path
) -> None:
    sessions = folder / "round_0" / "sessions"
    old, catalogue = manifest_of(sessions), load_catalogue(sessions)
    frame = pl.read_parquet(next(sessions.glob("*.parquet")))
    unknown = frame.with_columns(propensity=pl.lit(None, pl.Float64))
    names = ("config", "inputs", "seed")
    manifest = Manifest(kind="sessions", **{name: old[name] for name in names})
    write_sessions(sessions, unknown, catalogue, tasks=old["extra"]["tasks"], manifest=manifest)
    outcome = command("train-policy", *MICRO, at(folder), TAU)
    assert outcome.status == 2
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: policy.support_density needs logs with propensities; got: 0 of")
    assert "to mend: set policy.support_density=0" in line
    assert not (folder / "round_0" / "density").exists()


def test_what_collects_a_later_round_explores_beyond_the_logs(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[QPolicy] = []

    class Recorded(QPolicy):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            made.append(self)

    monkeypatch.setattr(collect_logs, "QPolicy", Recorded)
    outcome = command("collect-logs", *MICRO, at(folder), "rounds=2", "round=1")
    assert outcome.status == 0, outcome.err
    assert [policy.explores_beyond_logs for policy in made] == [True]
