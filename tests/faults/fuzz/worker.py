"""Loads damaged inputs, one after another, in a process that may die of it.

    python -m tests.faults.fuzz.worker ROOT KIND,KIND,... FIRST NUM SEED

FIRST is the input that the first of the kinds begins with, NUM how many each has. Writes where it
is into ROOT/progress, what went wrong into ROOT/faults (a JSON object a line), the peak of its
memory after each kind into ROOT/memory, and ends with 0 when it is through.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from recomind.artifacts import MANIFEST, Manifest, file_sha256, write_json
from recomind.errors import RecomindError
from tests.faults.fuzz.kinds import Kind, kinds
from tests.faults.fuzz.mutations import mutated, mutated_json


def run(root: Path, names: Sequence[str], first: int, num: int, seed: int) -> None:
    """Damage and load `num` inputs of each kind, the first kind's from `first` on."""
    known = {kind.name: kind for kind in kinds(root)}
    with (root / "progress").open("w") as place, (root / "faults").open("a") as found:
        for name in names:
            work = root / "work" / name / "artifact"
            shutil.rmtree(work.parent, ignore_errors=True)
            shutil.copytree(known[name].folder, work)
            for index in range(first, num):
                place.seek(0)
                place.write(f"{name} {index}".ljust(60))
                place.flush()
                fault = attempt(known[name], work, random.Random(f"{seed}/{name}/{index}"))
                if fault:
                    found.write(json.dumps({"kind": name, "index": index} | fault) + "\n")
                    found.flush()
            first = 0
            peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            with (root / "memory").open("a") as memory:
                memory.write(f"{name} {peak_mib}\n")


def attempt(kind: Kind, work: Path, draws: random.Random) -> dict[str, Any] | None:
    """What went wrong with one damaged input, or None."""
    file = draws.choice(kind.files)
    resealed = kind.sealed and draws.random() < 0.6
    with damaged(work, file, draws, resealed=resealed) as changed:
        try:
            kind.load(work)
        except RecomindError:
            return None
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {str(error)[:200]} ({where.filename}:{where.lineno})"
            return {"fault": "untyped", "file": file, "error": text}
    if changed and kind.guarded and not resealed:
        return {"fault": "accepted_damaged", "file": file}
    return None


@contextmanager
def damaged(work: Path, file: str, draws: random.Random, *, resealed: bool) -> Iterator[bool]:
    """Whether the file's content is another now; both it and the manifest come back."""
    path, manifest = work / file, work / MANIFEST
    before = path.read_bytes()
    sealed = manifest.read_bytes() if resealed else b""
    if resealed and file == MANIFEST:
        changed = mutated_json(before, draws)
    else:
        changed = mutated(before, draws, is_json=path.suffix == ".json")
    try:
        path.write_bytes(changed)
        if resealed:
            _reseal(work, file)
        yield not _same(before, changed, path)
    finally:
        path.write_bytes(before)
        if resealed:
            manifest.write_bytes(sealed)


def _same(before: bytes, changed: bytes, path: Path) -> bool:
    """Whether nothing was changed but what nobody reads.

    That is blanks and the order of keys in JSON, and in a store's columns what lies behind the last
    row, which a killed writer may leave there.
    """
    if path.suffix == ".bin":
        return changed.startswith(before)
    if path.suffix != ".json":
        return before == changed
    try:
        return json.loads(before) == json.loads(changed)
    except (ValueError, RecursionError):
        return False


def _reseal(work: Path, file: str) -> None:
    try:
        values = json.loads((work / MANIFEST).read_text())
        manifest = Manifest(**values)
        if file != MANIFEST:
            manifest.files[file] = file_sha256(work / file)
        write_json(work / MANIFEST, manifest.sealed())
    except (TypeError, ValueError, AttributeError, RecursionError):
        return  # a manifest of another shape has no hash to be recomputed


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    given = sys.argv[1:]
    run(Path(given[0]), given[1].split(","), int(given[2]), int(given[3]), int(given[4]))
