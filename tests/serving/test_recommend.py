"""/recommend: the choice has the probability that is logged, and every answer is in the log."""

from __future__ import annotations

import collections
import json
import math

import polars as pl
import pytest
import torch
from scipy import stats

from recomind.candidates import ExplorationConfig, ExplorationKind
from recomind.data.sources.served.decisions import (
    SCHEMA,
    read_decisions,
    read_journal,
    write_part,
)
from recomind.errors import ArtifactError, ConfigError
from recomind.serving import RankingEngine, ServingConfig, load_engine
from recomind.serving.decisions import DecisionLog, recover
from recomind.serving.http import Asked, respond_all
from tests.serving.test_request import GOOD

WIDE = GOOD | {"item_ids": list(range(12))}


def recommend(engine, payload):
    return respond_all(engine, [Asked("/recommend", json.dumps(payload).encode())])[0]


def exploring(engine, log=None, **settings) -> RankingEngine:
    config = ServingConfig(exploration=ExplorationConfig(**settings))
    return RankingEngine(engine.scorer, config, engine.pool, engine.identity, log)


def test_without_exploration_the_best_is_shown(engine):
    status, answer = recommend(engine, WIDE)
    assert status == 200
    ranked = respond_all(engine, [Asked("/rank", json.dumps(WIDE).encode())])[0][1]
    assert answer["item_ids"] == ranked["item_ids"]
    assert (answer["propensity"], answer["explored"], answer["arm"]) == (1.0, False, "policy")
    assert answer["decision_id"] != recommend(engine, WIDE)[1]["decision_id"]


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": ExplorationKind.subset, "epsilon": 0.6, "subset_size": 2},
        {"kind": ExplorationKind.uniform, "epsilon": 0.5},
        {"kind": ExplorationKind.softmax, "epsilon": 0.3, "temperature": 0.2},
    ],
    ids=["subset", "uniform", "softmax"],
)
def test_frequencies_are_the_logged_propensities(engine, settings):
    exploring_engine = exploring(engine, **settings)
    requests = [exploring_engine.schema.parse(WIDE)] * 64
    num, logged = collections.Counter(), {}
    for _ in range(25):
        for answer in exploring_engine.recommend(requests):
            first = answer["item_ids"][0]
            num[first] += 1
            assert logged.setdefault(first, answer["propensity"]) == pytest.approx(
                answer["propensity"], rel=1e-4
            )
            assert sorted(answer["item_ids"]) == sorted(WIDE["item_ids"])
    assert len(num) >= 2
    assert 0.99 < sum(logged.values()) < 1.0001  # the rest was never drawn
    often = [item for item in num if 1600 * logged[item] >= 5]
    found = [num[item] for item in often]
    expected = [logged[item] for item in often]
    scaled = [each * sum(found) / sum(expected) for each in expected]
    assert stats.chisquare(found, scaled).pvalue > 1e-4


def test_nothing_outside_the_support_is_explored(engine):
    uniform = exploring(engine, kind=ExplorationKind.uniform, epsilon=1.0)
    request = uniform.schema.parse(WIDE)
    (_, _, scored), *_ = uniform._in_parts([request])
    inside = set(scored.pool.item_id[0][scored.supported_BK[0]].tolist())
    assert 0 < len(inside) < len(WIDE["item_ids"])
    shown = {answer["item_ids"][0] for answer in uniform.recommend([request] * 300)}
    assert shown == inside


def test_an_ensemble_cannot_explore_in_service():
    with pytest.raises(ConfigError, match=r"serving\.exploration; got: ensemble"):
        ServingConfig(exploration=ExplorationConfig(kind=ExplorationKind.ensemble))


def test_every_answer_is_in_the_log(engine, tmp_path):
    log = DecisionLog(tmp_path)
    logged = exploring(engine, log, epsilon=0.5, subset_size=2)
    named = WIDE | {"request_id": "r1", "session_id": "s1", "num": 2}
    answers = [recommend(logged, named)[1] for _ in range(5)]
    assert read_decisions(tmp_path).height == 5  # while it is being written
    log.close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".parquet"]
    frame = read_decisions(tmp_path)
    assert dict(frame.schema) == SCHEMA
    by_id = {row["decision_id"]: row for row in frame.to_dicts()}
    for answer in answers:
        row = by_id[answer["decision_id"]]
        assert row["shown_item_id"] == answer["item_ids"]
        assert row["item_id"] == answer["item_ids"][0]
        assert math.exp(row["log_propensity"]) == answer["propensity"]
        assert (row["request_id"], row["session_id"], row["user_id"]) == ("r1", "s1", 17)
        assert (row["scorer"], row["arm"], row["step"]) == (engine.identity, "policy", 1)
        assert row["pool_item_id"] == WIDE["item_ids"]
        assert len(row["pool_score"]) == len(row["pool_supported"]) == 12
        assert row["explored"] == answer["explored"]


def test_a_part_is_closed_when_it_is_full(engine, tmp_path):
    log = DecisionLog(tmp_path, part_rows=3)
    logged = exploring(engine, log)
    for _ in range(4):
        recommend(logged, WIDE)
    log._rotate()
    recommend(logged, WIDE)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".jsonl", ".parquet"]
    assert read_decisions(tmp_path).height == 5
    log.close()


def test_what_a_killed_process_logged_is_kept_once(engine, tmp_path):
    log = DecisionLog(tmp_path)
    logged = exploring(engine, log)
    for _ in range(20):
        recommend(logged, WIDE)
    log._is_closing.set()
    log._thread.join()
    log._journal.write(b'{"decision_id": "half a li')
    log._journal.close()  # the system does this, and frees the lock, when a process is killed
    assert read_decisions(tmp_path).height == 20
    (journal,) = tmp_path.glob("*.jsonl")
    content = journal.read_bytes()
    assert recover(tmp_path) == 1
    journal.write_bytes(content)  # as if it had died between the part and the journal's end
    assert recover(tmp_path) == 1
    assert recover(tmp_path) == 0
    assert [path.suffix for path in tmp_path.iterdir()] == [".parquet"]
    assert read_decisions(tmp_path)["decision_id"].n_unique() == 20


def test_a_part_holds_what_its_journal_said(tmp_path):
    record = {
        "decision_id": "d",
        "request_id": "Zürich 🙂",
        "user_id": 2**63 - 1,
        "gap_s": 0.1,
        "user_features": [0.1, -3.0],
        "history_item_id": [],
        "history_feedback": [[True, False], []],
        "pool_score": [1e-30, 1 / 3],
        "explored": True,
    }
    rows = [record | {"decision_id": f"d{n}", "step": n} for n in range(300)]
    rows[7] |= {"pool_score": [], "history_item_id": [3, 4]}
    journal = tmp_path / "a.jsonl"
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    journal.write_bytes(lines + b'{"half' + b"x" * 200_000)
    assert read_journal(journal).equals(pl.DataFrame(rows, schema=SCHEMA))
    assert write_part(journal, tmp_path / "a.parquet")
    assert journal.read_bytes() == lines
    assert pl.read_parquet(tmp_path / "a.parquet").equals(pl.DataFrame(rows, schema=SCHEMA))
    journal.write_bytes(b'{"half')
    assert not write_part(journal, tmp_path / "b.parquet")
    assert not (tmp_path / "b.parquet").exists()


def test_a_damaged_journal_stays_and_keeps_no_service_from_starting(tmp_path, caplog):
    (tmp_path / "a.jsonl").write_bytes(b"\0\0\0 no JSON\n")
    log = DecisionLog(tmp_path)
    log.close()
    assert "a damaged journal of decisions" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
    with pytest.raises(ArtifactError, match="a damaged part of the log"):
        read_decisions(tmp_path)


def test_a_disk_that_is_full_loses_the_log_and_not_the_answer(engine, tmp_path, monkeypatch):
    from recomind.serving import decisions

    log = DecisionLog(tmp_path)
    logged = exploring(engine, log)
    recommend(logged, WIDE)

    def full(file, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(decisions, "_write_whole", full)
        assert recommend(logged, WIDE)[0] == 200
    assert logged.take_counts().unlogged == 1
    assert logged.take_counts().unlogged == 0
    recommend(logged, WIDE)
    assert read_decisions(tmp_path).height == 2
    log.close()


def test_a_folder_that_cannot_be_written_is_refused(scorer_folder, tmp_path):
    (tmp_path / "file").write_text("")
    config = ServingConfig(decision_log=str(tmp_path / "file" / "log"))
    with pytest.raises(ArtifactError, match="the log of decisions cannot be written"):
        load_engine(scorer_folder, config)
    with pytest.raises(ArtifactError, match="no log of decisions here"):
        read_decisions(tmp_path / "nothing")


@pytest.fixture
def broken(scorer_folder):
    """A policy whose residual gives no numbers; its frozen ranker is sound."""
    engine = load_engine(scorer_folder, ServingConfig())
    with torch.no_grad():
        engine.scorer.network.residual.weight.fill_(torch.nan)
    return engine


def test_the_ranker_answers_where_the_policy_cannot(broken, tmp_path, caplog):
    broken.log = DecisionLog(tmp_path)
    status, answer = recommend(broken, WIDE)
    assert (status, answer["arm"], answer["propensity"]) == (200, "ranker", 1.0)
    utility = dict(zip(answer["item_ids"], answer["scores"], strict=True))
    assert list(utility.values()) == sorted(utility.values(), reverse=True)
    assert read_decisions(tmp_path)["arm"].to_list() == ["ranker"]
    assert "the ranker answers in the policy's place" in caplog.text
    broken.log.close()
    broken.config.fall_back = False
    assert recommend(broken, WIDE)[0] == 400
