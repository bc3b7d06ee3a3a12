"""`recomind run` with six kinds of existing rankers and with ours; figures into result.json.

What differs between the runs is settings alone. A run is kept in `runs/external_rankers/<kind>`
and resumed by `recomind run` itself; one that fails leaves figures that say why.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from experiments.external_rankers.train import train
from experiments.result import figure, write_result
from recomind.artifacts import read_manifest
from recomind.data import SessionDataset
from recomind.evaluation.report import read_report
from recomind.plugins import allow
from recomind.ranker import load_external
from recomind.ranker.config import ExternalConfig, ExternalKind, OutputKind

ROOT = Path("runs/external_rankers")
LOGS = ROOT / "logs" / "round_0" / "sessions"
HERE = "experiments.external_rankers"
FLAT = {
    "inputs": f"{HERE}.models.flat_inputs",
    "tasks": ["watch_10s", "long_view"],
    "output": "probabilities",
}
RANKERS: dict[str, dict[str, Any]] = {
    "ours": {},
    "torch": FLAT
    | {
        "kind": "torch",
        "path": "model.safetensors",
        "factory": f"{HERE}.models.Flat",
    },
    "split": {
        "kind": "torch",
        "path": "model.safetensors",
        "factory": f"{HERE}.models.Halves",
        "tasks": ["watch_10s", "long_view", "like", "hide"],
        "output": "logits",
    },
    "torchscript": FLAT | {"kind": "torchscript", "path": "model.pt"},
    "onnx": FLAT | {"kind": "onnx", "path": "model.onnx"},
    "lightgbm": FLAT | {"kind": "lightgbm", "path": ""},
    "dlrm": {
        "kind": "torch",
        "path": "model.safetensors",
        "factory": f"{HERE}.dlrm.build",
        "inputs": f"{HERE}.dlrm.inputs",
        "tasks": ["watch_10s"],
        "output": "logits",
    },
}
FIGURES = {  # name -> unit
    "step0_max_rank_difference": "positions",
    "step0_max_score_difference": "units of reward",
    "export_max_abs_difference": "units of reward",
    "export_order_differences": "requests",
    "adapter_max_abs_difference": "probability",
    "auc.watch_10s": "auc",
    "gate_released": "runs",
    "seconds": "s",
}


def settings(name: str) -> dict[str, Any]:
    """The settings below `ranker.external`, with the path of the model on disk."""
    given = RANKERS[name]
    return given and given | {"path": str(ROOT / "models" / name / given["path"])}


def overrides(name: str) -> list[str]:
    """The same as a command line has it."""
    found = settings(name).items()
    values = {k: f"[{','.join(v)}]" if isinstance(v, list) else v for k, v in found}
    return [f"ranker.external.{k}={v}" for k, v in values.items()]


def recomind(log: Path, *arguments: str) -> int:
    """The status of one command in a process of its own."""
    command = [sys.executable, "-m", "recomind.cli", *arguments]
    with log.open("a") as out:
        return subprocess.run(command, stdout=out, stderr=out, check=False).returncode


def run_one(name: str) -> str:
    """Run `name` to its end, unless it is there; returns what went wrong, if anything."""
    folder, log = ROOT / name, ROOT / f"{name}.log"
    if (folder / "seconds.json").is_file():
        return ""
    whole, start, used = not folder.exists(), time.monotonic(), _child_cpu_s()
    status = recomind(
        log,
        "run",
        "experiment=tiny",
        f"hydra.run.dir={folder}",
        f"allowed_targets=[{HERE}.]",
        "exit_unreleased=0",
        *overrides(name),
    )
    if status != 0:
        last = log.read_text().strip().splitlines()[-1:]
        return f"status {status}: {' '.join(last)}"
    seconds = {"wall": time.monotonic() - start, "cpu": _child_cpu_s() - used, "whole": whole}
    (folder / "seconds.json").write_text(json.dumps(seconds))
    print(f"{name}: done in {seconds['wall']:.0f} s", flush=True)
    return ""


def _child_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def adapter_difference(name: str) -> tuple[float, int]:
    """Largest difference of a probability on the test days, and how many rows there are.

    The model in the run's artifact is asked through its adapter with states of our dataset; its
    owner had asked it, where it was trained, with features of their own making.
    """
    run, given = ROOT / name / "round_0", settings(name)
    ours, theirs = (read_manifest(p).files["sessions.parquet"] for p in (run / "sessions", LOGS))
    if ours != theirs:
        raise SystemExit(f"{name} has another log than the model was trained on: remove {ROOT}")
    copy = run / "ranker" / "external" / Path(given["path"]).name
    path = copy if copy.exists() else copy.parent  # the trees are a folder
    log = SessionDataset.load([run / "sessions"], history_length=16)
    config = given | {"path": str(path), "kind": ExternalKind(given["kind"])}
    config["output"] = OutputKind(given["output"])
    ranker = load_external(ExternalConfig(**config), log.catalogue)
    rows = log.rows("test")
    encoding = ranker.encode_state(log.state(rows), log.snapshot(rows))
    answers = ranker.score(encoding, log.item_id(rows)[:, None])[:, 0].sigmoid()
    expected = torch.tensor(json.loads((ROOT / "models" / name / "answers.json").read_text()))
    return float((answers - expected).abs().max()), len(rows)


def figures_of(name: str) -> dict[str, dict[str, Any]]:
    """What the run's report and export say, and how long it took."""
    report = read_report(ROOT / name / "report")
    export = json.loads((ROOT / name / "export" / "parity.json").read_text())
    seconds = json.loads((ROOT / name / "seconds.json").read_text())
    parity = report["step0_parity"]
    found = {
        "step0_max_rank_difference": (parity["max_rank_difference"], parity["num_states"]),
        "step0_max_score_difference": (parity["max_score_difference"], parity["num_states"]),
        "export_max_abs_difference": (export["max_abs_difference"], export["num_candidates"]),
        "export_order_differences": (export["num_order_differences"], export["num_states"]),
        "auc.watch_10s": (report["ranker"]["auc.watch_10s"], None),
        "gate_released": (int(report["gate"]["released"]), 1),
    }
    if RANKERS[name]:
        found["adapter_max_abs_difference"] = adapter_difference(name)
    figures = {
        f"{what}.{name}": figure(value, n=n, unit=FIGURES[what])
        for what, (value, n) in found.items()
    }
    return figures | {f"seconds.{name}": _seconds(seconds)}


def _seconds(seconds: dict[str, Any]) -> dict[str, Any]:
    if not seconds["whole"]:
        return {"value": None, "reason": "the run was stopped and resumed"}
    return figure(seconds["wall"], n=1, unit=FIGURES["seconds"], cpu_s=round(seconds["cpu"], 1))


def main() -> None:
    """Logs once, models once, then run after run."""
    torch.set_num_threads(1)
    allow([HERE])
    os.environ["PYTHONPATH"] = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    ROOT.mkdir(parents=True, exist_ok=True)
    where = f"hydra.run.dir={ROOT / 'logs'}"
    if recomind(ROOT / "logs.log", "collect-logs", "experiment=tiny", where) != 0:
        raise SystemExit(f"no logs: see {ROOT / 'logs.log'}")
    figures: dict[str, dict[str, Any]] = {}
    for name in RANKERS:
        if RANKERS[name]:
            train(name, LOGS, ROOT / "models" / name)
        fault = run_one(name)
        failed = {f"{what}.{name}": {"value": None, "reason": fault} for what in FIGURES}
        figures |= failed if fault else figures_of(name)
    write_result(Path(__file__).parent, "experiments/external_rankers/run", figures, seeds=[0])


if __name__ == "__main__":
    main()
