"""`recomind check-ranker`: contract violations of the run's rankers, or of an external one."""

from __future__ import annotations

from recomind.cli.findings import say
from recomind.pipeline import Round
from recomind.pipeline.check_ranker import check_rankers


def run(round: Round) -> None:
    """Check the round's ensemble, or the external ranker that the config names.

    Raises:
        SchemaError: a ranker breaks its contract; what was found has been printed.
    """
    say(check_rankers(round), "ranker")
