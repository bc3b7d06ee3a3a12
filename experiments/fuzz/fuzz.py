"""A long campaign of `tests/faults/fuzz`, seed by seed; what stands in `runs.jsonl` is pooled."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.records import Records
from experiments.result import figure, write_result
from tests.faults.fuzz.campaign import campaign

FOLDER = Path(__file__).parent
COUNTS = ("num_inputs", "untyped", "aborts", "hangs", "accepted_damaged")


def main() -> None:
    """Make the seeds that are absent, one after the other, then pool all that are there."""
    parser = argparse.ArgumentParser(description="damage to every loader")
    parser.add_argument("--num", type=int, default=1000, help="inputs a kind and seed")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where undamaged artifacts are kept")
    parser.add_argument("--out", type=Path, default=FOLDER)
    given = parser.parse_args()
    records = Records(given.out, ("num", "seed"))
    with tempfile.TemporaryDirectory(prefix="recomind-fuzz-") as temporary:
        root = given.folder or Path(temporary)
        root.mkdir(parents=True, exist_ok=True)
        for num, seed in records.absent((given.num, seed) for seed in range(given.seeds)):
            records.keep((num, seed), _one(root, num, seed))
    pooled = Counter[str]()
    for record in records.all():
        pooled += Counter(record["figures"])
    figures = {name: figure(pooled[name], unit="inputs") for name in COUNTS}
    command = f"experiments/fuzz/run --num {given.num} --seeds {given.seeds}"
    seeds = sorted({record["seed"] for record in records.all()})
    write_result(given.out, command, figures, seeds=seeds)


def _one(root: Path, num: int, seed: int) -> Mapping[str, int]:
    """Counts of one seed; its faults are printed."""
    found: dict[str, Any] = campaign(root, num, seed)
    print(f"seed {seed}: {json.dumps(found)}", flush=True)
    return {name: found[name] for name in COUNTS}


if __name__ == "__main__":
    main()
