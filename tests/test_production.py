"""docs/production.md works: from an export to a service, to logs, to the next round."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recomind.artifacts import read_manifest
from recomind.data.sources.served.decisions import read_decisions
from tests.serving.processes import free_port
from tests.test_bring_your_own import carry_out

PAGE = Path(__file__).parents[1] / "docs" / "production.md"


@pytest.mark.page
@pytest.mark.slow
def test_the_page_leads_from_an_export_to_the_next_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", str(free_port()))
    monkeypatch.setenv("PYTHONPATH", str(PAGE.parents[1]))
    said = carry_out(PAGE.read_text(), tmp_path)
    (seen,) = [int(line.split()[0]) for line in said.splitlines() if "decisions were seen" in line]
    logged = read_decisions(tmp_path / "decisions")
    assert logged.height == seen + 1  # the one that curl asked for was shown to nobody
    facts = read_manifest(tmp_path / "runs/next/round_0/sessions").extra
    assert facts["num_decisions"] == seen + 1
    assert facts["num_joined"] == seen - seen // 20
    assert f"window 1: decisions {seen + 1}" in said
    explored = logged["explored"].sum()
    assert explored > 0
    assert f'recomind_rows_total{{kind="explored"}} {float(explored)}' in said
    report = json.loads((tmp_path / "runs/next/report/report.json").read_text())
    assert report["step0_parity"]["max_rank_difference"] == 0
    # What was served is the baseline; the rankers are to be beaten beside it.
    assert report["baseline_arm"] == "served_policy"
    for entry in report["environments"]:
        if entry["kind"] == "logs":
            continue
        assert {"ranker", "first_ranker"} <= set(entry["lift_over"])
        means = {arm: entry["arms"][arm]["reward_per_session"]["mean"] for arm in report["arms"]}
        assert entry["lift"]["reward_per_session"]["value"] == pytest.approx(
            means["policy"] / means["served_policy"] - 1
        )
    # The service logged propensities: its own held-out sessions may veto.
    (logs,) = [entry for entry in report["environments"] if entry["kind"] == "logs"]
    assert logs["propensities"] == "logged"
    assert {"policy", "served_policy"} <= set(logs["ope"])
    sessions = read_manifest(tmp_path / "runs/next/round_0/ranker").inputs
    assert set(sessions) == {"round_0/sessions"}  # the ranker is refit on the new logs by default
    simulated = read_manifest(tmp_path / "runs/next/round_0/simulator").inputs
    assert {"round_0/sessions", "continued/round_0/sessions"} <= set(simulated)
    inputs = read_manifest(tmp_path / "runs/next/export").inputs
    assert any(name.endswith("/policy") for name in inputs)
