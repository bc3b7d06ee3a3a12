"""LightGBM boosters from text files: gradient-free, one per task."""

from __future__ import annotations

import lightgbm as lgb
import numpy as np
import pytest
import torch

from recomind.errors import ArtifactError, ConfigError, SchemaError
from recomind.ranker import load_external
from recomind.ranker.config import ExternalConfig, ExternalKind, OutputKind
from tests.adapters.models import HERE, answers, auc, catalogue, crossed, rows

TASKS = ["watch_10s", "like"]
PARAMETERS = {"objective": "binary", "num_leaves": 7, "verbosity": -1, "num_threads": 1}


@pytest.fixture(scope="module")
def boosters():
    batch = rows(3000)
    features, labels = crossed(batch).numpy(), answers(batch).numpy()
    return [
        lgb.train(PARAMETERS, lgb.Dataset(features, labels[:, h].copy()), num_boost_round=20)
        for h in range(2)
    ]


@pytest.fixture
def folder(boosters, tmp_path):
    for task, booster in zip(TASKS, boosters, strict=True):
        booster.save_model(tmp_path / f"{task}.txt")
    return tmp_path


def make(path, tasks=TASKS, inputs=f"{HERE}.crossed", **changes):
    config = ExternalConfig(
        kind=ExternalKind.lightgbm, path=str(path), inputs=inputs, tasks=tasks, **changes
    )
    return load_external(config, catalogue())


def ask(ranker, batch):
    return ranker.score(ranker.encode_state(batch.state), batch.item_id[:, None])[:, 0]


def as_array(batch):
    """Part of a wider table, so not contiguous."""
    wide = np.zeros((len(batch.item_id), 20))
    wide[:, 3:11] = crossed(batch).numpy()
    return wide[:, 3:11]


@pytest.mark.parametrize("output", list(OutputKind))
@pytest.mark.parametrize("inputs", [f"{HERE}.crossed", f"{__name__}.as_array"])
def test_it_answers_as_the_boosters(boosters, folder, output, inputs):
    batch = rows(200, seed=4)
    logits = ask(make(folder, output=output, inputs=inputs), batch)
    features = crossed(batch).numpy()
    expected = np.stack([booster.predict(features, raw_score=True) for booster in boosters], 1)
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_it_knows_what_it_learned(folder):
    batch = rows(1000, seed=5)
    logits, labels = ask(make(folder), batch), answers(batch, 6)
    assert auc(logits[:, 0], labels[:, 0]) > 0.75
    assert logits.dtype == torch.float32


def test_the_tasks_may_come_in_any_order(folder):
    batch = rows(20)
    swapped = ask(make(folder, ["like", "watch_10s"]), batch)
    assert torch.equal(swapped, ask(make(folder), batch)[:, [1, 0]])


def test_one_file_for_one_task(folder):
    batch = rows(20)
    single = ask(make(folder / "like.txt", ["like"]), batch)
    assert torch.equal(single, ask(make(folder), batch)[:, 1:])


@pytest.mark.parametrize(
    ("name", "tasks", "message"),
    [
        ("like.txt", TASKS, "one LightGBM file for several tasks.*<task>.txt"),
        ("", [*TASKS, "hide"], "a task without a LightGBM file.*hide.txt"),
    ],
)
def test_files_and_tasks_that_do_not_fit(folder, name, tasks, message):
    with pytest.raises(ConfigError, match=message):
        make(folder / name, tasks)


@pytest.mark.parametrize("content", ["", "tree\n", "not a model\n" * 50])
def test_a_file_that_is_no_booster(folder, content):
    (folder / "like.txt").write_text(content)
    with pytest.raises(ArtifactError, match=r"not a LightGBM model; got: .*like\.txt"):
        make(folder)


def narrower(batch):
    return crossed(batch)[:, 1:]


def test_another_number_of_features(folder):
    ranker = make(folder, inputs=f"{__name__}.narrower")
    with pytest.raises(SchemaError, match=r"lightgbm ranker .* failed on .*number of features"):
        ask(ranker, rows(3))


def test_a_regression_is_no_probability(tmp_path):
    batch = rows(500)
    data = lgb.Dataset(crossed(batch).numpy(), (batch.items.dense[:, 0] * 10).numpy())
    booster = lgb.train(PARAMETERS | {"objective": "regression"}, data, num_boost_round=5)
    booster.save_model(tmp_path / "like.txt")
    ranker = make(tmp_path / "like.txt", ["like"])
    with pytest.raises(SchemaError, match=r"a value that is no probability.*output=logits"):
        ask(ranker, batch)
