"""Rows per second of all arms, which take turns, and AUC before and after; then `result.json`."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.ranker_training.arms import ARMS
from experiments.result import figure, over_seeds, write_result

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
ROUNDS = 5
SEEDS = [0, 1, 2]


def command(script: str, *arguments: str) -> list[str]:
    """A script of this folder."""
    return [sys.executable, "-W", "ignore", str(HERE / script), *arguments]


def environment(tree: Path) -> dict[str, str]:
    """The package is the one of `tree`, this benchmark the present one."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tree), str(ROOT)])}


def rates(log: Path, before: Path) -> dict[str, list[float]]:
    """Arm -> rows per processor second of each round."""
    arms = {
        arm: subprocess.Popen(
            command("arms.py", arm, str(log)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(before if arm == "before" else ROOT),
        )
        for arm in ARMS
    }
    found: dict[str, list[float]] = {arm: [] for arm in arms}
    for process in arms.values():
        assert process.stdout is not None
        process.stdout.readline()
    for _ in range(ROUNDS):
        for arm, process in arms.items():
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            found[arm].append(float(process.stdout.readline()))
        print({arm: round(rate[-1]) for arm, rate in found.items()}, flush=True)
    for process in arms.values():
        process.communicate()
    return found


def quality(log: Path, test: Path, tree: Path, seed: int) -> dict[str, float]:
    """AUC and ECE on a test log of a ranker of `tree`."""
    done = subprocess.run(
        command("quality.py", str(log), str(test), str(seed)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=environment(tree),
    )
    return json.loads(done.stdout.splitlines()[-1])


def figures(of: dict[str, list[float]]) -> dict[str, dict]:
    """Medians of the rounds, and ratios of what was measured in one round."""
    entries = {
        f"rows_per_s.{arm}": figure(statistics.median(rate), unit="rows/s", n=len(rate))
        for arm, rate in of.items()
    }
    for name, other in (("speedup_over_before", "before"), ("ours_over_products", "products")):
        ratios = [a / b for a, b in zip(of["ours"], of[other], strict=True)]
        entries[name] = figure(statistics.median(ratios), n=len(ratios))
    return entries


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--before", type=Path, required=True, help="a checkout to compare with")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/ranker_training")
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    given = parser.parse_args()
    log, test = given.work / "train", given.work / "test"
    for folder, num, first in ((log, 40_000, 0), (test, 30_000, 10**6)):
        arguments = (str(folder), str(num), str(first))
        subprocess.run(command("../ranker_memory/make_log.py", *arguments), check=True)
    entries = figures(rates(log, given.before))
    command_line = "benchmarks/ranker_training/run --before <checkout of 5a32a72>"
    write_result(HERE, command_line, entries, seeds=given.seeds)
    arms = {"before": given.before, "after": ROOT}
    runs: dict[str, list[dict[str, float]]] = {arm: [] for arm in arms}
    for seed in given.seeds:
        for arm, tree in arms.items():
            runs[arm].append(quality(log, test, tree, seed))
            print(arm, seed, runs[arm][-1], flush=True)
    for arm, of in runs.items():
        entries |= {f"{k}.{arm}": over_seeds([run[k] for run in of]) for k in of[0]}
    write_result(HERE, command_line, entries, seeds=given.seeds)


if __name__ == "__main__":
    main()
