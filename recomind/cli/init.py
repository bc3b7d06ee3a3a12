"""`recomind init NAME --log ...`: a config for logs of your own, a ranker's stub and a test."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from recomind.data.guess import Guess, Guesses, guess_all
from recomind.data.guess_text import yaml_list, yaml_text
from recomind.errors import ConfigError, RecomindError


def main(arguments: Sequence[str]) -> int:
    """Write the three files; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="recomind init", description="Look at your files and write a config that reads them."
    )
    parser.add_argument("name", help="of the experiment, such as my-feed")
    parser.add_argument("--log", required=True, help="file, folder or pattern of the log")
    parser.add_argument("--items", default="", help="the table of items")
    parser.add_argument("--users", default="", help="the table of users")
    parser.add_argument("--folder", default=".", help="where to write (default: here)")
    given = parser.parse_args(arguments)
    try:
        written = write_project(
            Path(given.folder), given.name, log=given.log, items=given.items, users=given.users
        )
    except RecomindError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in written:
        print(f"wrote {path}")
    print(
        f"check the lines marked 'guess' in {written[0]}, then\n"
        f"  recomind describe-data experiment={given.name}\n"
        f"  recomind run experiment={given.name} size=tiny"
    )
    return 0


def write_project(folder: Path, name: str, *, log: str, items: str, users: str) -> list[Path]:
    """Guess, and write config, stub and test; nothing that exists is overwritten.

    Raises:
        ConfigError: a name that is none, a file that exists, or columns that tell nothing.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise ConfigError("not a name", got=repr(name), expected="letters, digits, - and _")
    package = name.replace("-", "_")
    found = guess_all(log, items, users)
    texts = {
        folder / "conf" / "experiment" / f"{name}.yaml": _config(
            name, found, {"log": log, "items": items, "users": users}
        ),
        folder / f"{package}_ranker.py": _STUB.format(package=package, task=found.reward),
        folder / f"test_{package}.py": _TEST.format(name=name, package=package),
    }
    for path in texts:
        if path.exists():
            raise ConfigError("a file is there already", got=path, mend="remove it, or rename it")
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(texts)


def _config(name: str, found: Guesses, paths: dict[str, str]) -> str:
    lines = [
        "# @package _global_",
        f"# recomind run experiment={name}",
        "# Lines marked 'guess' were told from names, types and values: check them.",
        "defaults:",
        "  - override /data: table",
        "",
        f"name: {name}",
        "data:",
        "  log:",
        f"    path: {yaml_text(paths['log'])}",
        *_entries(found.log, 4),
        "  tasks: # 0/1 responses: columns, or SQL",
        *_entries(found.tasks, 4),
    ]
    if found.unwanted:
        lines.append(f"  unwanted: {yaml_list(found.unwanted)} # guess: by their names")
    if found.context:
        lines.append(f"  context: {yaml_list(found.context)} # guess: known before the choice?")
    for kind, entries in (("items", found.items), ("users", found.users)):
        if entries:
            lines += [f"  {kind}:", f"    path: {yaml_text(paths[kind])}", *_entries(entries, 4)]
    if found.session is not None:
        lines.append(
            f"  sessions: {{column: {yaml_text(found.session.value)}}} # guess: {found.session.why}"
        )
    else:
        lines.append("  sessions: {gap: 30m} # a longer silence ends a session")
    by = ["user", "item", *map(yaml_text, found.context[:1])]
    pairs = [f"[user, {yaml_text(context)}]" for context in found.context[:1]]
    lines += [
        f"  rates: {{of: [{yaml_text(found.reward)}], by: [{', '.join(by + pairs)}]}}",
        "reward:",
        f"  {yaml_text(found.reward)}: 1.0 # guess: what is a session worth?",
        "# To keep your own ranker, see the stub beside conf/ and docs/bring-your-own-ranker.md.",
        "",
    ]
    return "\n".join(lines)


def _entries(entries: dict[str, Guess], indent: int) -> list[str]:
    return [
        f"{' ' * indent}{yaml_text(name)}: {_value(guess.value)} # guess: {guess.why}"
        for name, guess in entries.items()
    ]


def _value(value: str) -> str:
    """A value as YAML; lists and shares stand as they are."""
    return value if re.match(r"\[|0\.|1\.", value) else yaml_text(value)


_STUB = '''"""Your ranker: `inputs` makes of our rows what your model takes.

In the experiment's YAML:

    allowed_targets: [{package}_ranker]
    ranker:
      external:
        kind: torch
        path: model.safetensors
        factory: {package}_ranker.model
        inputs: {package}_ranker.inputs
        tasks: [{task}]
        output: logits
"""

import torch
from torch import Tensor, nn

from recomind.adapters import RowBatch


def inputs(rows: RowBatch) -> Tensor:
    """[R, U + F]: user features and the candidate's numbers; add what your model reads."""
    return torch.cat([rows.state.user_features, rows.items.dense], dim=1)


def model() -> nn.Module:
    """Your architecture, whose weights `path` holds; its output is [R, 1], one column a task."""
    return nn.Linear(40, 1)  # as many inputs as `inputs` gives
'''

_TEST = '''"""The config of {name} composes, and its logs can be read."""

from pathlib import Path

from hydra import compose, initialize_config_dir

from recomind.config import conf_dir, register, resolve
from recomind.data import make_source


def test_the_logs_can_be_read() -> None:
    register()
    search = f"hydra.searchpath=[file://{{Path('conf').absolute()}}]"
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = resolve(compose("base", [search, "experiment={name}", "output=out"]))
    logs = make_source(config.data).read()
    assert logs.frame.lazy().head(1).collect().height == 1
    assert logs.catalogue.num_items > 0
'''
