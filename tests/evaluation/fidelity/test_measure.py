"""The whole report on a small log, its page, and the policies it ranks."""

from __future__ import annotations

import json
import math

import pytest
import torch

from recomind.artifacts import Manifest
from recomind.candidates import CandidatePool, CandidatesConfig
from recomind.errors import ArtifactError
from recomind.evaluation.fidelity import (
    TrueWorld,
    measure_fidelity,
    rank_agreement,
    read_fidelity,
    reference_policies,
    render_page,
    write_fidelity,
)
from recomind.evaluation.fidelity.absent import is_absent
from recomind.evaluation.fidelity.measure import AGREEMENTS
from recomind.policy import RandomPolicy
from recomind.streams import SessionStreams, make_generator
from recomind.types import CandidateSource
from tests.simulation import tiny


@pytest.fixture(scope="session")
def policies(dataset):
    rankers = [tiny.tiny_ranker(0), tiny.tiny_ranker(1)]
    return reference_policies(
        rankers,
        tiny.WEIGHTS,
        dataset,
        dataset.rows("train"),
        world=tiny.tiny_world(),
        previous=RandomPolicy(),
    )


def wide_pool() -> CandidatePool:
    config = CandidatesConfig(num_candidates=48, num_nearest=0, num_fresh=0)
    return CandidatePool(config, tiny.tiny_pool().num_items)


@pytest.fixture(scope="session")
def fidelity(folders, dataset, policies):
    from recomind.simulation import load_holdout, load_simulator

    simulators = {
        "simulator": load_simulator(folders[1], folders[0], tiny.WEIGHTS),
        "holdout_simulator": load_holdout(folders[2], tiny.WEIGHTS),
    }
    few = {name: policies[name] for name in ("reversed_ranker", "random", "ranker", "logging")}
    pools: dict[str, CandidateSource] = dict(
        zip(AGREEMENTS, (tiny.tiny_pool(), wide_pool()), strict=True)
    )
    truth = TrueWorld(world=tiny.tiny_world(), policies=few, pools=pools)
    return measure_fidelity(simulators, dataset, num_sessions=60, seed=1, truth=truth)


def numbers(value):
    if isinstance(value, dict):
        return [n for each in value.values() for n in numbers(each)]
    if isinstance(value, list):
        return [n for each in value for n in numbers(each)]
    return [value] if isinstance(value, float) else []


def test_every_section_is_there_for_both_simulators(fidelity):
    assert list(fidelity["simulators"]) == ["simulator", "holdout_simulator"]
    for entry in fidelity["simulators"].values():
        assert set(entry) == {
            "responses",
            "leaving",
            "exploring",
            "confounding",
            "sessions",
            *AGREEMENTS,
        }
        assert set(entry["sessions"]) == {"n", "length", "dwell", "by_position", "two_sample"}
        assert entry["sessions"]["n"] == 60
        assert not is_absent(entry["responses"])
    assert len(numbers(fidelity)) > 100
    assert all(map(math.isfinite, numbers(fidelity)))
    json.dumps(fidelity, allow_nan=False)


def test_each_agreement_is_of_its_own_pools(fidelity, policies):
    found = [fidelity["simulators"]["simulator"][name] for name in AGREEMENTS]
    assert found[0]["true"] != found[1]["true"]
    for section, pool in zip(found, (tiny.tiny_pool(), wide_pool()), strict=True):
        again = rank_agreement(
            {name: policies[name] for name in section["policies"]},
            tiny.tiny_world(),
            tiny.tiny_world(),
            pool,
            num_sessions=section["n"],
            generator=make_generator(2),
        )
        assert section["true"] == again["true"]


def test_response_figures_are_of_the_test_days(fidelity, dataset):
    rows = dataset.rows("test", holdout=False)
    found = fidelity["simulators"]["simulator"]["responses"]["watch_10s"]
    assert found["n"] == len(rows)
    assert found["rate"] == pytest.approx(float(dataset.labels(rows)[:, 0].mean()))
    assert len(found["mean"]["bins"]) == 10
    assert found["sampled"]["average"] < found["mean"]["average"]


def test_sessions_are_left_out_where_steps_are_few_and_progress_is_told(folders, dataset, policies):
    from recomind.simulation import load_holdout

    holdout, told = load_holdout(folders[2], tiny.WEIGHTS), []
    world, few = tiny.tiny_world(), {name: policies[name] for name in ("random", "ranker")}
    found = measure_fidelity(
        {"holdout_simulator": holdout},
        dataset,
        num_sessions=60,
        num_steps=20 * holdout.horizon,
        seed=1,
        truth=TrueWorld(world=world, policies=few, pools={AGREEMENTS[0]: tiny.tiny_pool()}),
        progress=lambda done, total, note: told.append((done, total, note)),
    )["simulators"]["holdout_simulator"]
    assert found["sessions"]["n"] == 20
    assert found["rank_agreement"]["n"] == 20 * holdout.horizon // 2 // world.horizon
    assert [done for done, _, _ in told] == [1, 2, 3, 4, 5, 6]
    assert {total for _, total, _ in told} == {6}
    assert told[0][2] == "(world, rank_agreement)"


def test_the_same_seed_gives_the_same_report(fidelity, folders, dataset):
    from recomind.simulation import load_holdout

    again = measure_fidelity(
        {"holdout_simulator": load_holdout(folders[2], tiny.WEIGHTS)},
        dataset,
        num_sessions=60,
        seed=1,
    )
    ours, theirs = again["simulators"]["holdout_simulator"], fidelity["simulators"]
    assert ours["sessions"] == theirs["holdout_simulator"]["sessions"]
    assert ours["rank_agreement"] == {"value": None, "reason": "no world to compare with"}


def test_without_later_days_everything_says_why(folders, dataset, monkeypatch):
    from recomind.simulation import load_holdout

    monkeypatch.setattr(type(dataset), "rows", lambda *a, **k: torch.zeros(0, dtype=torch.int64))
    holdout = {"holdout_simulator": load_holdout(folders[2], tiny.WEIGHTS)}
    found = measure_fidelity(holdout, dataset, num_sessions=60, seed=1)
    sections = found["simulators"]["holdout_simulator"]
    assert all(is_absent(section) for section in sections.values())
    assert sections["confounding"]["raised"] is False
    page = render_page(found)
    assert "Not to be had" in page
    assert "Confounding was not tested" in page
    assert 'verdict untested"' in page
    assert 'verdict yes"' not in page, "an alarm that was not tested is no good news"


def test_the_page_shows_what_was_measured(fidelity):
    page = render_page(fidelity)
    for words in ("Training simulator", "Hold-out simulator", "Survival", "Kendall", "<svg"):
        assert words in page
    assert "http" not in page
    assert page == render_page(json.loads(json.dumps(fidelity)))


def test_a_raised_alarm_is_the_first_thing_on_the_page(fidelity):
    raised = json.loads(json.dumps(fidelity))
    raised["simulators"]["simulator"]["confounding"] = {"raised": True, "reason": "it <knows>"}
    assert "Confounded logs" in render_page(raised)
    assert "it &lt;knows&gt;" in render_page(raised)


def test_what_was_written_is_read_back(fidelity, tmp_path):
    write_fidelity(tmp_path / "fidelity", fidelity, Manifest(kind=""))
    assert read_fidelity(tmp_path / "fidelity") == json.loads(json.dumps(fidelity))
    assert (tmp_path / "fidelity" / "fidelity.html").read_text() == render_page(fidelity)
    (tmp_path / "fidelity" / "fidelity.json").write_text("{}")
    with pytest.raises(ArtifactError, match="damaged"):
        read_fidelity(tmp_path / "fidelity")


def test_there_are_policies_of_every_quality(policies):
    assert len(policies) >= 8
    assert {"random", "ranker", "ranker_ensemble", "reversed_ranker", "logging", "previous"} < set(
        policies
    )


def choices(policy, state, pool):
    streams = SessionStreams(torch.arange(len(state)))
    candidates = pool.candidates(state, streams)
    return candidates, policy.act(state, candidates, streams.uniform(state.step, 4, 2))


def test_reversed_is_the_rankers_last_and_mixtures_choose_it_less_often(policies, dataset):
    state = dataset.state(dataset.session_starts("train"))
    best = choices(policies["ranker"], state, tiny.tiny_pool())[1].item_id
    candidates, worst = choices(policies["reversed_ranker"], state, tiny.tiny_pool())
    scores = policies["ranker"].scores(state, candidates.item_id)
    scores = scores.masked_fill(~candidates.mask, torch.inf)
    assert torch.equal(scores.gather(1, worst.slot[:, None])[:, 0], scores.amin(1))
    agrees = [
        (choices(policies[f"ranker_{n}_random"], state, tiny.tiny_pool())[1].item_id == best)
        .float()
        .mean()
        for n in (25, 50, 75)
    ]
    assert [round(float(a), 1) for a in agrees] == pytest.approx([0.75, 0.5, 0.25], abs=0.15)


def test_item_means_are_counted_and_smoothed(policies, dataset):
    rows = dataset.rows("train")
    reward = dataset.labels(rows) @ torch.tensor([1.0, 0.0, 0.0, -2.0])
    item = int(dataset.item_id(rows).mode().values)
    mine = dataset.item_id(rows) == item
    wanted = (reward[mine].sum() + 20 * reward.mean()) / (mine.sum() + 20)
    policy = policies["item_mean"]
    state = dataset.state(rows[:1])
    candidates, _ = choices(policy, state, tiny.tiny_pool())
    candidates.item_id[0, 0] = item
    assert policy.scored(state, candidates)[0][0, 0] == pytest.approx(float(wanted), rel=1e-4)


def test_a_world_agrees_with_itself(policies):
    few = {name: policies[name] for name in ("reversed_ranker", "random", "logging")}
    found = rank_agreement(
        few,
        tiny.tiny_world(),
        tiny.tiny_world(),
        tiny.tiny_pool(),
        num_sessions=30,
        generator=make_generator(0),
    )
    assert found["kendall_tau"] == 1.0
    assert found["simulated"] == found["true"]
    assert is_absent(
        rank_agreement(
            few,
            tiny.tiny_world(),
            None,
            tiny.tiny_pool(),
            num_sessions=3,
            generator=make_generator(0),
        )
    )
