"""`gate.seeds` on a finished run: further policies, all judged, and the first one released."""

from __future__ import annotations

from pathlib import Path

import pytest

from recomind.artifacts import load_tensors, read_manifest
from recomind.pipeline.run_file import read_config
from tests.flow.commands import MICRO, NOT_RELEASED, read_report
from tests.flow.in_process import Command

THREE = (*MICRO, "gate.seeds=3")
TARGET = "watch_10s_per_session"


@pytest.mark.slow
def test_further_seeds_are_trained_judged_and_never_chosen(command: Command, folder: Path) -> None:
    at, before, first = f"hydra.run.dir={folder}", read_report(folder), folder / "round_0"
    identity = read_manifest(first / "policy").identity
    outcome = command("run", *THREE, at)
    assert outcome.status in (0, NOT_RELEASED), outcome.err
    assert outcome.err.count("train-seeds: done") == 2
    assert "train-policy: kept from before" in outcome.err
    seeds = {read_manifest(each).seed for each in first.glob("policy*")}
    weights = [load_tensors(each / "policy.safetensors") for each in sorted(first.glob("policy*"))]
    assert len(seeds) == len(weights) == 3
    assert any(not weights[0][name].equal(weights[1][name]) for name in weights[0])
    assert not list(first.glob("checkpoints_*"))
    report = read_report(folder)
    assert report["gate"]["policy_identity"] == identity
    for entry, old in zip(report["environments"], before["environments"], strict=True):
        if entry["kind"] == "logs":
            continue
        assert list(entry["seed_lift"]) == ["policy", "policy_seed_2", "policy_seed_3"]
        assert entry["seed_lift"]["policy"] == entry["lift"] == old["lift"]
        assert {"policy_seed_2", "policy_seed_3"} <= set(entry["arms"])
        values = [table[TARGET]["value"] for table in entry["seed_lift"].values()]
        assert entry["over_seeds"][TARGET]["value"] == pytest.approx(sum(values) / 3)
    assert any("over 3 seeds of training" in reason for reason in report["gate"]["reasons"])
    page = (folder / "report/report.html").read_text()
    assert "target of policy_seed_3" in page
    assert "target, mean of 3 seeds" in page
    # The same question again makes nothing anew; fewer seeds are a report of what is there.
    again = command("run", *THREE, at).err
    assert again.count("train-seeds: kept from before") == 2
    assert "done in" not in again
    assert read_config(folder).gate.seeds == 1
    assert command("run", *MICRO, at).status in (0, NOT_RELEASED)
    assert read_report(folder) == before


def test_a_policy_with_an_index_of_its_own_has_one_seed(command: Command, folder: Path) -> None:
    outcome = command("evaluate", *THREE, f"hydra.run.dir={folder}", "distil.num_states=8")
    assert outcome.status == 2
    assert "got: gate.seeds=3, distil.num_states=8" in outcome.err
