"""How a ranker is described in a manifest, and built again from there.

A recipe is JSON: the kind of ranker and its settings. Weights of our own lie beside it as
safetensors; the model of a ranker that existed already is a file of its own, copied into the
artifact, so that hashes cover it and the artifact is whole by itself.
"""

from __future__ import annotations

import dataclasses
import enum
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from recomind.adapters import ExternalConfig, copy_model
from recomind.artifacts import load_tensors
from recomind.errors import ArtifactError, ConfigError
from recomind.ranker.config import RankerConfig
from recomind.ranker.external import CompletedRanker, ExternalRanker, load_external
from recomind.ranker.model import SessionRanker
from recomind.types import Catalogue, Ranker

Config = TypeVar("Config")
_KEYS = {  # of a recipe, beside its kind
    "session": {"tasks", "num_user_features", "config"},
    "external": {"config"},
    "completed": {"external", "own"},
}


def config_to_json(config: Any) -> Any:
    """A config dataclass as JSON values: nested ones as objects, enums as their values."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: config_to_json(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, enum.Enum):
        return config.value
    if isinstance(config, (list, tuple)):
        return [config_to_json(value) for value in config]
    return dict(config) if isinstance(config, Mapping) else config


def config_from_json(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """The config that `config_to_json` was given.

    Raises:
        ArtifactError: settings that this version does not have, or values that are none.
    """
    hints = typing.get_type_hints(kind)
    try:
        decoded = dict(values)
        for name, value in values.items():
            hint = hints.get(name)
            if isinstance(hint, type) and issubclass(hint, enum.Enum):
                decoded[name] = hint(value)
            elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
                decoded[name] = config_from_json(hint, value)
        return kind(**decoded)
    except (TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"unreadable {kind.__name__}",
            got=error,
            mend="write the artifact anew with this version",
        ) from error


def ranker_recipe(ranker: Ranker, staging: Path) -> dict[str, Any]:
    """What `build_ranker` needs beside weights; copies an external model into `staging`.

    Raises:
        ConfigError: a ranker of another class, which has no recipe.
    """
    match ranker:
        case SessionRanker():
            # An external ranker beside it is described where it is used, its path not at all.
            config = dataclasses.replace(ranker.config, external=ExternalConfig())
            return {
                "kind": "session",
                "tasks": list(ranker.tasks),
                "num_user_features": ranker.num_user_features,
                "config": config_to_json(config),
            }
        case ExternalRanker():
            config = copy_model(ranker.config, staging)
            return {"kind": "external", "config": config_to_json(config)}
        case CompletedRanker():
            return {
                "kind": "completed",
                "external": ranker_recipe(ranker.external, staging),
                "own": ranker_recipe(ranker.own, staging),
            }
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
        catalogue: of the items.
        folder: the artifact, which holds the external model.
        own: what completes an external ranker, where it is there already.

    Raises:
        ArtifactError: not a recipe.
        ConfigError: it names a function that the operator has not allowed.
    """
    match recipe.get("kind"):
        case "session":
            return _session(recipe, catalogue)
        case "external":
            return _external(recipe, catalogue, folder)
    _require(recipe, "completed")
    external = _external(recipe["external"], catalogue, folder)
    return CompletedRanker(external, own or _session(recipe["own"], catalogue))


def _require(recipe: Mapping[str, Any], kind: str) -> None:
    if recipe.get("kind") != kind or not recipe.keys() >= _KEYS[kind]:
        raise ArtifactError(
            "unreadable recipe of a ranker",
            got=dict(recipe),
            expected=f"kind {kind} with {sorted(_KEYS[kind])}",
            mend="write the artifact anew with this version",
        )


def _session(recipe: Mapping[str, Any], catalogue: Catalogue) -> SessionRanker:
    _require(recipe, "session")
    config = config_from_json(RankerConfig, recipe["config"])
    tasks, num_user_features = tuple(recipe["tasks"]), int(recipe["num_user_features"])
    return SessionRanker(catalogue, tasks, num_user_features, config)


def _external(recipe: Mapping[str, Any], catalogue: Catalogue, folder: Path) -> ExternalRanker:
    _require(recipe, "external")
    return load_external(config_from_json(ExternalConfig, recipe["config"]), catalogue, folder)


def load_weights(module: nn.Module, path: Path, elsewhere: str = "") -> None:
    """Load safetensors into a module.

    Args:
        module: the model of an external ranker is no part of its state.
        path: of the file.
        elsewhere: prefix of names whose tensors come from another file; none where empty.

    Raises:
        ArtifactError: names or shapes that differ.
    """
    try:
        differing = module.load_state_dict(load_tensors(path), strict=not elsewhere)
    except RuntimeError as error:
        raise ArtifactError("weights do not fit the model", got=f"{path}: {error}") from error
    absent = [name for name in differing.missing_keys if not name.startswith(elsewhere)]
    if absent or differing.unexpected_keys:
        got = f"{path}: without {absent[:5]}, with {differing.unexpected_keys[:5]}"
        raise ArtifactError("weights do not fit the model", got=got)
