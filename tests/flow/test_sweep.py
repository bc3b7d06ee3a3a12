"""A sweep over seeds on a local Ray, and the table over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flow.commands import read_report, recomind

pytest.importorskip("hydra_plugins.hydra_ray_launcher")


@pytest.mark.slow
def test_two_seeds_on_a_local_ray_and_one_table_over_them(tmp_path: Path) -> None:
    done = recomind(
        "run", "-m", "hydra/launcher=ray", "experiment=tiny", "seed=0,1", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr.lower()
    sweep = tmp_path / "runs" / "sweeps" / "tiny"
    reports = [read_report(sweep / f"seed={seed}") for seed in (0, 1)]
    assert [report["seed"] for report in reports] == [0, 1]
    first, second = (report["environments"] for report in reports)
    assert first != second
    assert all((sweep / f"seed={seed}/export/manifest.json").is_file() for seed in (0, 1))
    table = recomind("results", "runs/sweeps/tiny", cwd=tmp_path)
    assert table.returncode == 0
    rows = [line.split("│")[1:3] for line in table.stdout.splitlines() if "seed=" in line]
    assert [[cell.strip() for cell in row] for row in rows] == [["seed=0", "0"], ["seed=1", "1"]]
    assert table.stdout.count("lift of") == 1
