"""Ranker ensembles on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from torch import nn

from recomind.artifacts import (
    Manifest,
    first_mismatch,
    loads,
    read_manifest,
    save_tensors,
    write_artifact,
)
from recomind.data import StoredCatalogue, load_catalogue
from recomind.errors import ArtifactError, ConfigError, SchemaError
from recomind.ranker.capabilities import own_part
from recomind.ranker.model import SessionRanker
from recomind.ranker.recipe import build_ranker, load_weights, ranker_recipe
from recomind.types import Ranker

KIND = "ranker"
_OWN = "own."  # prefix of the weights of ours in a completed ranker


def save_rankers(
    folder: Path, rankers: Sequence[Ranker], catalogue: StoredCatalogue, manifest: Manifest
) -> None:
    """Write an ensemble with its catalogue and all else that it needs.

    Raises:
        ConfigError: a member that no artifact can hold, or no ranker of ours.
    """
    manifest.kind, own = KIND, trunk_of(rankers)
    with write_artifact(folder, manifest) as staging:
        catalogue.save(staging)
        members = [_save_member(r, i, rankers, staging) for i, r in enumerate(rankers)]
        manifest.extra = manifest.extra | {
            "tasks": list(own.tasks),
            "num_user_features": own.num_user_features,
            "members": members,
        }


def _save_member(
    ranker: Ranker, index: int, rankers: Sequence[Ranker], staging: Path
) -> dict[str, Any]:
    """Write one member's weights, without those of another member that it contains."""
    recipe = ranker_recipe(ranker, staging)
    weights = cast(nn.Module, ranker).state_dict()
    inside = [i for i, r in enumerate(rankers) if r is getattr(ranker, "own", None)]
    if inside:
        recipe["own_member"] = inside[0]
        weights = {n: t for n, t in weights.items() if not n.startswith(_OWN)}
    save_tensors(staging / f"member_{index}.safetensors", weights)
    return recipe


@loads("ranker", mend="run `recomind train-ranker` again")
def load_rankers(folder: Path) -> list[Ranker]:
    """Read an ensemble, ready to score.

    Raises:
        ArtifactError: absent, damaged, or weights that do not fit the recorded config.
        ConfigError: an external ranker names a function that the operator has not allowed.
    """
    folder = Path(folder)
    extra, catalogue = read_manifest(folder, KIND).extra, load_catalogue(folder)
    if "members" not in extra:
        raise ArtifactError(
            "a ranker of an earlier version", got=folder, mend="run `recomind train-ranker` again"
        )
    rankers: dict[int, Ranker] = {}
    for index, recipe in sorted(enumerate(extra["members"]), key=lambda m: "own_member" in m[1]):
        own = cast("SessionRanker | None", rankers.get(recipe.get("own_member")))
        ranker = build_ranker(recipe, catalogue, folder, own)
        load_weights(ranker, folder / f"member_{index}.safetensors", _OWN if own else "")
        if own is None:
            ranker.precompute_items()
        rankers[index] = ranker.eval()
    return [rankers[index] for index in range(len(rankers))]


def start_from(ranker: SessionRanker, folder: Path, member: int) -> None:
    """Give `ranker` the weights of a member of the ensemble in `folder`, or of its first of ours.

    Raises:
        ArtifactError: there is none that can be read.
        ConfigError: it has other tasks, features or sizes.
    """
    others = load_rankers(folder)
    found = others[member] if member < len(others) else None
    source = found if isinstance(found, SessionRanker) else trunk_of(others)
    mend = "give this run the settings, features and tasks of the one that wrote it, or begin anew"
    if source.tasks != ranker.tasks:
        raise ConfigError(
            "the ranker to start from has other tasks",
            got=f"{list(source.tasks)} in {folder}",
            expected=list(ranker.tasks),
            mend=mend,
        )
    try:
        ranker.load_state_dict(source.state_dict())
    except RuntimeError as error:
        raise ConfigError(
            "the ranker to start from has another shape",
            got=f"{first_mismatch(error)}, in {folder}",
            mend=mend,
        ) from error


def trunk_of(rankers: Sequence[Ranker]) -> SessionRanker:
    """The first member that is a ranker of ours; a policy's residual is copied from it.

    Raises:
        ConfigError: there is none.
    """
    for ranker in rankers:
        own = own_part(ranker)
        if own is not None and own is ranker:
            return own
    raise ConfigError(
        "an ensemble without a ranker of our own",
        got=[type(ranker).__name__ for ranker in rankers],
        expected="at least one SessionRanker, which the policy's residual starts from",
        mend="set ranker.num_members to 2 or more",
    )


def tasks_of(rankers: Sequence[Ranker]) -> tuple[str, ...]:
    """The tasks that all members share.

    Raises:
        SchemaError: members have different tasks.
    """
    tasks = {ranker.tasks for ranker in rankers}
    if len(tasks) != 1:
        raise SchemaError(
            "an ensemble of rankers with different tasks",
            got=sorted(tasks),
            expected="the same tasks in the same order",
        )
    return tasks.pop()
