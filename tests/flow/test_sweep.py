"""Sweeps over seeds: on a local Ray with one table over them, and with a job that fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.flow.commands import MICRO, NOT_RELEASED, read_report, recomind
from tests.flow.in_process import Command

ON_RAY = "hydra/launcher=ray"


def of_the_users_own(path: Path) -> None:
    """Write the smallest run as an experiment, so that a job's folder has its seed's name."""
    settings = OmegaConf.from_dotlist([s for s in MICRO if not s.startswith("experiment=")])
    path.parent.mkdir(parents=True)
    head = "# @package _global_\ndefaults: [tiny, _self_]\n"
    path.write_text(head + OmegaConf.to_yaml(settings))


@pytest.mark.own_ray
@pytest.mark.slow
def test_two_seeds_on_a_local_ray_and_one_table_over_them(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    of_the_users_own(tmp_path / "conf" / "experiment" / "micro.yaml")
    done = recomind("run", "-m", ON_RAY, "experiment=micro", "seed=0,1", cwd=tmp_path)
    assert done.returncode in (0, NOT_RELEASED), done.stderr
    for noise in ("error", "Warning", "Traceback"):  # what logs cannot tell is a plain "warning"
        assert noise not in done.stderr
    sweep = tmp_path / "runs" / "sweeps" / "tiny"
    reports = [read_report(sweep / f"seed={seed}") for seed in (0, 1)]
    assert [report["seed"] for report in reports] == [0, 1]
    assert reports[0]["environments"] != reports[1]["environments"]
    assert all((sweep / f"seed={seed}/export/manifest.json").is_file() for seed in (0, 1))
    table = recomind("results", "runs/sweeps/tiny", cwd=tmp_path)
    assert table.returncode == 0
    assert table.stdout.count("lift of") == 1
    rows = [line.split("│")[1:3] for line in table.stdout.splitlines() if "seed=" in line]
    assert [[cell.strip() for cell in row] for row in rows] == [["seed=0", "0"], ["seed=1", "1"]]


def test_a_job_that_fails_does_not_end_the_others(command: Command) -> None:
    sweep = Path("runs/sweeps/tiny")
    outcome = command("collect-logs", "-m", "experiment=tiny", "collect.num_sessions=0,20")
    assert outcome.status == 2
    assert "error: collect.num_sessions; got: 0; expected: >= 1" in outcome.err.splitlines()
    written = [p.parents[2].name for p in sweep.rglob("sessions/manifest.json")]
    assert written == ["collect.num_sessions=20"]


def test_another_seed_gives_another_run(command: Command, finished: Path) -> None:
    assert command("collect-logs", *MICRO, "seed=1", "hydra.run.dir=other").status == 0
    logs = [f / "round_0/sessions/sessions.parquet" for f in (Path("other"), finished)]
    assert logs[0].read_bytes() != logs[1].read_bytes()


def test_the_launcher_that_is_not_installed(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    outcome = command("run", "-m", ON_RAY, "experiment=tiny")
    assert outcome.status == 2
    (line,) = outcome.err.splitlines()
    assert "pip install 'recomind[ray-launcher]'" in line
