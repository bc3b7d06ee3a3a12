"""Which round's policy a run keeps, by what `select-round` found of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recomind.artifacts import read_json
from recomind.config import KeepRound
from recomind.evaluation.config import POLICY, SEED_ARM
from recomind.pipeline.run import Round

SELECTION = "selection.json"
Judged = Sequence[Mapping[str, Any]]  # `selection.json` of each round


def chooses(last: Round) -> bool:
    """Whether one of the rounds up to `last` is chosen: by the world, where there is one."""
    is_judged = bool(last.config.world) and last.config.keep is KeepRound.best
    return not last.is_first and is_judged


def judged_rounds(last: Round) -> list[dict[str, Any]]:
    """`selection.json` of every round up to `last`; none where the last one is kept anyway."""
    if not chooses(last):
        return []
    paths = [each.path("selection") / SELECTION for each in last.so_far]
    return [read_json(path, "selection") for path in paths]


def kept_round(judged: Judged, last: Round) -> Round:
    """The round whose policy is kept; ties go to the latest one, which saw more logs."""
    if not judged:
        return last
    best = max(judged, key=lambda each: (each["value"], each["round"]))
    return last.run.round(best["round"])


def another_may_pay(judged: Judged, last: Round) -> bool:
    """Whether a further round of fresh logs is expected to be worth its time. Ours.

    Only in a world, which gives fresh logs for nothing. The first round learned from another
    policy's logs. A later one has to differ from the round before it by more than the standard
    error of its own value: better, and there is more to win; worse, and its simulator misled it,
    which the logs of its policy show to the next one.
    """
    if not last.config.world:
        return False
    if last.is_first:
        return True
    values = [(each["value"], each["standard_error"]) for each in judged[-2:]]
    return len(values) == 2 and abs(values[1][0] - values[0][0]) > values[1][1]


def seed_policies(kept: Round) -> list[str]:
    """Folders of the kept round's policies from further seeds, which are their arms' names too."""
    if kept.config.evaluation.policy_arm != POLICY:
        return []
    return [SEED_ARM.format(number) for number in kept.config.gate.further_seeds]
