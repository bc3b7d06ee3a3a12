"""data=served: what was served comes back as the states that were asked about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from recomind.artifacts import read_manifest
from recomind.candidates import ExplorationConfig
from recomind.data import SessionDataset, WindowedLogs, make_source
from recomind.data.sources.served.decisions import read_decisions
from recomind.errors import ConfigError, RecomindError, SchemaError
from recomind.serving import RankingEngine, ServingConfig, load_engine
from recomind.serving.http import Asked, respond_all
from recomind.serving.request import states_of
from tests.data.feed import write_logs
from tests.export.tiny import LENGTH, TASKS

NUM_SESSIONS, NUM_STEPS = 20, 4


def ask(engine: RankingEngine, payload: dict[str, Any]) -> dict[str, Any]:
    status, answer = respond_all(engine, [Asked("/recommend", json.dumps(payload).encode())])[0]
    assert status == 200, answer
    return answer


def serve_sessions(engine: RankingEngine) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Sessions in which each request repeats what was done before; requests by decision id."""
    generator = torch.Generator().manual_seed(0)
    asked, outcomes = {}, []
    for session in range(NUM_SESSIONS):
        history = [{"item_id": session, "feedback": {"like": True}, "dwell_s": 3.0, "gap_s": 0.0}]
        payload = {
            "user_id": session,
            "user_features": [0.1 * session, -1.0, 0.5],
            "session_id": f"s{session}",
            "item_ids": list(range(8)),
            "gap_s": 0.0,
        }
        for step in range(NUM_STEPS):
            payload |= {"history": list(history), "step": step}
            answer = ask(engine, payload)
            asked[answer["decision_id"]] = dict(payload)
            done = dict(
                zip(TASKS, (torch.rand(3, generator=generator) < 0.4).tolist(), strict=True)
            )
            dwell_s = float(torch.rand((), generator=generator))
            history.append(
                {
                    "item_id": answer["item_ids"][0],
                    "feedback": done,
                    "dwell_s": dwell_s,
                    "gap_s": payload["gap_s"],
                }
            )
            payload["gap_s"] = 1.5
            outcomes.append({"decision_id": answer["decision_id"], "dwell_s": dwell_s} | done)
    return asked, outcomes


@pytest.fixture(scope="module")
def served(scorer_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """Settings of data=served, the requests by decision id, and the engine that answered."""
    folder = tmp_path_factory.mktemp("served")
    exploration = ExplorationConfig(epsilon=0.5, subset_size=2)
    config = ServingConfig(decision_log=str(folder / "decisions"), exploration=exploration)
    engine = load_engine(scorer_folder, config)
    asked, outcomes = serve_sessions(engine)
    assert engine.log is not None
    engine.log.close()
    latest = int(read_decisions(folder / "decisions")["time_ms"].max())  # pyright: ignore
    frame = (
        pl.DataFrame(outcomes)
        .with_columns(time_ms=pl.lit(latest))
        .sample(fraction=1.0, shuffle=True, seed=0)
    )
    frame[:30].write_parquet(folder / "a.parquet")
    frame[30:].write_parquet(folder / "b.parquet")
    settings = {
        "source": "served",
        "decisions": str(folder / "decisions"),
        "outcomes": {"path": str(folder / "*.parquet")},
        "scorer": str(scorer_folder),
        "until": "2100-01-01",
    }
    return settings, asked, engine


def test_states_rewards_and_propensities_are_those_that_were_served(served, tmp_path):
    settings, asked, engine = served
    logs = make_source(settings).read()
    write_logs(tmp_path / "sessions", logs)
    dataset = SessionDataset.load([tmp_path / "sessions"], LENGTH)
    rows = dataset.rows("train", "calibration", "test")
    assert len(rows) == NUM_SESSIONS * NUM_STEPS == len(asked)
    events = logs.events.filter(pl.col("position") >= 0).sort("session_id", "position")
    requests = [engine.schema.parse(asked[id_]) for id_ in events["decision_id"]]
    found, expected = dataset.state(rows), states_of(requests, engine.schema)
    for name, tensor in expected.to_tensordict().items():
        torch.testing.assert_close(found.to_tensordict()[name], tensor, atol=2e-3, rtol=0)
    log = read_decisions(Path(settings["decisions"]))
    by_id = dict(zip(log["decision_id"], log["log_propensity"].exp(), strict=True))
    assert events["propensity"].to_list() == [by_id[id_] for id_ in events["decision_id"]]
    assert 0 < (events["propensity"] < 0.5).sum() < len(rows)
    ends = dataset.left(rows).reshape(-1, NUM_STEPS)
    assert ends.tolist() == [[False] * (NUM_STEPS - 1) + [True]] * NUM_SESSIONS
    assert bool(dataset.left_known(rows).all())
    splits = logs.events["split"].unique().to_list()
    assert sorted(splits) == ["calibration", "history", "test", "train"]


def test_a_window_stays_as_it_is_when_the_log_goes_on(served, scorer_folder):
    settings, _, _ = served
    source = make_source(settings)
    assert isinstance(source, WindowedLogs)
    before = source.identity()
    config = ServingConfig(decision_log=settings["decisions"])
    swapped = load_engine(scorer_folder, config)
    swapped.identity = "another scorer"
    answer = ask(swapped, {"user_id": 99, "user_features": [0, 0, 0], "item_ids": [1, 2]})
    outcome = dict.fromkeys(TASKS, False) | {"decision_id": answer["decision_id"]}
    log = read_decisions(Path(settings["decisions"]))
    row = outcome | {"dwell_s": 1.0, "time_ms": int(log["time_ms"].max())}  # pyright: ignore
    pl.DataFrame([row]).write_parquet(Path(settings["decisions"]).parent / "c.parquet")
    assert swapped.log is not None
    swapped.log.close()
    assert source.identity() == before
    later = source.at_window(1)
    assert isinstance(later, WindowedLogs)
    assert later.identity() != before
    assert later.read().events["user_id"].to_list() == [99]
    with pytest.raises(SchemaError, match="served logs have no window 3; got: 2 windows"):
        source.at_window(2).read()


def test_decisions_of_another_catalogue_are_counted_and_left_out(served, scorer_folder, tmp_path):
    settings, asked, _ = served
    log = read_decisions(Path(settings["decisions"]))
    other = pl.when(pl.int_range(pl.len()) < 8).then(pl.lit("other")).otherwise("catalogue")
    (tmp_path / "log").mkdir()
    log.with_columns(other.alias("catalogue")).write_parquet(tmp_path / "log" / "a.parquet")
    logs = make_source(settings | {"decisions": str(tmp_path / "log")}).read()
    assert logs.facts["num_of_other_catalogues"] == 8
    assert logs.facts["num_joined"] == len(asked) - 8
    assert any("8 decisions are of another catalogue" in note for note in logs.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decisions": "nowhere"}, "no log of decisions here; got: nowhere"),
        ({"outcomes": {"path": "nowhere"}}, r"data\.outcomes\.path"),
        ({"scorer": "nowhere"}, "nowhere"),
        ({"window": "often"}, r"data\.window is no duration; got: 'often'"),
        ({"until": "soon"}, r"data\.until is no time; got: 'soon'"),
        ({"test_share": 1.0}, "calibration_share and test_share"),
        ({"unwanted": ["hid"]}, "did you mean 'hide'"),
        ({"limit": "0s"}, r"data\.limit is no duration"),
    ],
)
def test_bad_settings_are_refused(served, change, message):
    settings = served[0] | change
    with pytest.raises(RecomindError, match=message):
        make_source(settings).read()


def test_outcomes_that_are_none_are_refused(served, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("decision_id,time_ms,dwell_s,watch_10s,like,hide\na,soon,1,0,0,0\n")
    with pytest.raises(SchemaError, match=r"data\.outcomes\.time has a value it may not have"):
        make_source(served[0] | {"outcomes": {"path": str(path)}}).read()


def test_rounds_of_logs_that_do_not_go_on_are_refused():
    from hydra import compose, initialize_config_dir

    from recomind.config import conf_dir, register, resolve

    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("base", ["data=movielens", "data.root=.", "rounds=2"])
        with pytest.raises(ConfigError, match="need a world to collect from, or served logs"):
            resolve(config)


def test_the_manifest_names_the_catalogue_that_was_served(served, scorer_folder):
    from recomind.data.sources.served.decisions import catalogue_identity

    log = read_decisions(Path(served[0]["decisions"]))
    assert set(log["catalogue"]) == {catalogue_identity(read_manifest(scorer_folder).files)}
