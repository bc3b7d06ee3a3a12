"""Check a scorer against golden requests: `python -m recomind.export.verify SCORER GOLDEN`.

Prints a JSON report; exit status 0 if the scorer answers as the trained network did, 1 if not,
2 if it could not be run.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from recomind.errors import RecomindError
from recomind.export.comparing import compare
from recomind.export.golden import Golden
from recomind.export.parity import FORBIDDEN, forbidden_modules
from recomind.export.scorer import load_scorer


def main(arguments: Sequence[str]) -> int:
    """Print the report and return the exit status."""
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        scorer = load_scorer(Path(arguments[0]))
        report = compare(scorer, Golden.load(Path(arguments[1])))
    except RecomindError as error:
        print(json.dumps({"passed": False, "error": str(error)}))
        return 2
    loaded = forbidden_modules()
    report |= {
        "format_version": 1,
        "passed": report["passed"] and not loaded,
        "forbidden_modules": list(FORBIDDEN),
        "forbidden_modules_loaded": loaded,
    }
    print(json.dumps(report, sort_keys=True))
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)  # to tear down what is imported takes a third of the time to import it
