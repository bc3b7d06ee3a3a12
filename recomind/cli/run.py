"""`recomind run`: logs to an exported policy, in rounds."""

from __future__ import annotations

from recomind.cli.evaluate import say
from recomind.pipeline import Round
from recomind.pipeline.rounds import complete_run


def run(round: Round) -> bool:
    """All stages of all rounds; returns whether the policy is released."""
    return say(complete_run(round.run), round.run.rounds[-1])
