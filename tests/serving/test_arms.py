"""Who answers: sticky shares of users, and the ranker where the policy errs or is late."""

from __future__ import annotations

import json
import threading
import time

import pytest
import torch

from recomind.candidates import ExplorationConfig
from recomind.data.sources.served.decisions import read_decisions
from recomind.errors import ConfigError
from recomind.serving import RankingEngine, ServingConfig
from recomind.serving.decisions import DecisionLog
from recomind.serving.http import Asked, respond_all
from tests.serving.test_request import GOOD

WIDE = GOOD | {"item_ids": list(range(12))}


def engine_with(engine, log=None, **settings) -> RankingEngine:
    exploration = ExplorationConfig(epsilon=0.9, subset_size=2)
    config = ServingConfig(exploration=exploration, max_batch_size=1000, **settings)
    return RankingEngine(engine.scorer, config, engine.pool, engine.identity, log)


def recommend(engine, **changes):
    status, answer = respond_all(
        engine, [Asked("/recommend", json.dumps(WIDE | changes).encode())]
    )[0]
    assert status == 200, answer
    return answer


def test_a_share_of_the_users_always_gets_the_ranker(engine, tmp_path):
    log = DecisionLog(tmp_path)
    split = engine_with(engine, log, control_share=0.3)
    requests = [split.schema.parse(WIDE | {"user_id": user}) for user in range(1000)]
    arms = [[answer["arm"] for answer in split.recommend(requests)] for _ in range(2)]
    log.close()
    assert arms[0] == arms[1]
    assert arms[0].count("control") == pytest.approx(300, abs=45)  # three standard deviations
    assert set(arms[0]) == {"control", "policy"}
    logged = read_decisions(tmp_path)
    by_user = dict(zip(logged["user_id"], logged["arm"], strict=True))
    assert [by_user[user] for user in range(1000)] == arms[0]
    counts = split.take_counts()
    assert (counts.control, counts.fallen_back) == (2 * arms[0].count("control"), 0)


def test_the_control_group_gets_what_the_ranker_would_show(engine):
    split, whole = engine_with(engine, control_share=1.0), engine_with(engine)
    answer = recommend(split)
    utility = engine.scorer.utility
    state_items = torch.tensor([WIDE["item_ids"]])
    from recomind.serving.request import states_of

    state = states_of([split.schema.parse(WIDE)], split.schema)
    scores = utility(engine.scorer.encode_state(state), state_items)[0]
    assert answer["item_ids"] == scores.argsort(descending=True).tolist()
    assert (answer["arm"], answer["reason"], answer["propensity"]) == ("control", "", 1.0)
    assert {recommend(whole)["arm"] for _ in range(5)} == {"policy"}


def failing(*_):
    raise RuntimeError("out of order")


def test_a_policy_that_errs_is_answered_for(engine, monkeypatch):
    served = engine_with(engine, policy_timeout_s=1.0)
    monkeypatch.setattr(served.scorer, "rank_supported", failing)
    answer = recommend(served)
    assert (answer["arm"], answer["reason"], answer["propensity"]) == ("ranker", "error", 1.0)
    strict = engine_with(engine, fall_back=False)
    status, _ = respond_all(strict, [Asked("/recommend", json.dumps(WIDE).encode())])[0]
    assert status == 500


def test_a_policy_that_is_late_is_answered_for_until_it_is_back(engine, monkeypatch):
    served = engine_with(engine, policy_timeout_s=0.05)
    real, release = served.scorer.rank_supported, threading.Event()

    def slow(*given):
        release.wait(30)
        return real(*given)

    monkeypatch.setattr(served.scorer, "rank_supported", slow)
    begin = time.monotonic()
    answers = [recommend(served) for _ in range(20)]
    assert {(answer["arm"], answer["reason"]) for answer in answers} == {("ranker", "late")}
    assert time.monotonic() - begin < 10  # the first one waited, the others were not kept
    counts = served.take_counts()
    assert (counts.fallen_back, counts.late) == (20, 20)
    release.set()
    assert served._arms._late is not None
    served._arms._late.result(30)
    served.config.policy_timeout_s = 20.0
    assert recommend(served)["arm"] == "policy"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"control_share": 1.5}, r"serving\.control_share; got: 1.5"),
        ({"policy_timeout_s": 9.0}, r"less than serving\.request_timeout_s"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ServingConfig(**settings)
