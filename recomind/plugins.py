"""Dotted names in a config or an artifact, turned into objects: only below trusted prefixes.

Trust is the operator's: the list is what this project ships plus what the environment variable
`RECOMIND_ALLOWED_TARGETS` names (comma-separated), which child processes inherit. A name that
comes out of an artifact goes through the same list, and no artifact can add to it.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sysconfig
import traceback
from collections.abc import Iterable
from typing import Any

from recomind.errors import ConfigError

VARIABLE = "RECOMIND_ALLOWED_TARGETS"
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
_SHIPPED = ("recomind.", "simulators.")


def allowed_prefixes(also: Iterable[str] = ()) -> tuple[str, ...]:
    """The packages that may be imported by name, each ending in a dot.

    >>> allowed_prefixes(["shop"])[-1]
    'shop.'
    """
    named = [*os.environ.get(VARIABLE, "").split(","), *also]
    # A whole package or nothing: "shop" must not admit "shopping_cart_of_others".
    packages = [f"{part}." for name in named if (part := name.strip().rstrip("."))]
    return tuple(dict.fromkeys([*_SHIPPED, *packages]))


def allow(prefixes: Iterable[str]) -> None:
    """Add `prefixes` to the list of this process and of the processes that it starts."""
    extra = [p for p in allowed_prefixes(prefixes) if p not in _SHIPPED]
    if extra:
        os.environ[VARIABLE] = ",".join(extra)


def resolve(name: str, *, setting: str, also: Iterable[str] = ()) -> Any:
    """The object that the dotted `name` stands for.

    Both the name and the module where the object was defined must lie below an allowed prefix:
    a trusted module's own imports (`os`, `subprocess`) are not on offer.

    Args:
        name: such as "shop.features.inputs".
        setting: where the name was given, for the error.
        also: prefixes allowed for this name only, beside those of `allowed_prefixes`.

    Raises:
        ConfigError: outside the allowed prefixes, or it cannot be imported.
    """
    prefixes = allowed_prefixes(also)
    if not name.startswith(prefixes):
        raise _outside(name or f"no {setting.rpartition('.')[2]}", setting, prefixes)
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise ConfigError(
            f"{setting} cannot be imported",
            got=f"{name}: {error}",
            mend="check the name; its package must be installed or on PYTHONPATH",
        ) from error
    home = found.__name__ if inspect.ismodule(found) else _home(found)
    if not f"{home}.".startswith(prefixes):
        raise _outside(f"{name}, defined in {home}", setting, prefixes)
    return found


def users_error(what: str, error: Exception) -> ConfigError:
    """What to raise where code that a config names has failed: the error, with file and line."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if not f.filename.startswith(_LIBRARIES)] or list(frames)
    place = f" ({theirs[-1].filename}:{theirs[-1].lineno})" if theirs else ""
    said = " ".join(str(error).split())[:120]
    return ConfigError(f"{what}: {type(error).__name__}: {said}{place}", mend="mend it there")


def _home(found: object) -> str:
    """Where a function, a class, or the class of anything else was defined."""
    return getattr(found, "__module__", None) or type(found).__module__


def _outside(got: str, setting: str, prefixes: tuple[str, ...]) -> ConfigError:
    return ConfigError(
        f"{setting} is outside the allowed prefixes",
        got=got,
        expected=list(prefixes),
        mend=f"add your package to allowed_targets, or to the environment variable {VARIABLE}",
    )
