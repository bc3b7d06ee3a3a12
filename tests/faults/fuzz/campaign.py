"""A seeded campaign over every loader: what damage comes to.

    python -m tests.faults.fuzz.campaign --num 1000 --seed 0 [--kinds ranker,index] [--folder DIR]

prints a JSON object: `num_inputs`, and how many ended `untyped` (another error than a
RecomindError), as `aborts` (the process died), `hangs` (over 10 s of processor time, or two minutes
of the clock: a busy machine hangs nobody) or `accepted_damaged` (changed content whose hashes were
not recomputed), with the first faults of each kind.

Half of the inputs have their hashes recomputed: then a loader may take what it is given, or say in
one typed error that it does not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HANG_S = 10.0  # of processor time
_STUCK_S = 120.0  # of the clock: it waits for something that does not come
_START_S = 240.0  # to import everything on a busy machine
_SHOWN = 5  # faults of a kind that are told in words


def campaign(root: Path, num: int, seed: int, names: Sequence[str] = ()) -> dict[str, Any]:
    """Damage `num` inputs of every kind, or of those named."""
    if not (root / "kinds.json").exists():
        from tests.faults.fuzz.kinds import kinds, make  # everything that is loaded: half a minute

        make(root)
        (root / "kinds.json").write_text(json.dumps([kind.name for kind in kinds(root)]))
    names = list(names or json.loads((root / "kinds.json").read_text()))
    for left in ("faults", "memory"):
        (root / left).unlink(missing_ok=True)
    faults = [*_Campaign(root, names, num, seed).ends(), *_faults(root)]
    counts = Counter(fault["fault"] for fault in faults)
    shown = {name: [f for f in faults if f["kind"] == name][:_SHOWN] for name in names}
    return {
        "num_inputs": num * len(names),
        **{name: counts[name] for name in ("untyped", "aborts", "hangs", "accepted_damaged")},
        "faults": {name: found for name, found in shown.items() if found},
    }


def _faults(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "faults").read_text().splitlines()]


class _Campaign:
    """The process that works, begun again behind every input that ended it."""

    def __init__(self, root: Path, names: Sequence[str], num: int, seed: int) -> None:
        self.root, self.names, self.num, self.seed = root, list(names), num, seed

    def ends(self) -> Iterator[dict[str, Any]]:
        """The inputs that ended a process: it died, or it hung and was killed."""
        names, first = self.names, 0
        while fault := self._work(names, first):
            name, index = self._place().split()
            yield {"kind": name, "index": int(index), "fault": fault, "error": self._said()}
            names, first = names[names.index(name) :], int(index) + 1

    def _work(self, names: Sequence[str], first: int) -> str:
        """Start the process and wait for its end; how it ended, nothing where it is through."""
        (self.root / "progress").unlink(missing_ok=True)
        arguments = [str(self.root), ",".join(names), str(first), str(self.num), str(self.seed)]
        with (self.root / "stderr").open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.fuzz.worker", *arguments],
                env=os.environ | {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"},
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        seen, since, busy = "", time.monotonic(), 0.0
        while process.poll() is None:
            time.sleep(0.2)
            if self._place() != seen:
                seen, since, busy = self._place(), time.monotonic(), _processor_s(process.pid)
            spent = _processor_s(process.pid) - busy if seen else 0.0
            if spent > HANG_S or time.monotonic() - since > (_STUCK_S if seen else _START_S):
                process.kill()
                process.wait()
                return self._started("hangs")
        return self._started("aborts") if process.returncode else ""

    def _started(self, fault: str) -> str:
        if not self._place():
            raise RuntimeError(f"the process does not start: {self._said()}")
        return fault

    def _place(self) -> str:
        path = self.root / "progress"
        return path.read_text() if path.exists() else ""

    def _said(self) -> str:
        return (self.root / "stderr").read_text()[-500:]


def _processor_s(pid: int) -> float:
    """Seconds of processor time of a process that has not been waited for, all threads."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = after_name[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run a campaign from the command line."""
    parser = argparse.ArgumentParser(description="damage to every loader")
    parser.add_argument("--num", type=int, default=1000, help="inputs a kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default="", help="names, comma between; all where empty")
    parser.add_argument("--folder", type=Path, help="where undamaged artifacts are kept")
    given = parser.parse_args()
    names = [name for name in given.kinds.split(",") if name]
    with tempfile.TemporaryDirectory(prefix="recomind-fuzz-") as temporary:
        root = given.folder or Path(temporary)
        root.mkdir(parents=True, exist_ok=True)
        print(json.dumps(campaign(root, given.num, given.seed, names), indent=2))


if __name__ == "__main__":
    main()
