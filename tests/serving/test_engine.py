"""Answers are the scorer's; a scorer that is unreleased, damaged or wrong is not served."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from recomind.artifacts import Manifest
from recomind.candidates import CandidatesConfig, fresh_items
from recomind.errors import ArtifactError, ConfigError, ParityError, SchemaError
from recomind.export import export_policy, load_scorer
from recomind.pipeline.factories import PoolFactory
from recomind.plugins import VARIABLE
from recomind.retrieval import RetrievalConfig, load_retrieval
from recomind.retrieval.retrieval import index_items
from recomind.retrieval.two_tower import TwoTower, tower_shape
from recomind.serving import RankingEngine, ServingConfig, load_engine
from recomind.serving.http import Asked, respond_all
from recomind.serving.request import states_of
from recomind.streams import SessionStreams, make_generator
from tests.export.tiny import NUM_ITEMS, network, settings
from tests.serving.conftest import write_scorer
from tests.serving.test_request import GOOD, without


def post(engine, payload):
    return respond_all(engine, [Asked("/rank", json.dumps(payload).encode())])[0]


def test_the_answer_is_the_scorers_order(engine, scorer_folder):
    status, answer = post(engine, GOOD)
    state = states_of([engine.schema.parse(GOOD)], engine.schema)
    item_id = torch.tensor([GOOD["item_ids"]])
    order, scores = load_scorer(scorer_folder).rank(
        state, item_id, torch.ones_like(item_id, dtype=torch.bool)
    )
    assert (status, answer["released"]) == (200, True)
    assert answer["item_ids"] == item_id[0, order[0]].tolist()
    # Sums round by how tensors lie in memory; the order above may not differ.
    assert answer["scores"] == pytest.approx(scores[0, order[0]].tolist(), abs=1e-5)


def test_requests_of_one_body_do_not_touch_each_other(engine):
    other = GOOD | {"user_id": 3, "history": [], "step": 0, "item_ids": list(range(20, 31))}
    pooled = without("item_ids") | {"num": 4}
    bodies = [GOOD, other, pooled]
    status, answers = post(engine, bodies)
    assert status == 200
    for body, answer in zip(bodies, answers, strict=True):
        alone = post(engine, body)[1]
        assert answer["item_ids"] == alone["item_ids"]
        assert answer["scores"] == pytest.approx(alone["scores"], abs=1e-5)


def test_bodies_are_scored_together_and_none_touches_another(engine):
    bodies = [json.dumps(each).encode() for each in (GOOD, [GOOD] * 3, GOOD | {"num": 1})]
    bodies.insert(1, b"{")
    answers = respond_all(engine, [Asked("/rank", body) for body in bodies])
    assert [status for status, _ in answers] == [200, 400, 200, 200]
    for body, (status, value) in zip(bodies, answers, strict=True):
        alone = respond_all(engine, [Asked("/rank", body)])[0]
        assert alone[0] == status
        if status == 200:
            several = value if isinstance(value, list) else [value]
            for one, other in zip(
                several, alone[1] if value is several else [alone[1]], strict=True
            ):
                assert one["item_ids"] == other["item_ids"]
                assert one["scores"] == pytest.approx(other["scores"], abs=1e-5)


class Fussy(RankingEngine):
    """Cannot score users 3 and 4."""

    def rank(self, requests):
        users = {request.user_id for request in requests}
        if 3 in users:
            raise SchemaError("a candidate's score is not a finite number")
        if 4 in users:
            raise RuntimeError("the generator of the pool is at fault")
        return super().rank(requests)


def test_a_request_that_cannot_be_scored_fails_alone(engine, caplog):
    fussy = Fussy(engine.scorer, ServingConfig(), engine.pool)
    bodies = [Asked("/rank", json.dumps(GOOD | {"user_id": n}).encode()) for n in (1, 3, 4, 2)]
    answers = respond_all(fussy, bodies)
    assert [status for status, _ in answers] == [200, 400, 500, 200]
    assert "not a finite number" in answers[1][1]["error"]
    assert "the generator of the pool is at fault" in caplog.text


def test_num_cuts_the_answer(engine):
    everything = post(engine, GOOD)[1]
    best = post(engine, GOOD | {"num": 2})[1]
    assert best["item_ids"] == everything["item_ids"][:2]
    assert best["scores"] == everything["scores"][:2]
    assert len(post(engine, GOOD | {"num": 9})[1]["item_ids"]) == 3


def test_a_small_catalogue_is_its_own_pool(engine):
    pooled = without("item_ids", "history") | {"num": 12}
    answer = post(engine, pooled)[1]
    assert len(set(answer["item_ids"])) == 12
    assert post(engine, pooled)[1] == answer
    seen = {"history": [{"item_id": answer["item_ids"][0]}]}
    assert answer["item_ids"][0] not in post(engine, pooled | seen)[1]["item_ids"]


@pytest.fixture
def index_folder(scorer_folder, tmp_path):
    scorer, config = load_scorer(scorer_folder), RetrievalConfig()
    shape = tower_shape(scorer.catalogue, scorer.num_user_features, config)
    towers = TwoTower(shape, make_generator(0))
    index_items(towers, scorer.catalogue, config).save(tmp_path / "index", Manifest(kind="index"))
    return tmp_path / "index"


def test_candidates_come_from_the_index(scorer_folder, index_folder):
    shape = CandidatesConfig(num_candidates=6, num_nearest=6, num_fresh=0, exclude_recent=0)
    engine = load_engine(
        scorer_folder, ServingConfig(), index_folder=index_folder, candidates=shape
    )
    request = without("item_ids") | {"num": 6}
    state = states_of([engine.schema.parse(request)], engine.schema)
    nearest = load_retrieval(index_folder, load_scorer(scorer_folder).catalogue).nearest(state, 6)
    assert NUM_ITEMS > 6
    assert set(post(engine, request)[1]["item_ids"]) == set(nearest[0].tolist())


def test_the_newest_items_reach_the_pool(scorer_folder, index_folder):
    shape = CandidatesConfig(num_candidates=2, num_nearest=0, num_fresh=2, exclude_recent=0)
    engine = load_engine(
        scorer_folder,
        ServingConfig(),
        index_folder=index_folder,
        candidates=shape,
        newest=lambda catalogue: torch.tensor([catalogue.num_items - 1]),
    )
    request = without("item_ids") | {"num": 2}
    assert post(engine, request)[1]["item_ids"] == [NUM_ITEMS - 1]


def test_serving_draws_from_the_pool_of_the_training(scorer_folder, index_folder, monkeypatch):
    monkeypatch.setenv(VARIABLE, "tests")
    shape = CandidatesConfig(
        num_candidates=8,
        num_nearest=2,
        num_fresh=1,
        num_generated=2,
        stratified=True,
        blocked=[5],
        generator={"_target_": "tests.candidates.pools.Last", "first": 1},
    )
    training = PoolFactory(config=shape, catalogue_folder=scorer_folder, index_folder=index_folder)
    engine = load_engine(
        scorer_folder,
        ServingConfig(),
        index_folder=index_folder,
        candidates=shape,
        newest=fresh_items,
    )
    request = engine.schema.parse(without("item_ids") | {"num": 8})
    state, streams = states_of([request] * 40, engine.schema), SessionStreams(torch.arange(40))
    found = training().candidates(state, streams)
    assert engine.pool is not None
    served = engine.pool.candidates(state, streams)
    assert torch.equal(found.item_id, served.item_id)
    assert torch.equal(found.log_propensity, served.log_propensity)
    assert found.item_id[:, 2:4].tolist() == [[NUM_ITEMS - 2, NUM_ITEMS - 3]] * 40
    assert 5 not in found.item_id[found.mask].tolist()
    only = CandidatesConfig(num_candidates=4, num_nearest=0, num_fresh=0, stratified=True)
    with pytest.raises(
        ArtifactError, match="no index here"
    ):  # stratified draws need the index, too
        PoolFactory(config=only, catalogue_folder=scorer_folder, index_folder=index_folder / "no")()


def test_a_bad_request_is_told_why(engine):
    status, answer = post(engine, GOOD | {"item_ids": [99]})
    assert status == 400
    assert "item_id; got: 99; expected: an integer in [0, 39]" in answer["error"]


def test_health_says_what_is_served(engine):
    assert engine.status() == {
        "status": "ready",
        "scorer": engine.identity,
        "released": True,
        "reasons": [],
    }
    assert len(engine.identity) == 64


def test_an_unreleased_scorer_is_refused_unless_it_is_allowed(tmp_path):
    folder = write_scorer(tmp_path / "scorer", released=False, reasons=["lift not above zero"])
    with pytest.raises(ConfigError, match=r"did not let.*lift not above zero.*allow_unreleased"):
        load_engine(folder, ServingConfig())
    engine = load_engine(folder, ServingConfig(allow_unreleased=True))
    assert post(engine, GOOD)[1]["released"] is False
    assert engine.status()["reasons"] == ["lift not above zero"]


def test_a_scorer_that_answers_otherwise_than_when_exported_is_refused(tmp_path):
    folder = write_scorer(tmp_path / "scorer", q_offset=1e-3)
    with pytest.raises(ParityError, match="does not answer as it did"):
        load_engine(folder, ServingConfig())


def test_a_scorer_without_golden_requests_answers_random_ones(tmp_path):
    export_policy(tmp_path / "scorer", network(), settings(released=True, judged="abc"))
    assert post(load_engine(tmp_path / "scorer", ServingConfig()), GOOD)[0] == 200


def test_a_damaged_scorer_is_refused(scorer_folder, tmp_path):
    folder = shutil.copytree(scorer_folder, tmp_path / "scorer")
    (folder / "weights.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactError, match="damaged artifact"):
        load_engine(folder, ServingConfig())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"host": ""}, r"serving\.host is empty"),
        ({"port": 0}, r"serving\.port; got: 0"),
        ({"port": 65_536}, r"serving\.port"),
        ({"max_candidates": 0}, r"serving\.max_candidates"),
        ({"num_replicas": 0}, r"serving\.num_replicas"),
        ({"num_threads": 0}, r"serving\.num_threads"),
        ({"request_timeout_s": 0.0}, r"serving\.request_timeout_s; got: 0\.0"),
        ({"body_timeout_s": float("nan")}, r"serving\.body_timeout_s; got: nan"),
    ],
)
def test_settings_out_of_range(change, message):
    with pytest.raises(ConfigError, match=message):
        ServingConfig(**change)
    assert ServingConfig().host == "127.0.0.1"
