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


def seed_policies(kept: Round) -> list[str]:
    """Folders of the kept round's policies from further seeds, which are their arms' names too."""
    if kept.config.evaluation.policy_arm != POLICY:
        return []
    return [SEED_ARM.format(number) for number in kept.config.gate.further_seeds]
