"""Do the world that a run names, and the simulators of a round, keep the contract?"""

from __future__ import annotations

from collections.abc import Iterator

from recomind.artifacts import is_complete
from recomind.errors import ConfigError
from recomind.findings import Finding
from recomind.pipeline.loading import load_holdout_simulator, load_simulator
from recomind.pipeline.run import Round
from recomind.simulation import BatchedSessions, check_world


def check_worlds(round: Round) -> Iterator[tuple[str, list[Finding]]]:
    """Each environment's title and what was found, one after the other.

    Raises:
        ConfigError: there is nothing to check.
    """
    empty = True
    for name, environment in _environments(round):
        empty = False
        yield name, check_world(environment, round.seed("check-world"))
    if empty:
        raise ConfigError(
            "no world to check",
            got=f"no world, and no simulator in {round.run.folder}",
            mend="choose one with world=..., or a run's folder with output=...",
        )


def _environments(round: Round) -> Iterator[tuple[str, BatchedSessions]]:
    """Name and environment, made only when its turn comes."""
    if round.run.world is not None:
        yield f"world {round.config.world['_target_']}", round.run.world
    simulator, holdout = round.paths("simulator", "holdout_simulator")
    if is_complete(simulator) and is_complete(round.path("ranker")):
        loaded = load_simulator(round)
        yield f"{simulator} ({type(loaded).__name__})", loaded
    if is_complete(holdout):
        loaded = load_holdout_simulator(round)
        yield f"{holdout} ({type(loaded).__name__})", loaded
