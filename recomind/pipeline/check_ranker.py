"""Do the rankers of a round, or an external one that is to be used, keep the contract?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from recomind.artifacts import is_complete, read_manifest
from recomind.checks import check_ranker
from recomind.config import plain
from recomind.data import SessionDataset, load_catalogue
from recomind.errors import ConfigError
from recomind.findings import Finding
from recomind.pipeline.loading import load_ensemble
from recomind.pipeline.run import Round
from recomind.ranker import ExternalKind, load_external
from recomind.simulation import World
from recomind.streams import make_generator
from recomind.types import Catalogue, Ranker, SessionState

_NUM_STATES = 24


def check_rankers(round: Round) -> Iterator[tuple[str, list[Finding]]]:
    """Each ranker's title and what was found, one after the other.

    Raises:
        ConfigError: there is no ranker to check, or there are no items to check it on.
    """
    seed, dataset = round.seed("check-ranker"), _sessions(round)
    state = None if dataset is not None else _states(round.run.world, seed)
    tried_on = "logged states" if dataset is not None else "states of the world"
    if dataset is None and state is None:
        tried_on = "random states"
    for name, ranker, catalogue in _rankers(round, dataset):
        found = check_ranker(ranker, catalogue, state=state, dataset=dataset, seed=seed)
        yield f"{name}, on {tried_on}", found


def _rankers(
    round: Round, dataset: SessionDataset | None
) -> Iterator[tuple[str, Ranker, Catalogue]]:
    """Name, ranker and the items that it is tried on."""
    folder, external = round.path("ranker"), round.config.ranker.external
    if _is_for_this_config(round, folder):
        catalogue = load_catalogue(folder)
        for index, ranker in enumerate(load_ensemble(round)):
            yield f"{folder}, member {index} ({type(ranker).__name__})", ranker, catalogue
    elif external.kind is not ExternalKind.none:
        catalogue = _catalogue(round, dataset)
        loaded = load_external(external, catalogue)
        yield f"{external.kind.value} {external.path}", loaded, catalogue
    else:
        raise ConfigError(
            "no ranker to check",
            got=f"no ranker artifact in {folder}, and ranker.external.kind=none",
            mend="run `recomind train-ranker`, or describe your ranker in ranker.external",
        )


def _catalogue(round: Round, dataset: SessionDataset | None) -> Catalogue:
    if dataset is not None:
        return dataset.catalogue
    if round.run.world is not None:
        return round.run.world.catalogue
    raise ConfigError(
        "no items to check the ranker on",
        got=f"no sessions in {round.run.folder}, and no world",
        mend="run `recomind prepare-data` or `collect-logs` first, or choose a world",
    )


def _is_for_this_config(round: Round, folder: Path) -> bool:
    """Whether a ranker artifact is there, made with the external ranker of the config if any."""
    external = round.config.ranker.external
    if not is_complete(folder):
        return False
    recorded: Any = read_manifest(folder, "ranker").config.get("ranker", {})
    return external.kind is ExternalKind.none or recorded.get("external") == plain(external)


def _sessions(round: Round) -> SessionDataset | None:
    there = all(is_complete(folder) for folder in round.session_folders)
    return round.dataset() if there else None


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
