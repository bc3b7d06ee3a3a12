"""`recomind run experiment=kuairand` once, and its figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from experiments.result import figure, write_result
from recomind.evaluation.report import read_report

FOLDER, SEED = Path("runs/kuairand"), 0
METRICS = ("watch_10s_per_session", "session_depth", "session_depth_10plus")


def fidelity_figures(found: dict[str, Any]) -> dict[str, dict]:
    """How far a simulator is from the logs of later days (docs/fidelity.md)."""
    sessions = found["sessions"]
    return {
        "survival_gap": figure(found["leaving"]["max_difference"], unit="ratio"),
        "length_ks": figure(sessions["length"]["ks"], unit="ratio"),
        "dwell_ks": figure(sessions["dwell"]["ks"], unit="ratio"),
        "two_sample_auc": figure(sessions["two_sample"]["auc"], unit="ratio"),
    } | {
        f"response_auc.{task}": figure(entry["mean"]["auc"], unit="ratio")
        for task, entry in found["responses"].items()
    }


def main() -> None:
    """Run what is absent, then write the figures."""
    root = os.environ.get("RECOMIND_DATA", "../shared/data/kuairand-pure")
    command = [
        sys.executable,
        "-m",
        "recomind.cli",
        "run",
        "experiment=kuairand",
        f"seed={SEED}",
        f"data.root={root}",
    ]
    status = subprocess.run(command, check=False).returncode
    if status not in (0, 3):
        raise SystemExit(status)
    report = read_report(FOLDER / "report")
    figures: dict[str, Any] = {
        name: figure(value, unit="nats" if "loss" in name else "ratio")
        for name, value in report["ranker"].items()
        if name.endswith(("watch_10s", "long_view"))
    }
    for entry in report["environments"]:
        for metric in METRICS:
            lift = entry["lift"][metric]
            figures[f"lift.{entry['kind']}.{metric}"] = figure(
                lift["value"], low=lift["low"], high=lift["high"], n=lift["n"], unit="ratio"
            )
    fidelity = json.loads((FOLDER / "round_0" / "fidelity" / "fidelity.json").read_text())
    for kind, found in fidelity["simulators"].items():
        figures |= {f"{name}.{kind}": entry for name, entry in fidelity_figures(found).items()}
    figures["released"] = figure(float(report["gate"]["released"]), unit="runs")
    write_result(Path(__file__).parent, "experiments/kuairand/run", figures, seeds=[SEED])


if __name__ == "__main__":
    main()
