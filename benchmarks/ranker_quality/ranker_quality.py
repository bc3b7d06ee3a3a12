"""Every arm x every seed on KuaiRand-Pure, then the figures."""

from __future__ import annotations

import argparse
import hashlib
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.ranker_quality.aggregates import Aggregates
from benchmarks.ranker_quality.arms import BASELINES
from benchmarks.ranker_quality.figures import all_figures, cold_items
from benchmarks.ranker_quality.impressions import TASKS, Impressions, Predict, prepare
from benchmarks.ranker_quality.measures import weighted_auc
from benchmarks.ranker_quality.ours import SETTINGS, fit_ours, ranker_config
from experiments.result import write_result

SEEDS = [0, 1, 2]
COLD = "ours_cold"  # our ranker, without the rows of one item in ten
NAME = "kuairand-pure"
RESULT = "benchmarks/ranker_quality/result.json"
ROOT = Path(__file__).parents[2]
ARMS = ["ours", *BASELINES]
_HERE = "benchmarks/ranker_quality"
_CODE_OF_DATA = ["recomind/data", f"{_HERE}/impressions.py"]
_CODE_OF_BASELINES = [f"{_HERE}/{name}.py" for name in ("aggregates", "arms", "measures", "nets")]
_CODE_OF_OURS = [
    "recomind/ranker",
    "recomind/types.py",
    f"{_HERE}/ours.py",
    f"conf/{SETTINGS}",
]


def main() -> None:
    """Fit what is absent from `--work`, then write result.json."""
    arguments = _parser().parse_args()
    torch.set_num_threads(1)
    data = _data_folder(arguments.data)
    work = Path(arguments.work) / _stamp(data)
    folder = prepare(str(data), work / f"sessions.{digest(*_CODE_OF_DATA)}")
    log = Impressions(folder, ranker_config().history_length)
    aggregates = Aggregates(log)
    seeds = dict.fromkeys(ARMS, SEEDS) | {COLD: SEEDS[:1]}
    files = {arm: [_file(work, arm, seed) for seed in of_arm] for arm, of_arm in seeds.items()}
    for arm, of_arm in files.items():
        for seed, file in zip(seeds[arm], of_arm, strict=True):
            _run(log, aggregates, arm, seed, file)
    runs = {arm: [dict(np.load(file)) for file in of_arm] for arm, of_arm in files.items()}
    figures = all_figures(log, runs, COLD)
    command = "benchmarks/ranker_quality/run"
    write_result(Path(__file__).parent, command, figures, seeds=SEEDS)
    print(table(figures))


def table(figures: dict[str, Any]) -> str:
    """A Markdown table of arms, each number followed by the name that ties it to its figure."""
    columns = [f"{kind}.{task}" for task in TASKS for kind in ("auc", "gauc", "gauc_frozen")]
    lines = ["| arm | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    for arm in ARMS:
        names = [f"{column}.{arm}" for column in columns]
        cells = [f"{figures[n]['value']:.4f}<!-- {RESULT}#{n} -->" for n in names]
        lines.append(f"| `{arm}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    data = os.environ.get("RECOMIND_DATA", "../shared/data")
    parser.add_argument("--data", default=data, help="KuaiRand-Pure's folder, or its parent")
    parser.add_argument("--work", default="runs/ranker_quality", help="where runs are kept")
    return parser


def _data_folder(given: str) -> Path:
    inner = Path(given) / NAME
    return inner if inner.is_dir() else Path(given)


def _stamp(data: Path) -> str:
    """Eight characters that tell one set of files from another, by names and sizes."""
    files = sorted((path.name, path.stat().st_size) for path in data.glob("*") if path.is_file())
    return hashlib.sha256(repr(files).encode()).hexdigest()[:8]


def _file(work: Path, arm: str, seed: int) -> Path:
    """Named by the code that it comes from, so that a run is repeated when that changes."""
    sources = _CODE_OF_BASELINES if arm in BASELINES else _CODE_OF_OURS
    return work / f"{arm}.{seed}.{digest(*_CODE_OF_DATA, *sources)}.npz"


def digest(*sources: str) -> str:
    """Eight characters that change with the files `sources`, or the Python files under them."""
    found = [path for source in sources for path in (ROOT / source).rglob("*.py")]
    found += [ROOT / source for source in sources if (ROOT / source).is_file()]
    content = b"".join(path.read_bytes() for path in sorted(found))
    return hashlib.sha256(content).hexdigest()[:8]


def _fitted(log: Impressions, aggregates: Aggregates, arm: str, seed: int) -> Predict:
    if arm in BASELINES:
        return BASELINES[arm](log, aggregates, seed)
    cold = cold_items(log)
    return fit_ours(log, seed, cold if arm == COLD else np.zeros_like(cold))


def _run(log: Impressions, aggregates: Aggregates, arm: str, seed: int, file: Path) -> None:
    """Predictions of one arm and seed, kept in a file; written whole or not at all."""
    began = time.perf_counter()
    if file.exists():
        return
    predict = _fitted(log, aggregates, arm, seed)
    kept = {
        "calibration": predict(log.calibration, False),
        "live": predict(log.test, False),
        "frozen": predict(log.test, True),
    }
    unfinished = file.with_suffix(".part.npz")
    np.savez(unfinished, allow_pickle=False, **kept)
    unfinished.rename(file)
    pairs = enumerate(TASKS)
    label, score = log.label_EH[log.calibration], kept["calibration"]
    aucs = [f"{task} {weighted_auc(label[:, h], score[:, h]):.4f}" for h, task in pairs]
    seconds = time.perf_counter() - began
    print(f"{arm} {seed}: 3 May {', '.join(aucs)} ({seconds:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
