"""Settings under the names and with the values that earlier versions knew.

An old name goes on working for one version, in YAML and on the command line, with a warning. What
an earlier version wrote (a run, an artifact, a checkpoint) is read under today's names, so that a
run is continued and not begun anew.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf, open_dict

# Dotted name of the version before -> today's, of the same group.
RENAMED: dict[str, str] = {
    "simulation.gate": "simulation.fatigue",
    "training.actor_critic.leash_weight": "training.actor_critic.kl_coefficient",
}
# Settings that came later -> the value with which today's version does what the one before did,
# given the others of the group.
ADDED: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "training.options": lambda training: {},
    # Without a density there is nothing to keep the ranker's first choice from.
    "policy.support_keeps_ranker": lambda policy: bool(policy.get("support_density")),
    # Where there is one, it always constrained.
    "policy.support_evidence": lambda policy: None if policy.get("support_density") else 1.64,
}
_log = logging.getLogger(__name__)


def with_old_names(schema: type, group: str = "") -> DictConfig:
    """The structured config of `schema`, in which the old names are there, as None.

    Args:
        schema: of the whole configuration, or of one group.
        group: name of that group.
    """
    node = OmegaConf.structured(schema)
    for old in RENAMED:
        inside = _inside(old, group)
        if inside is not None:
            parent, name = _parent(node, inside)
            with open_dict(parent):
                parent[name] = None
    return node


def take_old_names(config: DictConfig) -> None:
    """Give values under old names to today's names, with a warning, and drop the old names."""
    for old, new in RENAMED.items():
        parent, name = _parent(config, old)
        if name not in parent:
            continue
        with open_dict(parent):
            value = parent.pop(name)
        if value is not None:
            _log.warning("%s is now called %s; the old name goes with the next version", old, new)
            OmegaConf.update(config, new, value)


def as_today(config: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved config as the version before wrote it, under today's names.

    Only what is there is renamed, and only groups that are there get what was added: an artifact
    holds some groups alone. The names are those of the whole config (`{"training": {...}}`).
    """
    found = copy.deepcopy(dict(config))
    for old, new in RENAMED.items():
        holder = _holder(found, old)
        name = old.rpartition(".")[2]
        if holder is not None and name in holder:
            holder.setdefault(new.rpartition(".")[2], holder.pop(name))
    for name, value_of in ADDED.items():
        holder = _holder(found, name)
        if holder is not None:
            holder.setdefault(name.rpartition(".")[2], value_of(holder))
    return found


def _inside(name: str, group: str) -> str | None:
    """`name` as seen from the group; None where it belongs to another."""
    if not group:
        return name
    return name.removeprefix(f"{group}.") if name.startswith(f"{group}.") else None


def _parent(config: DictConfig, name: str) -> tuple[DictConfig, str]:
    holder, _, last = name.rpartition(".")
    return (OmegaConf.select(config, holder) if holder else config), last


def _holder(config: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The mapping in which the setting `name` stands; None where its group is absent."""
    found: dict[str, Any] | None = config
    for part in name.split(".")[:-1]:
        inner = None if found is None else found.get(part)
        found = cast(dict[str, Any], inner) if isinstance(inner, dict) else None
    return found
