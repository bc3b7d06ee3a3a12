"""Checks of the contract of a ranker, for whoever brings one.

    for finding in check_ranker(my_ranker, catalogue, dataset=sessions):
        print(finding)                                 # error, warning or note, one per line
    require_ranker(my_ranker, catalogue)               # silent, or a SchemaError

Checked are names, shapes, types and that scores are finite; that they are deterministic, need no
gradient, change nothing, and depend neither on the batch nor on the list of candidates; unseen
items, empty histories, first steps, padding; and on a log that probabilities are not inverted and
are calibrated.
"""

from typing import TYPE_CHECKING

from recomind.lazy import lazy

if TYPE_CHECKING:
    from recomind.checks.run import check_ranker, require_ranker
    from recomind.findings import Finding, Level
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = ["Finding", "Level", "check_ranker", "require_ranker"]
