"""`recomind <stage> --help`: what each setting is, and its value after the overrides given."""

from __future__ import annotations

import dataclasses
import enum
import textwrap
import typing
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from recomind.cli.arguments import parser
from recomind.cli.comments import field_comments
from recomind.cli.usage import FLOW
from recomind.config import RecomindConfig, conf_dir

WIDTH, COLUMN = 100, 44
_PRESETS = ("experiment", "data", "world")


def settings_page(stage: str, config: DictConfig) -> str:
    """The help of a stage, at most 100 columns wide.

    Args:
        stage: as on the command line.
        config: composed; its values are shown.
    """
    return "\n".join(
        [
            f"recomind {stage}: {FLOW[stage]}",
            "",
            f"usage: recomind {stage} [key=value ...] [flags], in any order",
            "",
            "flags",
            *_flags(),
            "",
            "presets, and those of a folder conf/ here",
            *(f"  {group}={'|'.join(presets(group))}" for group in _PRESETS),
            "",
            "settings, with their values after the overrides given",
            *_settings(RecomindConfig, config),
        ]
    )


def presets(group: str) -> list[str]:
    """The packaged choices of a group, such as "world"."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def all_settings() -> dict[str, list[str]]:
    """Every setting by its full name, with its choices where they are few."""
    return {name: choices for name, _, choices in _walk(RecomindConfig)}


def _flags() -> Iterator[str]:
    for action in parser()._actions:
        if action.option_strings:
            values = "|".join(action.choices or []) or ("" if action.nargs == 0 else "...")
            yield from _row(f"{', '.join(action.option_strings)} {values}", str(action.help))


def _settings(schema: type, config: DictConfig) -> Iterator[str]:
    group = ""
    values = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    for name, comment, choices in _walk(schema):
        here = name.rpartition(".")[0]
        if here != group:
            group = here
            yield ""
            yield from textwrap.wrap(f"{group}: {_summary(schema, group)}", WIDTH)
        of = f" [{', '.join(choices)}]" if choices else ""
        yield from _row(f"{name}={_value(values, name)}", f"{comment}{of}")


def _walk(schema: type, prefix: str = "") -> Iterator[tuple[str, str, list[str]]]:
    """Name, comment and choices of every setting: those of a group first, then its groups."""
    comments, hints = field_comments(schema), typing.get_type_hints(schema)
    inner = {n: h for n, h in hints.items() if isinstance(h, type) and dataclasses.is_dataclass(h)}
    for field in dataclasses.fields(schema):
        if field.name not in inner:
            hint = hints[field.name]
            yield f"{prefix}{field.name}", comments[field.name], _choices(hint)
    for name, hint in inner.items():
        yield from _walk(hint, f"{prefix}{name}.")


def _choices(hint: Any) -> list[str]:
    is_enum = isinstance(hint, type) and issubclass(hint, enum.Enum)
    return [str(name) for name in hint.__members__] if is_enum else []


def _summary(schema: type, group: str) -> str:
    for name in group.split("."):
        schema = typing.get_type_hints(schema)[name]
    return (schema.__doc__ or "").split("\n")[0].rstrip(".")


def _value(values: Any, name: str) -> str:
    for key in name.split("."):
        values = values[key]
    text = str(values).lower() if isinstance(values, bool) else str(values)
    return textwrap.shorten(text, 60, placeholder=" ...")


def _row(left: str, right: str) -> Iterator[str]:
    """Two columns; the right one begins on the next line where the left one is too long."""
    lines = textwrap.wrap(right, WIDTH - COLUMN) or [""]
    head = f"  {left}"
    if len(head) >= COLUMN:
        yield head
    else:
        lines[0] = f"{head:<{COLUMN}}{lines[0]}".rstrip()
        yield lines.pop(0)
    yield from (" " * COLUMN + line for line in lines)
