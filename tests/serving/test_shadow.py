"""A scorer that is tried: logged beside the one that serves, and in nobody's way."""

from __future__ import annotations

import json
import threading

import pytest

from recomind.data.sources.served.decisions import read_decisions
from recomind.errors import ArtifactError, ConfigError
from recomind.serving import ServingConfig, load_engine
from recomind.serving.http import Asked, respond_all
from tests.serving.conftest import write_scorer
from tests.serving.test_request import GOOD

WIDE = GOOD | {"item_ids": list(range(12))}


@pytest.fixture
def engine(scorer_folder, tmp_path):
    """It tries its own scorer, which is as good as another."""
    config = ServingConfig(
        decision_log=str(tmp_path / "decisions"),
        shadow_folder=str(scorer_folder),
        shadow_log=str(tmp_path / "shadow"),
        allow_unreleased=True,
    )
    return load_engine(scorer_folder, config)


def recommend(engine, **changes):
    return respond_all(engine, [Asked("/recommend", json.dumps(WIDE | changes).encode())])[0][1]


def test_what_it_would_have_shown_is_logged_under_the_decisions_id(engine, tmp_path, monkeypatch):
    shown = [recommend(engine, user_id=user)["item_ids"] for user in range(4)]
    done = threading.Event()
    engine._shadow._waiting.put(done.set)  # behind what waits
    assert done.wait(30)
    real = engine._shadow.scorer.rank_supported
    monkeypatch.setattr(
        engine._shadow.scorer, "rank_supported", lambda *given: _reversed(real(*given))
    )
    shown.append(recommend(engine, user_id=5)["item_ids"])
    engine.close()
    served, tried = (read_decisions(tmp_path / name) for name in ("decisions", "shadow"))
    assert tried["arm"].to_list() == ["shadow"] * 5
    both = served.join(tried, on="decision_id", suffix="_tried").sort("user_id")
    assert both.height == 5
    assert both["shown_item_id"].to_list() == shown
    same = (both["item_id"] == both["item_id_tried"]).to_list()
    assert same == [True] * 4 + [False]
    counts = engine.take_counts().shadow
    assert (counts.asked, counts.differing, counts.skipped) == (5, 1, 0)


def _reversed(ranked):
    order, score, supported = ranked
    return order.flip(1), score, supported


def test_one_that_hangs_or_fails_holds_nobody_up(engine, monkeypatch, caplog):
    release = threading.Event()

    def hang(*_):
        release.wait(30)
        raise RuntimeError("the trial failed")

    monkeypatch.setattr(engine._shadow.scorer, "rank_supported", hang)
    assert all(recommend(engine)["arm"] == "policy" for _ in range(30))
    release.set()
    engine.close()
    assert engine._shadow.take_counts().skipped >= 10
    assert "the shadow scorer failed" in caplog.text


def test_one_of_another_catalogue_is_refused(scorer_folder, tmp_path, monkeypatch):
    other = write_scorer(tmp_path / "other")
    path = tmp_path / "log"
    config = ServingConfig(shadow_folder=str(other), shadow_log=str(path))
    monkeypatch.setattr("recomind.serving.loading.catalogue_identity", lambda files: str(id(files)))
    with pytest.raises(ArtifactError, match="the shadow scorer is of another catalogue"):
        load_engine(scorer_folder, config)


def test_a_trial_needs_a_log():
    with pytest.raises(ConfigError, match="belong together"):
        ServingConfig(shadow_folder="somewhere")
