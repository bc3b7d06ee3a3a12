"""A finished run from Python: the lines of the README, and what they stand on."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

import recomind
from recomind.artifacts import load_tensors
from recomind.errors import ArtifactError, ConfigError
from recomind.pipeline.run_file import RUN_FILE
from recomind.plugins import VARIABLE
from tests.flow.commands import read_report

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
METRIC = "watch_10s_per_session"


@pytest.mark.slow
def test_the_lines_of_the_readme(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (lines,) = BLOCK.findall(README.read_text())
    assert len(lines.splitlines()) <= 15
    shutil.copytree(finished, tmp_path / "runs" / "demo")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(lines, README, "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == str(read_report(finished)["gate"]["reasons"])
    assert [line.split()[0] for line in printed[1:]] == ["policy", "trained"]
    table = names["table"]
    assert isinstance(table, dict)
    assert {table[arm][METRIC]["n"] for arm in ("ranker", "policy", "trained")} == {500}


@pytest.mark.slow
def test_in_the_runs_own_simulator_training_gives_the_runs_own_policy(finished: Path) -> None:
    run = recomind.open_run(finished)
    again = run.train_policy(run.simulator)
    kept = load_tensors(finished / "round_0" / "policy" / "policy.safetensors")
    state = again.network.trainable_state()
    assert kept.keys() == state.keys()
    assert all(torch.equal(kept[name], state[name]) for name in kept)


def test_arms_are_compared_as_the_report_compares_them(finished: Path) -> None:
    run = recomind.open_run(finished)
    arms = {"ranker": run.ranker, "policy": run.policy}
    assert run.world is not None
    table = recomind.evaluate(arms, run.world, run.pool, num_sessions=30, seed=3)
    policy, ranker = table["policy"][METRIC], table["ranker"][METRIC]
    assert "lift" not in ranker
    assert policy["lift"]["value"] == pytest.approx(policy["mean"] / ranker["mean"] - 1.0)
    same = recomind.evaluate({"ranker": run.ranker, "b": run.ranker}, run.world, run.pool, seed=3)
    assert same["b"][METRIC]["lift"]["value"] == 0.0


def test_a_baseline_that_is_no_arm_is_refused(finished: Path) -> None:
    run = recomind.open_run(finished)
    with pytest.raises(ConfigError, match=r"the baseline is none of the arms; got: ranker"):
        recomind.evaluate({"mine": run.ranker}, run.simulator, run.pool)


def test_a_setting_that_does_not_exist_is_refused(finished: Path) -> None:
    run = recomind.open_run(finished)
    with pytest.raises(ConfigError, match=r"unknown setting training.gama; .*'gamma'"):
        run.train_policy(run.simulator, gama=0.9)


@pytest.mark.parametrize(
    ("removed", "message"),
    [(RUN_FILE, "no run here"), ("report/report.json", "no report here")],
)
def test_a_folder_without_a_finished_run_is_refused(
    folder: Path, removed: str, message: str
) -> None:
    (folder / removed).unlink()
    with pytest.raises(ArtifactError, match=message):
        recomind.open_run(folder)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"gmma": 1}', '{"training": {"gamma": 2.0}, "data": {}}']
)
def test_a_run_file_that_is_none_is_refused(folder: Path, content: str) -> None:
    (folder / RUN_FILE).write_text(content)
    with pytest.raises(ArtifactError, match=r"unreadable run(\.json| file)"):
        recomind.open_run(folder)


def test_a_folder_does_not_decide_which_code_is_imported(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    content = json.loads((folder / RUN_FILE).read_text())
    content["world"] = {"_target_": "tests.flow.stored_world.StoredFeed"}
    content["allowed_targets"] = ["tests."]
    (folder / RUN_FILE).write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="outside the allowed prefixes"):
        _ = recomind.open_run(folder).world
