"""`run.json`: the config that a run's folder belongs to."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recomind.aliases import as_today
from recomind.artifacts import read_json, write_json
from recomind.config import RecomindConfig, plain, resolve
from recomind.errors import ArtifactError, ConfigError

RUN_FILE = "run.json"
_ABSENT = object()
FIDELITY_SETTINGS = ("fidelity_sessions", "fidelity_steps")  # no other artifact depends on these
_SEEDS = "seeds"  # of the gate: more may be trained beside the policy that is there
_NOT_IDENTITY = (  # may differ between commands on one folder
    "output",
    "round",
    "rounds",  # more may follow on those that are there
    "exit_unreleased",
    "ab",  # what came of a real test
    "backtest",  # how logs are looked at; no other artifact depends on it
    "export",  # forms of what is there already
    "serving",
)
# Rounds without a run file were left by stages that ran alone: the run goes on from them.
_OF_A_RUN = re.compile(r"\..*|round_\d+|main\.log|tensorboard|spill")


def claim(folder: Path, config: RecomindConfig) -> None:
    """Claim the existing folder for this config; raise if another run owns it.

    Raises:
        ConfigError: the folder belongs to a run of another config, or holds something else.
    """
    ours, path = _identity(plain(config)), folder / RUN_FILE
    if not path.is_file():
        _refuse_strangers(folder)
        return write_json(path, ours)
    theirs = with_later_settings(_identity(_settings(path)), json.loads(json.dumps(ours)))
    # Before any stage has finished, a first command that failed may be mended.
    if theirs != json.loads(json.dumps(ours)) and any(folder.glob("round_*/*")):
        raise ConfigError(
            "the output folder holds another run",
            got=f"{folder}, which differs in {_differing(ours, theirs)}",
            mend="choose another folder with output=..., or remove this one",
        )
    write_json(path, ours)


def read_config(folder: Path, allowed_targets: Sequence[str] = ()) -> RecomindConfig:
    """The config that `run.json` holds, for as many rounds as have left a policy.

    Args:
        folder: of the run.
        allowed_targets: prefixes of `_target_` beyond recomind's own. What the file says of them
            is ignored: a folder does not decide which code is imported.

    Raises:
        ArtifactError: no run file, or one that is unreadable or of another version.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        raise ArtifactError(
            "no run here", got=folder, expected=f"a folder with {RUN_FILE}", mend="run it first"
        )
    rounds = len(list(folder.glob("round_*/policy")))
    given = {
        "output": str(folder),
        "rounds": max(1, rounds),
        "allowed_targets": list(allowed_targets),
    }
    try:
        found = OmegaConf.create(_settings(path) | given)
        schema = OmegaConf.structured(RecomindConfig)
        schema.ranker.utility_weights = schema.gate.tolerances = {}  # the file has all of them
        return resolve(OmegaConf.merge(schema, found))  # pyright: ignore[reportArgumentType]
    except (ValueError, TypeError, OmegaConfBaseException, ConfigError) as error:
        raise ArtifactError(
            "unreadable run file",
            got=f"{path}: {str(error).splitlines()[0]}",
            mend="write the run anew with this version",
        ) from error


def with_later_settings(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """`theirs` with the settings that a later version brought, where ours are at their default."""
    defaults = json.loads(json.dumps(plain(RecomindConfig(world={"_target_": ""}))))
    return _filled(theirs, ours, defaults)


def _filled(theirs: dict[str, Any], ours: dict[str, Any], defaults: dict[str, Any]) -> Any:
    later = {k: ours[k] for k in ours if k not in theirs and ours[k] == defaults.get(k, _ABSENT)}
    return later | {k: _inside(v, ours.get(k), defaults.get(k)) for k, v in theirs.items()}


def _inside(theirs: Any, ours: Any, defaults: Any) -> Any:
    if isinstance(theirs, dict) and isinstance(ours, dict) and isinstance(defaults, dict):
        mine, other = cast(dict[str, Any], ours), cast(dict[str, Any], theirs)
        return _filled(other, mine, cast(dict[str, Any], defaults))
    return cast(Any, theirs)


def _settings(path: Path) -> dict[str, Any]:
    mend = "remove it: what the stages have written is judged by its own manifests"
    found = read_json(path, RUN_FILE, mend)
    if not isinstance(found, dict):
        raise ArtifactError(f"unreadable {RUN_FILE}", got=path, expected="settings", mend=mend)
    return as_today(cast(dict[str, Any], found))


def _identity(config: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in config.items() if name not in _NOT_IDENTITY}
    if isinstance(kept.get("evaluation"), dict):
        settings = kept["evaluation"].items()
        kept["evaluation"] = {k: v for k, v in settings if k not in FIDELITY_SETTINGS}
    if isinstance(kept.get("gate"), dict):
        kept["gate"] = {k: v for k, v in kept["gate"].items() if k != _SEEDS}
    return kept


def _refuse_strangers(folder: Path) -> None:
    strangers = [path.name for path in folder.iterdir() if not _OF_A_RUN.fullmatch(path.name)]
    if strangers:
        raise ConfigError(
            "the output folder holds something that is not a run",
            got=f"{folder} with {sorted(strangers)[:5]}",
            mend="choose another folder with output=...",
        )


def _differing(ours: dict[str, Any], theirs: dict[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for key in sorted(set(ours) | set(theirs)):
        mine, other = ours.get(key), theirs.get(key)
        if isinstance(mine, dict) and isinstance(other, dict):
            inner = cast(dict[str, Any], mine), cast(dict[str, Any], other)
            names += _differing(*inner, f"{prefix}{key}.")
        elif mine != other:
            names.append(f"{prefix}{key}")
    return names[:6]
