"""`recomind results [folder]`: one table over many runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from recomind.errors import RecomindError
from recomind.evaluation.results import collect_results, print_results


def main(arguments: Sequence[str]) -> int:
    """Print the table; 2 where there is nothing to read."""
    try:
        print_results(collect_results(Path(arguments[0] if arguments else "runs")))
    except RecomindError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
