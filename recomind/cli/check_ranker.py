"""`recomind check-ranker`: what is wrong with the run's rankers, or with one that is to be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.text import Text

from recomind.artifacts import is_complete, read_manifest
from recomind.checks import Finding, Level, check_ranker
from recomind.cli.context import Run
from recomind.config import plain
from recomind.data import SessionDataset, load_catalogue
from recomind.errors import ConfigError, SchemaError
from recomind.ranker import load_rankers
from recomind.ranker.config import ExternalKind
from recomind.ranker.external import load_external
from recomind.simulation import World
from recomind.streams import make_generator
from recomind.types import Catalogue, Ranker, SessionState

_STYLES = {Level.error: "bold red", Level.warning: "yellow", Level.note: "dim"}
_NUM_STATES = 24


def run(run: Run, round_index: int) -> None:
    """Check the round's ensemble, or the external ranker that the config names.

    Raises:
        SchemaError: a ranker breaks its contract; what was found has been printed.
    """
    seed = run.seed("check-ranker", round_index)
    dataset = _sessions(run, round_index)
    state = None if dataset is not None else _states(run.world, seed)
    console, counts = Console(highlight=False), Counter()
    for name, ranker, catalogue in _rankers(run, round_index, dataset):
        tried_on = "logged states" if dataset is not None else "states of the world"
        if dataset is None and state is None:
            tried_on = "random states"
        console.print(Text(f"{name}, on {tried_on}"), soft_wrap=True)
        found = check_ranker(ranker, catalogue, state=state, dataset=dataset, seed=seed)
        print_findings(found, console)
        counts.update(finding.level for finding in found)
    if counts[Level.error]:
        raise SchemaError(
            "the contract of a ranker is broken",
            got=f"{counts[Level.error]} errors, {counts[Level.warning]} warnings",
            mend="see the lines above",
        )


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """A line each."""
    for finding in findings:
        level, _, text = str(finding).partition(": ")
        line = Text.assemble(f"  {level:<9}", text, style=_STYLES[finding.level])
        console.print(line, soft_wrap=True)


def _rankers(
    run: Run, round_index: int, dataset: SessionDataset | None
) -> Iterator[tuple[str, Ranker, Catalogue]]:
    """Name, ranker and the items that it is tried on."""
    folder, external = run.path("ranker", round_index), run.config.ranker.external
    if _is_of_this_config(run, folder):
        catalogue = load_catalogue(folder)
        for index, ranker in enumerate(load_rankers(folder)):
            yield f"{folder}, member {index} ({type(ranker).__name__})", ranker, catalogue
    elif external.kind is not ExternalKind.none:
        catalogue = (
            dataset.catalogue if dataset is not None else getattr(run.world, "catalogue", None)
        )
        if catalogue is None:
            raise ConfigError(
                "no items to check the ranker on",
                got=f"no sessions in {run.folder}, and no world",
                mend="run `recomind prepare-data` or `collect-logs` first, or choose a world",
            )
        yield (
            f"{external.kind.value} {external.path}",
            load_external(external, catalogue),
            catalogue,
        )
    else:
        raise ConfigError(
            "no ranker to check",
            got=f"no ranker artifact in {folder}, and ranker.external.kind=none",
            mend="run `recomind train-ranker`, or describe your ranker in ranker.external",
        )


def _is_of_this_config(run: Run, folder: Path) -> bool:
    """Whether a ranker artifact is there, and not of another external ranker than configured."""
    external = run.config.ranker.external
    if not is_complete(folder):
        return False
    recorded: Any = read_manifest(folder, "ranker").config.get("ranker", {})
    return external.kind is ExternalKind.none or recorded.get("external") == plain(external)


def _sessions(run: Run, round_index: int) -> SessionDataset | None:
    there = all(is_complete(folder) for folder in run.session_folders(round_index))
    return run.dataset(round_index) if there else None


def _states(world: World | None, seed: int) -> SessionState | None:
    """States in the midst of sessions whose items were drawn at random."""
    if world is None:
        return None
    generator = make_generator(seed)
    state = world.reset(_NUM_STATES, generator)
    for _ in range(world.horizon // 2):
        items = torch.randint(world.catalogue.num_items, (_NUM_STATES,), generator=generator)
        state = world.step(items).state
    return state
