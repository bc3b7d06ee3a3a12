"""User features that change within a session: found, moved where events tell how, else named."""

from __future__ import annotations

import polars as pl
import pytest
import torch

from recomind.artifacts import Manifest, read_manifest
from recomind.data import SessionDataset, write_sessions
from recomind.errors import SchemaError
from recomind.pipeline.stages.fit_simulator import moving_notes
from recomind.ranker import new_ranker, save_rankers
from recomind.simulation import fit_holdout, fit_simulator, load_holdout, load_simulator
from recomind.simulation.config import Moving
from recomind.simulation.moving import fit_moving
from recomind.streams import make_generator
from simulators.video_feed.world import TASKS
from tests.simulation import tiny

NEW = ("count", "rate", "noise")


def moving_frame() -> pl.DataFrame:
    """The tiny logs with a count of events, a running mean of a response, and noise."""
    place = pl.col("position").clip(0)
    watched = pl.col("watch_10s").cast(pl.Float32) * (pl.col("position") >= 0)
    so_far = watched.cum_sum().over("session_id") - watched
    frame = tiny.tiny_frame()
    noise = torch.randn(frame.height, generator=make_generator(5)).numpy()
    return frame.with_columns(
        u_count=(place / 10).cast(pl.Float32),
        u_rate=(so_far / place.clip(1)).cast(pl.Float32),
        u_noise=pl.Series(noise).cast(pl.Float32),
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> SessionDataset:
    folder = tmp_path_factory.mktemp("moving") / "sessions"
    manifest = Manifest(kind="sessions")
    write_sessions(folder, moving_frame(), tiny.tiny_catalogue(), tasks=TASKS, manifest=manifest)
    return SessionDataset.load([folder], tiny.LENGTH)


def fitted(dataset, how=Moving.learn):
    rows = dataset.rows("train", holdout=False)
    return fit_moving(dataset, rows, dataset.rows("calibration", holdout=False), how)


def test_nothing_moves_where_users_stay_what_they_are():
    rows = tiny.tiny_dataset().rows("train", holdout=False)
    assert fit_moving(tiny.tiny_dataset(), rows, rows, Moving.refuse) is None


def test_counts_and_running_means_are_known_and_noise_is_not(dataset):
    moving = fitted(dataset)
    assert moving is not None
    assert set(moving.explained) == set(NEW)
    assert moving.frozen == ["noise"]
    assert min(moving.explained[name] for name in ("count", "rate")) > 0.99
    names = [dataset.user_feature_names[u] for u in moving.column_V.tolist()]
    assert sorted(names) == ["count", "rate"]


def test_what_comes_next_is_what_the_log_says(dataset):
    moving, rows = fitted(dataset), dataset.rows("test")
    assert moving is not None
    rows = rows[rows + 1 < len(dataset)]
    rows = rows[dataset.session_index(rows) == dataset.session_index(rows + 1)]
    after, wanted = moving.after(dataset.next_state(rows)), dataset.user_features(rows + 1)
    columns = moving.column_V
    torch.testing.assert_close(after[:, columns], wanted[:, columns], atol=5e-3, rtol=0)
    noise = dataset.user_feature_names.index("noise")
    assert torch.equal(after[:, noise], dataset.user_features(rows)[:, noise])


def test_frozen_or_refused_if_so_asked(dataset):
    assert fitted(dataset, Moving.freeze) is None
    with pytest.raises(SchemaError, match=r"events do not tell; got: \['noise'\]"):
        fitted(dataset, Moving.refuse)


def test_both_simulators_move_what_is_known(dataset, tmp_path):
    rankers = [new_ranker(dataset, tiny.RANKER, seed) for seed in (0, 1)]
    save_rankers(tmp_path / "ranker", rankers, tiny.tiny_catalogue(), Manifest(kind="ranker"))
    manifest = Manifest(kind="simulator")
    fit_simulator(tmp_path / "simulator", rankers, dataset, tiny.SIMULATOR, manifest, seed=0)
    fit_holdout(tmp_path / "holdout", dataset, tiny.SIMULATOR, Manifest(kind=""), seed=0)
    notes = moving_notes(read_manifest(tmp_path / "simulator").extra["moving_features"])
    assert "count" in notes[0]
    assert notes[1].startswith("warning: these user features change within a session")
    assert "noise (" in notes[1]
    assert "rate" not in notes[1]
    learned = load_simulator(tmp_path / "simulator", tmp_path / "ranker", tiny.WEIGHTS)
    count, noise = (dataset.user_feature_names.index(name) for name in ("count", "noise"))
    for simulator in (learned, load_holdout(tmp_path / "holdout", tiny.WEIGHTS)):
        start = simulator.reset(40, make_generator(1), auto_reset=True)
        for step in range(3):
            result = simulator.step(torch.arange(40) + 40 * step)
            begun = result.state.step > step
            features = result.state.user_features
            expected = result.state.step[begun].float() / 10
            torch.testing.assert_close(features[begun, count], expected, atol=1e-2, rtol=0)
            assert torch.equal(features[begun, noise], start.user_features[begun, noise])
    # What is brought along from step to step sees the moved features.
    state, token = learned._state, learned._token
    with torch.no_grad():
        for ranker, ours in zip(rankers, learned._running.encode(token), strict=True):
            plain = ranker.encode_state(state)
            torch.testing.assert_close(ours.hidden_BM, plain.hidden_BM, atol=1e-4, rtol=1e-3)
