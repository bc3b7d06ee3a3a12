"""`--help` says what each setting is, and its value."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pytest

from recomind.cli.comments import field_comments
from recomind.cli.settings import WIDTH, all_settings
from recomind.config import RecomindConfig
from recomind.serving.shards.config import ShardsConfig
from tests.flow.in_process import Command


@dataclass(kw_only=True)
class Sample:
    """A config whose comments stand in every place that is read."""

    here: int = 1  # beside
    longer: str = "# no comment"  # beside,
    # and on a line below
    # above, on two
    # lines
    below: int = 2
    nothing: int = 3
    many: tuple[int, ...] = (
        1,
        2,
    )  # after the last line
    # and its end


def test_comments_are_found_where_they_stand() -> None:
    assert field_comments(Sample) == {
        "here": "beside",
        "longer": "beside,",
        "below": "and on a line below above, on two lines",
        "nothing": "",
        "many": "after the last line and its end",
    }


def configs(schema: type) -> list[type]:
    defaults = [field.default_factory for field in dataclasses.fields(schema)]
    inner = [kind for kind in defaults if dataclasses.is_dataclass(kind)]
    return [schema, *(deeper for kind in inner for deeper in configs(kind))]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "schema", [*configs(RecomindConfig), ShardsConfig], ids=lambda s: s.__name__
)
def test_every_setting_has_a_comment(schema: type) -> None:
    comments = field_comments(schema)
    assert set(comments) == {field.name for field in dataclasses.fields(schema)}
    groups = {
        f.name for f in dataclasses.fields(schema) if dataclasses.is_dataclass(f.default_factory)
    }
    assert [name for name, comment in comments.items() if not comment and name not in groups] == []


def test_help_shows_every_setting_and_its_value(command: Command) -> None:
    outcome = command("train-policy", "--help", "experiment=tiny", "training.gamma=0.5")
    assert outcome.status == 0, outcome.err
    lines = outcome.out.splitlines()
    assert max(map(len, lines)) <= WIDTH
    settings = lines[lines.index("settings, with their values after the overrides given") :]
    for name in all_settings():
        assert sum(line.strip().startswith(f"{name}=") for line in settings) == 1, name
    (gamma,) = (line for line in lines if "training.gamma=" in line)
    assert gamma.split(maxsplit=1) == ["training.gamma=0.5", "discount per event, in [0, 1)"]
    assert "  data=" in outcome.out
    assert outcome.err == ""
