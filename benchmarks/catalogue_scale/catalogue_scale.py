"""Sizes one after another, stage by stage; what is there is kept, what was killed goes on."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.catalogue_scale.setting import BATCH_SIZE, SEED
from experiments.result import figure, write_result

HERE = Path(__file__).resolve().parent
FOLDER = Path("runs/catalogue_scale")
SIZES, STAGES = ("1e5", "1e6", "1e7", "1e8"), ("build", "truth", "recall", "full")
TURNS = tuple(f"time_{turn}" for turn in range(3))  # sizes are timed in turn: machines change pace
PARTS = ("retrieval", "pool", "scoring", "exploration", "decision", "uniform_pool")
Found = dict[str, dict[str, Any]]  # stage -> what it wrote


def run_size(size: str, threads: int) -> None:
    """Run the stages of a size that are missing, but for the timing."""
    for stage in STAGES:
        run_stage(stage, size, threads)


def run_stage(stage: str, size: str, threads: int) -> None:
    """A stage of a size unless it is there; its output is kept beside the benchmark."""
    folder = FOLDER / size
    folder.mkdir(parents=True, exist_ok=True)
    log = HERE / "logs" / f"{size}.log"
    log.parent.mkdir(exist_ok=True)
    if not (folder / f"{stage}.json").exists():
        _run_stage(stage, size, folder, threads, log)


def _run_stage(stage: str, size: str, folder: Path, threads: int, log: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": str(threads if stage == "build" else 1)}
    command = [sys.executable, "-m", "benchmarks.catalogue_scale.stages", stage, size]
    with (
        log.open("a") as file,
        subprocess.Popen(
            [*command, str(folder), str(threads)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            _tell(f"{stage} {line.rstrip()}", file)
        if process.wait():
            raise SystemExit(f"{size}: {stage} failed, see {log}")
        _tell(f"{stage} {_shortened(folder / f'{stage}.json')}", file)


def _tell(line: str, file: Any) -> None:
    print(line, flush=True)
    file.write(line + "\n")
    file.flush()


def _shortened(path: Path) -> str:
    found = json.loads(path.read_text())
    return json.dumps({k: v for k, v in found.items() if k not in ("seconds", "learn_seconds")})


def figures_of(size: str) -> dict[str, Any]:
    """Figures of a size; those that are missing say why."""
    found = {stage: _read(size, stage) for stage in (*STAGES, *TURNS)}
    figures = _of_build(size, found) | _of_decisions(size, [found[turn] for turn in TURNS])
    return figures | _of_full(size, found["full"])


def _read(size: str, stage: str) -> dict[str, Any]:
    path = FOLDER / size / f"{stage}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _of_build(size: str, found: Found) -> dict[str, Any]:
    built, decided = found["build"], found["recall"]
    peaks = [found[stage]["rss_gib"] for stage in ("build", "truth", TURNS[0]) if found[stage]]
    return {
        f"build_s.{size}": _one(built.get("process_s"), "s", wall_s=built.get("wall_s")),
        f"bytes_per_item.{size}": _one(built.get("bytes_per_item"), "B"),
        f"rss_gib.{size}": _one(max(peaks) if len(peaks) == 3 else None, "GiB"),
        f"recall_at_100.{size}": _one(
            decided.get("recall"),
            "ratio",
            nprobe=decided.get("nprobe"),
            num_lists=decided.get("num_lists"),
        ),
    }


def _one(value: float | None, unit: str, **more: Any) -> dict[str, Any]:
    if value is None:
        return figure(None, unit=unit, reason="this size has not been run")
    return figure(value, unit=unit, **more)


def _of_decisions(size: str, turns: list[dict[str, Any]]) -> dict[str, Any]:
    seconds = [turn["seconds"] for turn in turns if turn]
    figures = {
        f"{part}_ms.{size}": _ms([s for of in seconds for s in of[part]], BATCH_SIZE)
        for part in PARTS
    }
    learning = [s for turn in turns if turn for s in turn["learn_seconds"]]
    return figures | {f"learn_ms.{size}": _ms(learning, 1)}


def _ms(seconds: list[float] | None, num: int, reason: str = "") -> dict[str, Any]:
    """Median milliseconds of one of `num`, between the quartiles."""
    if not seconds:
        return figure(None, unit="ms", reason=reason or "this size has not been run")
    values = [1e3 * value / num for value in seconds]
    if len(values) == 1:
        return figure(values[0], unit="ms", n=1)
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return figure(middle, unit="ms", low=low, high=high, n=len(values))


def _of_full(size: str, found: dict[str, Any]) -> dict[str, Any]:
    reason = found.get("reason", "")
    act = _ms(found.get("act_seconds"), found.get("num_states", 1), reason)
    learn = _ms(found.get("learn_seconds"), 1, found.get("learn_reason", reason))
    return {f"full_catalogue_act_ms.{size}": act, f"full_catalogue_learn_ms.{size}": learn}


def pooled() -> dict[str, Any]:
    """All figures, and the largest size over the smallest."""
    figures: dict[str, Any] = {}
    for size in SIZES:
        figures |= figures_of(size)
    for name, kind in (("decision_ratio", "decision_ms"), ("learn_ratio", "learn_ms")):
        large, small = (figures[f"{kind}.{size}"]["value"] for size in ("1e8", "1e5"))
        ratio = None if large is None or small is None else large / small
        figures[f"{name}_1e8_1e5"] = _one(ratio, "ratio")
    return figures


def main() -> None:
    """Run the sizes asked for, then write the figures of all that were ever run here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=SIZES)
    parser.add_argument("--threads", type=int, default=1, help="threads that add items")
    arguments = parser.parse_args()
    for size in arguments.sizes:
        run_size(size, arguments.threads)
    for turn in TURNS:
        for size in arguments.sizes:
            run_stage(turn, size, arguments.threads)
    figures = pooled()
    write_result(HERE, "benchmarks/catalogue_scale/run", figures, seeds=[SEED])
    for name, entry in figures.items():
        if entry["value"] is not None:
            print(f"{name:34s} {entry['value']:12.4g} {entry['unit']}", flush=True)


if __name__ == "__main__":
    main()
