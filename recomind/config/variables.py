"""Texts from the environment, which may be secrets: used in full, written down by reference."""

from __future__ import annotations

import dataclasses
import enum
import os
import re
from typing import Any

from omegaconf import DictConfig, OmegaConf


class FromEnvironment(str):
    """A text that holds what `${oc.env:...}` stood for; `plain` writes the reference down."""

    reference: str

    def __new__(cls, text: str, reference: str = "") -> FromEnvironment:
        """The text itself, which remembers what it was read from."""
        made = super().__new__(cls, text)
        made.reference = reference
        return made


def variables(config: DictConfig) -> dict[str, str]:
    """What the config takes from the environment, and how it refers to it; no secret is short."""
    names = re.findall(r"\boc\.env:\s*(\w+)", OmegaConf.to_yaml(config, resolve=False))
    values = {os.environ.get(name, ""): f"${{oc.env:{name}}}" for name in names}
    return {value: reference for value, reference in values.items() if len(value) >= 4}


def marked(value: Any, taken: dict[str, str]) -> Any:
    """`value`, with every text that holds a variable's made `FromEnvironment`."""
    if dataclasses.is_dataclass(value):
        for f in dataclasses.fields(value):
            setattr(value, f.name, marked(getattr(value, f.name), taken))
    elif isinstance(value, dict):
        return {key: marked(v, taken) for key, v in value.items()}
    elif isinstance(value, list):
        return [marked(v, taken) for v in value]
    elif isinstance(value, str):
        reference = value
        for text, name in taken.items():
            reference = reference.replace(text, name)
        return value if reference == value else FromEnvironment(value, reference)
    return value


def plain(value: Any) -> Any:
    """Dataclasses and enums as JSON-able values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, FromEnvironment):
        return value.reference
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value
