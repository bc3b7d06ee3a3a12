"""A long campaign of `tests/faults/fuzz`, several seeds of it; its figures go into result.json."""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from experiments.result import figure, write_result
from tests.faults.fuzz.campaign import campaign

COUNTS = ("num_inputs", "untyped", "aborts", "hangs", "accepted_damaged")


def main() -> None:
    parser = argparse.ArgumentParser(description="damage to every loader")
    parser.add_argument("--num", type=int, default=1000, help="inputs a kind and seed")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where undamaged artifacts are kept")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    given = parser.parse_args()
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="recomind-fuzz-") as temporary:
        root = given.folder or Path(temporary)
        root.mkdir(parents=True, exist_ok=True)
        for seed in range(given.seeds):
            found = campaign(root, given.num, seed)
            total += Counter({name: found[name] for name in COUNTS})
            print(f"seed {seed}: {found}", flush=True)
    figures = {name: figure(total[name], unit="inputs") for name in COUNTS}
    command = f"experiments/fuzz/run --num {given.num} --seeds {given.seeds}"
    write_result(given.out, command, figures, seeds=list(range(given.seeds)))


if __name__ == "__main__":
    main()
