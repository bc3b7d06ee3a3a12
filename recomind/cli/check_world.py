"""`recomind check-world`: what is wrong with a world, or with the simulators of a run's folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from recomind.artifacts import is_complete
from recomind.cli.check_ranker import print_findings
from recomind.cli.context import Run
from recomind.errors import ConfigError, SchemaError
from recomind.findings import Level
from recomind.simulation import BatchedSessions, check_world, load_holdout, load_simulator


def run(run: Run, round_index: int) -> None:
    """Check the world that the config names, and the round's simulators where there are any.

    Raises:
        SchemaError: one of them breaks its contract; what was found has been printed.
    """
    seed = run.seed("check-world", round_index)
    console, counts = Console(highlight=False), Counter()
    for name, environment in _environments(run, round_index):
        console.print(Text(name), soft_wrap=True)
        found = check_world(environment, seed)
        print_findings(found, console)
        counts.update(finding.level for finding in found)
    if not counts:
        raise ConfigError(
            "no world to check",
            got=f"no world, and no simulator in {run.folder}",
            mend="choose one with world=..., or a run's folder with output=...",
        )
    if counts[Level.error]:
        raise SchemaError(
            "the contract of a world is broken",
            got=f"{counts[Level.error]} errors, {counts[Level.warning]} warnings",
            mend="see the lines above",
        )


def _environments(run: Run, round_index: int) -> Iterator[tuple[str, BatchedSessions]]:
    """Name and environment, made only when its turn comes."""
    if run.world is not None:
        yield f"world {run.config.world['_target_']}", run.world
    ranker, simulator = (run.path(name, round_index) for name in ("ranker", "simulator"))
    if is_complete(simulator) and is_complete(ranker):
        loaded = load_simulator(simulator, ranker, run.weights)
        yield f"{simulator} ({type(loaded).__name__})", loaded
    holdout = run.path("holdout_simulator", round_index)
    if is_complete(holdout):
        loaded = load_holdout(holdout, run.weights)
        yield f"{holdout} ({type(loaded).__name__})", loaded
