"""The contract of a ranker, for whoever brings one: run it and hear what is wrong.

    for finding in check_ranker(my_ranker, catalogue, dataset=sessions):
        print(finding)                                 # error, warning or note, a line each
    require_ranker(my_ranker, catalogue)               # silent, or a SchemaError

Checked are names, shapes, types and that scores are finite; that they are deterministic, need no
gradient, change nothing, and depend neither on the batch nor on the list of candidates; unseen
items, empty histories, first steps, padding; and on a log that probabilities are not inverted and
are calibrated.
"""

from typing import TYPE_CHECKING

from recomind.lazy import lazy

if TYPE_CHECKING:
    from recomind.ranker.check.findings import Finding, Level
    from recomind.ranker.check.run import check_ranker, require_ranker
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = ["Finding", "Level", "check_ranker", "require_ranker"]
