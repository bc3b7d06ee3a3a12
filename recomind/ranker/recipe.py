"""How a ranker is described in a manifest, and built again from there.

A recipe is JSON: the kind of ranker and its settings. Weights of our own lie beside it as
safetensors; the model of a ranker that existed already is a file of its own, copied into the
artifact, so that hashes cover it and the artifact is whole by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from recomind.adapters import ExternalConfig
from recomind.artifacts import NoLargerThan, first_mismatch, load_tensors
from recomind.errors import ArtifactError, ConfigError
from recomind.ranker.capabilities import HasRecipe
from recomind.ranker.config import RankerConfig
from recomind.ranker.config_json import config_from_json as config_from_json
from recomind.ranker.config_json import config_to_json as config_to_json
from recomind.ranker.external import CompletedRanker, ExternalRanker, load_external
from recomind.ranker.model import SessionRanker
from recomind.types import Catalogue, Ranker

_KEYS = {  # what a recipe holds beside its kind
    "session": {"tasks", "num_user_features", "config"},
    "external": {"config"},
    "completed": {"external", "own"},
}


def ranker_recipe(ranker: Ranker, staging: Path) -> dict[str, Any]:
    """What `build_ranker` needs beside weights; copies an external model into `staging`.

    Raises:
        ConfigError: a ranker of another class, which has no recipe.
    """
    if isinstance(ranker, HasRecipe):
        return ranker.artifact_recipe(staging)
    raise ConfigError(
        "a ranker that no artifact can hold",
        got=type(ranker).__name__,
        expected="SessionRanker, ExternalRanker or CompletedRanker",
        mend="describe a model of another kind in ranker.external",
    )


def build_ranker(
    recipe: Mapping[str, Any], catalogue: Catalogue, folder: Path, own: SessionRanker | None = None
) -> SessionRanker | ExternalRanker | CompletedRanker:
    """The ranker of a recipe; weights of our own are fresh, an external model is loaded.

    Args:
        recipe: from `ranker_recipe`.
        catalogue: the items.
        folder: the artifact, which holds the external model.
        own: what completes an external ranker, where it is there already.

    Raises:
        ArtifactError: not a recipe.
        ConfigError: it names a function that the operator has not allowed.
    """
    match recipe.get("kind"):
        case "session":
            return _session(recipe, catalogue, folder)
        case "external":
            return _external(recipe, catalogue, folder)
    _require(recipe, "completed")
    external = _external(recipe["external"], catalogue, folder)
    return CompletedRanker(external, own or _session(recipe["own"], catalogue, folder))


def _require(recipe: Mapping[str, Any], kind: str) -> None:
    if recipe.get("kind") != kind or not recipe.keys() >= _KEYS[kind]:
        raise ArtifactError(
            "unreadable recipe of a ranker",
            got=dict(recipe),
            expected=f"kind {kind} with {sorted(_KEYS[kind])}",
            mend="write the artifact again with this version",
        )


def _session(recipe: Mapping[str, Any], catalogue: Catalogue, folder: Path) -> SessionRanker:
    _require(recipe, "session")
    config = config_from_json(RankerConfig, recipe["config"])
    tasks, num_user_features = tuple(recipe["tasks"]), int(recipe["num_user_features"])
    with NoLargerThan(folder):
        return SessionRanker(catalogue, tasks, num_user_features, config)


def _external(recipe: Mapping[str, Any], catalogue: Catalogue, folder: Path) -> ExternalRanker:
    _require(recipe, "external")
    return load_external(config_from_json(ExternalConfig, recipe["config"]), catalogue, folder)


def load_weights(module: nn.Module, path: Path, elsewhere: str = "") -> None:
    """Load safetensors into a module.

    Args:
        module: the model of an external ranker is no part of its state.
        path: the file.
        elsewhere: prefix of names whose tensors come from another file; none where empty.

    Raises:
        ArtifactError: names or shapes that differ.
    """
    try:
        differing = module.load_state_dict(load_tensors(path), strict=not elsewhere)
    except RuntimeError as error:
        raise ArtifactError(
            "weights do not fit the model", got=f"{first_mismatch(error)}, in {path}"
        ) from error
    absent = [name for name in differing.missing_keys if not name.startswith(elsewhere)]
    if absent or differing.unexpected_keys:
        got = f"{path}: without {absent[:5]}, with {differing.unexpected_keys[:5]}"
        raise ArtifactError("weights do not fit the model", got=got)
