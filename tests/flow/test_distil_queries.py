"""Queries distilled from a run's policy, and who chooses from their index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.flow.commands import MICRO, NOT_RELEASED, read_report
from tests.flow.in_process import Command

DISTIL = ("distil.num_states=400", "distil.num_epochs=4", "distil.num_recall_states=40")


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def policy_and_ranker(folder: Path) -> tuple[list[Any], list[Any]]:
    """What the two arms came to in each environment."""
    arms = [entry["arms"] for entry in read_report(folder)["environments"]]
    return [each["policy"] for each in arms], [each["ranker"] for each in arms]


def test_the_policy_chooses_from_the_distilled_index(command: Command, folder: Path) -> None:
    at = f"hydra.run.dir={folder}"
    policy_before, ranker_before = policy_and_ranker(folder)
    outcome = command("distil-queries", *MICRO, at, *DISTIL)
    assert outcome.status == 0, outcome.err
    assert "distil-queries: done" in outcome.err
    made = manifest(folder / "round_0" / "query_index")
    metrics, files = made["metrics"], made["files"]
    assert metrics["value_recall@32"] > metrics["value_recall@32_before"]
    assert "round_0/policy" in made["inputs"]
    index = manifest(folder / "round_0" / "index")["files"]["index.faiss"]
    assert files["index.faiss"] == index, "only the query changes"

    outcome = command("evaluate", *MICRO, at, *DISTIL)
    assert outcome.status in (0, NOT_RELEASED), outcome.err
    assert "round_0/query_index" in manifest(folder / "report")["inputs"]
    policy_after, ranker_after = policy_and_ranker(folder)
    assert ranker_after == ranker_before
    assert policy_after != policy_before

    outcome = command("distil-queries", *MICRO, at, *DISTIL)
    assert outcome.err.splitlines() == ["distil-queries: kept from before"]


def test_a_stage_without_states_says_what_to_set(command: Command, folder: Path) -> None:
    outcome = command("distil-queries", *MICRO, f"hydra.run.dir={folder}")
    assert outcome.status == 2
    assert "got: distil.num_states=0; to mend: raise distil.num_states" in outcome.err
    assert not (folder / "round_0" / "query_index").exists()
