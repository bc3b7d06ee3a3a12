"""docs/bring-your-own-logs.md, carried out: what it asks of a reader, and how long it takes."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from experiments.result import figure, write_result
from tests.test_bring_your_own import carry_out
from tests.test_bring_your_own_logs import PAGE, effort


def main() -> None:
    began, page = time.monotonic(), PAGE.read_text()
    with tempfile.TemporaryDirectory() as folder:
        carry_out(page, Path(folder))
        minutes = (time.monotonic() - began) / 60
        export = json.loads((Path(folder) / "runs/my_feed/export/manifest.json").read_text())
    asked = effort(page)
    figures = {
        "commands": figure(asked["commands"], unit="commands"),
        "lines": figure(asked["lines"], unit="lines"),
        "minutes": figure(minutes, unit="min"),
        "exported": figure(float(export["kind"] != ""), unit="policies"),
    }
    write_result(Path(__file__).parent, "experiments/own_logs/run", figures, seeds=[0])


if __name__ == "__main__":
    main()
