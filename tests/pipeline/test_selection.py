"""Whether a further round is expected to be worth its time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from recomind.pipeline import Round
from recomind.pipeline.selection import another_may_pay


def last(*, is_first: bool = False, world: bool = True) -> Round:
    config = SimpleNamespace(world={"_target_": "simulators.W"} if world else {})
    return cast(Round, SimpleNamespace(is_first=is_first, config=config))


def judged(*values: float, error: float = 0.1) -> list[dict[str, Any]]:
    return [{"value": value, "standard_error": error} for value in values]


def test_after_the_first_one_it_is() -> None:
    assert another_may_pay([], last(is_first=True))


@pytest.mark.parametrize(
    ("values", "pays"),
    [((4.0, 4.3), True), ((4.0, 4.05), False), ((4.0, 3.0), True), ((3.0, 4.0, 4.0), False)],
)
def test_later_ones_must_have_changed_something(values: tuple[float, ...], pays: bool) -> None:
    assert another_may_pay(judged(*values), last()) is pays


def test_nothing_is_said_where_rounds_were_not_judged() -> None:
    assert not another_may_pay([], last())


def test_without_a_world_fresh_logs_are_no_rounds() -> None:
    assert not another_may_pay(judged(1.0, 2.0), last(world=False))
    assert not another_may_pay([], last(is_first=True, world=False))
