"""`recomind join-outcomes`: what a service decided and what came of it, to sessions."""

from __future__ import annotations

from recomind.artifacts import read_manifest
from recomind.errors import ConfigError
from recomind.pipeline import Round, complete_command
from recomind.pipeline.continuing import is_windowed


def run(round: Round) -> None:
    """Make the sessions of the rounds that the config asks for, and say what was joined.

    Raises:
        ConfigError: the logs are no served ones.
    """
    config = round.config
    if not is_windowed(round):
        raise ConfigError(
            "join-outcomes joins what a service logged",
            got=f"data.source={config.data.get('source', 'world')}",
            mend="use data=served; other logs are read by prepare-data",
        )
    for each in (*round.run.rounds[: round.index], round):
        complete_command("prepare-data", each)
        facts = read_manifest(each.path("sessions"), "sessions", verify=False).extra
        said = ", ".join(
            f"{name.removeprefix('num_').replace('_', ' ')} {value}"
            for name, value in facts.items()
            if name.startswith("num_") and value
        )
        print(f"window {each.index + 1}: {said}")
