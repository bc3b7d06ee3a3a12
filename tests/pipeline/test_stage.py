"""The driver of a stage: made once, kept while nothing changes, and never silently absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from recomind.artifacts import Manifest, read_manifest, write_artifact
from recomind.cli.usage import FLOW
from recomind.config import RecomindConfig
from recomind.pipeline import Round, Run, Stage, complete
from recomind.pipeline.progress import StageLine
from recomind.pipeline.registry import _STAGES, stages


class Count(Stage):
    """Counts how often it was built."""

    name, kind, artifact, groups = "count", "count", "counted", ("gate",)

    def __init__(self, num_builds: int = 0, *, inputs: tuple[str, ...] = ()) -> None:
        self.num_builds, self.reads = num_builds, inputs

    def inputs(self, round: Round) -> list[Path]:
        return round.paths(*self.reads)

    def build(self, round: Round, manifest: Manifest, line: StageLine) -> str:
        self.num_builds += 1
        with write_artifact(self.path(round), manifest) as staging:
            (staging / "num.txt").write_text(str(self.num_builds))
        return "a note"


class Other(Count):
    """The same in another folder."""

    artifact = "other"


class Idle(Count):
    """Writes nothing."""

    def build(self, round: Round, manifest: Manifest, line: StageLine) -> str:
        return ""


class Unwanted(Count):
    """Switched off by the config."""

    def wanted(self, round: Round) -> bool:
        return False


def run_in(folder: Path, seed: int = 0, rounds: int = 1) -> Run:
    config = RecomindConfig(output=str(folder), seed=seed, data={"source": "kuairand"})
    config.rounds = rounds
    return Run(config)


def test_a_stage_is_built_once_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage, run = Count(), run_in(tmp_path, rounds=2)
    for _ in range(2):
        complete(stage, run.round(0))
    complete(stage, run.round(0), quiet=True)
    assert stage.num_builds == 1
    built, kept = capsys.readouterr().err.splitlines()
    assert built == "count, round 1 of 2: done in 0 s (a note)"
    assert kept == "count, round 1 of 2: kept from before"
    complete(stage, run.round(1))
    assert stage.num_builds == 2
    assert (tmp_path / "round_1" / "counted" / "num.txt").read_text() == "2"


def test_another_seed_setting_input_or_damage_builds_it_anew(tmp_path: Path) -> None:
    stage = Count()
    complete(stage, run_in(tmp_path).round(0))
    complete(stage, run_in(tmp_path, seed=1).round(0))
    run = run_in(tmp_path, seed=1)
    run.config.gate.min_lift = 0.5
    complete(stage, run.round(0))
    assert stage.num_builds == 3
    complete(Other(), run.round(0))
    reading = Count(10, inputs=("other",))
    complete(reading, run.round(0))
    complete(reading, run.round(0))
    assert reading.num_builds == 11
    assert list(read_manifest(tmp_path / "round_0/counted").inputs) == ["round_0/other"]
    (tmp_path / "round_0/counted/num.txt").write_text("7")
    complete(reading, run.round(0))
    assert reading.num_builds == 12


def test_a_stage_that_is_not_wanted_leaves_nothing(tmp_path: Path) -> None:
    complete(Unwanted(), run_in(tmp_path).round(0))
    assert list(tmp_path.iterdir()) == []


def test_a_stage_that_writes_nothing_is_a_fault_of_ours(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    complete(Count(), run.round(0))
    run.config.seed = 1  # what lies there is an older one
    with pytest.raises(AssertionError, match="count wrote elsewhere"):
        complete(Idle(), run.round(0))


def test_every_command_has_its_stages_and_a_stage_of_its_name() -> None:
    without = {"run", "serve", "join-outcomes", "check-ranker", "check-world", "describe-data"}
    assert {*FLOW, "select-round", "train-seeds"} - without == set(_STAGES)
    for command in _STAGES:
        assert command in [stage.name for stage in stages(command)]


def test_no_two_stages_share_a_seed_or_a_folder_unless_one_replaces_the_other() -> None:
    found = [stage for command in _STAGES for stage in stages(command)]
    assert len({stage.name for stage in found}) == len(found)
    folders = [stage.artifact for stage in found if stage.name != "prepare-data"]
    assert len(set(folders)) == len(folders)


def test_seeds_are_those_of_every_run_before(tmp_path: Path) -> None:
    first, second = run_in(tmp_path).round(0), run_in(tmp_path).round(1)
    assert (first.seed("train-policy"), second.seed("train-policy")) == (1902581614, 933461861)
