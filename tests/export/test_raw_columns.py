"""Training, the folder `onnx` and the service make the same of a log's raw columns."""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
import shutil
from datetime import datetime, timedelta, timezone

import jsonschema
import numpy as np
import pytest
import torch

from recomind.data import SessionDataset
from recomind.export import PolicyScorer, export_policy, read_raw_inputs
from recomind.export.formats import ExportJob
from recomind.export.golden import make_golden
from recomind.export.onnx import describe
from recomind.export.onnx.format import EXAMPLES
from recomind.export.onnx.raw_requests import raw_requests
from recomind.policy import PolicyConfig, QNetwork
from recomind.ranker import RankerConfig, SessionRanker
from recomind.serving import ServingConfig, load_engine
from recomind.serving.http import Asked, respond_all
from recomind.serving.openapi import openapi
from recomind.streams import make_generator
from tests.data.raw_columns import columns_of, prepared
from tests.export.tiny import settings

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("onnxscript") is None, reason="pip install onnxscript"
)
COLUMNS = {"device", "level", "paid", "battery", "age", "country"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The raw log; what training saw of it [E, U]; a policy on it, and the example's functions."""
    folder = tmp_path_factory.mktemp("columns")
    log, logs = prepared(folder)
    dataset = SessionDataset.load([folder / "sessions"], 6)
    names = dataset.user_feature_names
    with torch.random.fork_rng(devices=[]):
        config = RankerConfig(dim=8, hidden=12, history_length=6, id_buckets=16)
        ranker = SessionRanker(dataset.catalogue, dataset.tasks, len(names), config)
        network = QNetwork(ranker, {"clicked": 1.0}, PolicyConfig()).eval()
    record = settings(
        released=True,
        judged="abc",
        inputs={"round_0/policy": "abc"},
        user_feature_names=names,
        raw=read_raw_inputs(folder / "sessions"),
    )
    export_policy(folder / "scorer", network, record)
    scorer = PolicyScorer(network, names)
    start = dataset.state(torch.arange(len(dataset)))
    golden = make_golden(scorer, make_generator(0), num_states=200, num_candidates=12, start=start)
    job = ExportJob(scorer=scorer, record=record, golden=golden)
    seen = logs.events.sort("time_ms").select(f"u_{name}" for name in names)
    engine = load_engine(folder / "scorer", ServingConfig(max_candidates=100))
    example = written_example(folder / "onnx", job)
    return log, seen.to_numpy(), job, engine, example


def written_example(folder, job) -> dict:
    """`example.py` over the real description and a graph of nothing, which is quick to make."""
    import onnx
    from onnx import TensorProto, helper

    folder.mkdir()
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("x", "y")]
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "nothing", value[:1], value[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, folder / "model.onnx")
    (folder / "model.json").write_text(json.dumps(describe.model(job, {})))
    shutil.copyfile(f"recomind/export/onnx/{EXAMPLES[0]}", folder / "example.py")
    return runpy.run_path(str(folder / "example.py")) | {
        "schema": describe.schema(job, folder / "model.onnx")
    }


def standardised(example: dict, request: dict) -> np.ndarray:
    features = example["features_of"](request)
    given = [(features[f["name"]] - f["mean"]) / f["std"] for f in example["MODEL"]["features"]]
    return np.clip(given, -8, 8)


def test_golden_requests_name_raw_columns_that_become_the_golden_states(exported):
    _, _, job, engine, example = exported
    requests = json.loads(json.dumps(raw_requests(job)))
    assert len(requests) == 200
    checker = jsonschema.Draft202012Validator(example["schema"])
    for request, true in zip(requests, job.golden.state.user_features, strict=True):
        assert request["user_features"].keys() >= COLUMNS
        assert not any(name.startswith(("device_", "hour_")) for name in request["user_features"])
        assert checker.is_valid(request)
        assert standardised(example, request) == pytest.approx(true.numpy(), abs=1e-6)
        asked = request | {"user_id": "u", "item_ids": request["item_ids"][:1]}
        assert engine.schema.parse(asked).user_features == pytest.approx(true.tolist(), abs=1e-6)
    assert {type(request["time"]) for request in requests} == {int, str}
    devices = {request["user_features"]["device"] for request in requests}
    assert devices == {"car", "phone", None}
    assert {request["user_features"]["age"] is None for request in requests} == {True, False}
    assert not checker.is_valid({k: v for k, v in requests[0].items() if k != "time"})


def test_rows_of_the_raw_log_become_the_states_of_training(exported):
    log, trained_EU, _, engine, example = exported
    scaling, names = engine.schema.names.scaling, engine.schema.feature_names
    made = engine.schema.names.encoding.encode(columns_of(log.row(0, named=True)), "2026-01-01")
    for num, (row, expected) in enumerate(zip(log.to_dicts(), trained_EU, strict=True)):
        rest = {
            name: float(value) * scaling[name].std + scaling[name].mean
            for name, value in zip(names, expected, strict=True)
            if name not in made
        }
        moment = datetime.fromtimestamp(row["ts"] / 1000, timezone(timedelta(hours=num % 9 - 4)))
        time = moment.isoformat() if num % 2 else row["ts"]
        request = {"user_features": rest | columns_of(row), "time": time}
        parsed = engine.schema.parse({"user_id": "u", "num": 1} | request)
        assert parsed.user_features == pytest.approx(expected, abs=1e-6)
        assert standardised(example, request) == pytest.approx(expected, abs=1e-6)


def test_the_service_publishes_the_columns_and_names_what_is_absent(exported):
    engine = exported[3]
    document = openapi(engine.schema)["components"]["schemas"]["RankRequest"]
    user = document["properties"]["user_features"]["anyOf"][0]
    assert user["properties"].keys() >= COLUMNS
    assert not {"device_car", "hour_sin", "age_missing"} & set(user["required"])
    body = {"user_id": "u", "user_features": {"device": "car"}, "num": 1}
    assert "a request without a time; expected: milliseconds since 1970" in refused(engine, body)
    error = refused(engine, body | {"time": "2026-01-31T18:30:00"})
    assert "'battery', 'age'" in error
    assert not {"device", "time"} & set(re.findall(r"\w+", error))


def refused(engine, body: dict) -> str:
    status, answer = respond_all(engine, [Asked("/rank", json.dumps(body).encode())])[0]
    assert status == 400
    return answer["error"]
