"""Requests in a company's ids and raw features are those in rows and standardised ones."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from recomind.artifacts import read_manifest, write_artifact
from recomind.data.sources.served.decisions import read_decisions
from recomind.errors import ArtifactError
from recomind.export import load_scorer
from recomind.export.raw import SERVED_ENCODING, SERVED_SCALING
from recomind.serving import ServingConfig, load_engine
from recomind.serving.company import ITEM_IDS, CompanyNames
from recomind.serving.decisions import DecisionLog
from recomind.serving.http import Asked, respond_all
from recomind.serving.id_table import IdTable
from recomind.serving.request import states_of
from tests.export.tiny import NUM_ITEMS
from tests.serving.test_arms import engine_with
from tests.serving.test_request import GOOD

SCALINGS = {"age": {"mean": 40.0, "std": 10.0}, "tenure": {"mean": 1.0, "std": 2.0}}


def named(row: int) -> str:
    return f"sku-{row * 7}"


@pytest.fixture(scope="module")
def company(scorer_folder, tmp_path_factory):
    """The scorer with a map of ids and a scaling, as an export of a company's logs has them."""
    folder = tmp_path_factory.mktemp("company") / "scorer"
    manifest = read_manifest(scorer_folder)
    manifest.extra[SERVED_SCALING] = SCALINGS
    names = list(manifest.files)
    with write_artifact(folder, manifest) as staging:
        for name in names:
            (staging / name).write_bytes((scorer_folder / name).read_bytes())
        rows = list(range(NUM_ITEMS))
        pl.DataFrame({"id": [named(row) for row in rows], "row": rows}).write_parquet(
            staging / ITEM_IDS
        )
    return load_engine(folder, ServingConfig(max_candidates=12))


def ask(engine, payload, path="/rank"):
    return respond_all(engine, [Asked(path, json.dumps(payload).encode())])[0]


RAW = GOOD | {
    "user_id": "customer 17",
    "user_features": {"age": 30.0, "hour": 0.5, "tenure": 5.0},  # -1, 0.5, 2 standardised
    "history": [entry | {"item_id": named(int(entry["item_id"]))} for entry in GOOD["history"]],  # type: ignore
    "item_ids": [named(row) for row in (8, 15, 16)],
}


@pytest.mark.parametrize("path", ["/rank", "/recommend"])
def test_the_answer_is_the_same_in_the_companys_words(company, engine, path):
    status, answer = ask(company, RAW, path)
    assert status == 200, answer
    ours = ask(engine, GOOD, path)[1]
    assert answer["item_ids"] == [named(row) for row in ours["item_ids"]]
    assert answer["scores"] == pytest.approx(ours["scores"], abs=1e-6)


def test_an_item_that_the_catalogue_lacks_is_left_out(company):
    known = ask(company, RAW, "/recommend")[1]
    more = RAW | {"item_ids": ["new today", *RAW["item_ids"], "99"]}
    status, answer = ask(company, more, "/recommend")
    assert status == 200, answer
    assert (answer["item_ids"], answer["scores"]) == (known["item_ids"], known["scores"])


def test_an_item_that_is_gone_counts_as_padding_in_a_history(company, tmp_path):
    gone = {"item_id": "gone", "feedback": {}, "dwell_s": 9.0, "gap_s": 9.0}
    first = RAW | {"history": [gone, *RAW["history"][-1:]]}
    answers = [ask(company, RAW | {"history": RAW["history"][-1:]})[1], ask(company, first)[1]]
    assert answers[0]["scores"] == pytest.approx(answers[1]["scores"], abs=1e-6)
    state = states_of([company.schema.parse(first)], company.schema)
    assert state.history_mask[0].tolist()[-2:] == [False, True]
    assert int(state.history_item_id.min()) == 0
    log = DecisionLog(tmp_path)
    engine_with(company, log).recommend([company.schema.parse(first)])
    log.close()
    assert read_decisions(tmp_path)["history_item_id"].to_list() == [[4]]


def test_candidates_of_which_none_is_known_are_refused(company):
    status, answer = ask(company, RAW | {"item_ids": ["sku-1"]})
    assert status == 400
    assert answer["error"].startswith("item_ids; got: 1 ids, such as 'sku-1'; expected: at least")
    assert ask(company, RAW | {"item_ids": [True]})[0] == 400
    twice = ask(company, RAW | {"item_ids": ["new", named(8), named(8)]})[1]
    assert twice["error"] == f"item_ids names an item twice; got: {named(8)!r}"


def test_users_are_known_by_any_text(company, engine):
    rows = {engine.schema.parse(GOOD | {"user_id": user}).user_id for user in ("a", "b", "17", 17)}
    assert len(rows) == 4
    assert min(rows) >= 0
    known = CompanyNames(users=IdTable(pl.Series(["a", "9"]), np.array([5, 6])))
    assert (known.user_row("a"), known.user_row("9")) == (5, 6)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"id": ["a", "a"], "row": [0, 1]}, "an id or a row twice"),
        ({"id": ["a", "b"], "row": [1, 1]}, "an id or a row twice"),
        ({"id": ["a", None], "row": [0, 1]}, "an id or a row twice"),
        ({"id": ["a"]}, "unreadable map of ids"),
        ({"id": ["a"], "row": ["x"]}, "unreadable map of ids"),
    ],
)
def test_a_map_that_is_none_is_refused(tmp_path, table, message):
    pl.DataFrame(table).write_parquet(tmp_path / ITEM_IDS)
    with pytest.raises(ArtifactError, match=message):
        CompanyNames.load(tmp_path, {})


def test_ids_of_one_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr("builtins.hash", lambda _: 1)
    table = IdTable(pl.Series([f"i{n}" for n in range(30)]), np.arange(30)[::-1] * 2)
    assert [table.get(f"i{n}") for n in range(30)] == list(range(58, -1, -2))
    assert table.get("i30") is None
    assert table.rows_of(["i29", "i30", "i0"]) == [0, None, 58]


def test_a_table_of_ids_is_a_dictionary_both_ways():
    ids, rows = [f"id-{n % 7}-{n}" for n in range(200_000)], np.arange(200_000)[::-1] * 3 + 5
    table = IdTable(pl.Series(ids), rows)
    known = dict(zip(ids, rows.tolist(), strict=True))
    for id_ in ids[::997]:
        assert table.get(id_) == known[id_]
        assert table.id_of(known[id_]) == id_
    asked = [*ids[::1013], "id-8-3", "zz"]
    assert table.rows_of(asked) == [known.get(id_) for id_ in asked]
    empty = IdTable(pl.Series([], dtype=pl.String), np.array([], np.int64))
    assert (empty.get("a"), empty.rows_of(["a"])) == (None, [None])


def test_features_that_came_as_they_are_are_not_clipped(tmp_path):
    plain = {name: {"mean": 0.0, "std": 1.0} for name in ("age", "hour")}
    assert CompanyNames.load(tmp_path, {SERVED_SCALING: plain}).standardised("age", 33.0) == 33.0
    scaled = plain | {"hour": {"mean": 12.0, "std": 7.0}}
    assert CompanyNames.load(tmp_path, {SERVED_SCALING: scaled}).standardised("age", 33.0) == 8.0


def test_an_encoding_that_is_none_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="not an encoding of raw columns"):
        CompanyNames.load(tmp_path, {SERVED_ENCODING: {"categories": 3}})


def test_a_scaling_that_is_none_is_refused(tmp_path, scorer_folder):
    with pytest.raises(ArtifactError, match=SERVED_SCALING):
        CompanyNames.load(tmp_path, {SERVED_SCALING: {"age": {"mean": 3}}})
    assert load_scorer(scorer_folder).user_feature_names == ("age", "hour", "tenure")
