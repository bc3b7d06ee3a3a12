"""`recomind compare RUN RUN ...`: what each run was judged by, side by side."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from recomind.errors import RecomindError
from recomind.evaluation.comparison import compare_runs, print_comparison


def main(arguments: Sequence[str]) -> int:
    """Print the table; 2 where a report is absent."""
    try:
        print_comparison(compare_runs([Path(argument) for argument in arguments]))
    except RecomindError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
