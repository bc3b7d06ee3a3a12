"""What each command does with a run: complete its stages, or say what it found."""

from __future__ import annotations

import importlib

from recomind.pipeline import Round, complete_command

# These say more than a progress line; each is a file here, imported when it is asked for.
_SPEAKING = (
    "run",
    "evaluate",
    "serve",
    "join-outcomes",
    "check-ranker",
    "check-world",
    "describe-data",
)


def perform(command: str, round: Round) -> bool:
    """Carry out a command on a round; False where it came to a policy that is not released."""
    if command in _SPEAKING:
        module = importlib.import_module(f"recomind.cli.{command.replace('-', '_')}")
        return module.run(round) is not False
    complete_command(command, round)
    return True
