"""One whole run in this process, with the seconds of each stage.

Usage: one_run.py FILE SETTING...; FILE becomes JSON: stage -> processor seconds. What comes before
the first stage, imports above all, is `start`; the run is that of the package on PYTHONPATH.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from recomind.pipeline import registry


def timed(seconds: dict[str, float]) -> None:
    """Make the pipeline add up what each stage takes, its own processes left out."""
    complete = registry.complete

    def wrapped(stage: Any, round: Any, **options: Any) -> None:
        begin = time.process_time()
        seconds.setdefault("start", begin)
        complete(stage, round, **options)
        seconds[stage.name] = seconds.get(stage.name, 0.0) + time.process_time() - begin

    registry.complete = wrapped


def main() -> None:
    """Run, then write the seconds."""
    from recomind.cli import command

    seconds: dict[str, float] = {}
    timed(seconds)
    file, sys.argv = Path(sys.argv[1]), ["recomind", "run", *sys.argv[2:]]
    try:
        command()
    except SystemExit as end:
        if end.code not in (None, 0, 3):
            raise
    seconds["all"] = time.process_time()
    file.write_text(json.dumps(seconds))


if __name__ == "__main__":
    main()
