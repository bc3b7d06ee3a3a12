"""`recomind check-world`: contract violations of a world, or of a run's simulators."""

from __future__ import annotations

from recomind.cli.findings import say
from recomind.pipeline import Round
from recomind.pipeline.check_world import check_worlds


def run(round: Round) -> None:
    """Check the world that the config names, and the round's simulators where there are any.

    Raises:
        SchemaError: one of them breaks its contract; what was found has been printed.
    """
    say(check_worlds(round), "world")
