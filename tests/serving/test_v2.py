"""The Open Inference Protocol: the scorer's own numbers, and bad tensors named."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch

from recomind.export import random_states
from recomind.serving.http import INFER, Asked, respond_all
from recomind.serving.v2 import _INPUTS, model_metadata
from recomind.streams import make_generator
from tests.export.tiny import LENGTH


def tensor(name, value, dtype):
    return {
        "name": name,
        "datatype": dtype,
        "shape": list(value.shape),
        "data": value.flatten().tolist(),
    }


@pytest.fixture(scope="module")
def asked(engine):
    scorer, generator = engine.scorer, make_generator(0)
    state = random_states(scorer.catalogue, scorer.feedback_tasks, 3, LENGTH, 3, generator)
    item_id = torch.tensor([[8, 15, 16, 3]] * 3)
    mask = torch.tensor([[True] * 4, [True, False, True, True], [False, False, False, True]])
    named = {name: getattr(state, name) for name in _INPUTS if name != "item_id"}
    inputs = [tensor(name, value, _INPUTS[name][0]) for name, value in named.items()]
    inputs += [tensor("item_id", item_id, "INT64"), tensor("mask", mask, "BOOL")]
    return {"id": "r7", "inputs": inputs}, (state, item_id, mask)


def infer(engine, payload):
    return respond_all(engine, [Asked(INFER, json.dumps(payload).encode())])[0]


def test_the_answer_is_the_scorers(engine, asked):
    payload, (state, item_id, mask) = asked
    status, answer = infer(engine, payload)
    assert status == 200, answer
    order, score, supported = engine.scorer.rank_supported(state, item_id, mask)
    outputs = {each["name"]: each for each in answer["outputs"]}
    assert (answer["id"], answer["model_version"]) == ("r7", engine.identity)
    assert outputs["order"]["data"] == order.flatten().tolist()
    assert outputs["supported"]["data"] == (supported & mask).flatten().tolist()
    found = torch.tensor(outputs["score"]["data"]).reshape(3, 4)
    assert torch.equal(found[mask], score[mask])
    assert all(math.isfinite(value) for value in outputs["score"]["data"])


def test_nested_data_are_the_same(engine, asked):
    payload = copy.deepcopy(asked[0])
    for entry in payload["inputs"]:
        entry["data"] = torch.tensor(entry["data"]).reshape(entry["shape"]).tolist()
    assert infer(engine, payload) == infer(engine, asked[0])


def changed(payload, name, changes):
    other = copy.deepcopy(payload)
    entry = next(each for each in other["inputs"] if each["name"] == name)
    entry.update(changes)
    return other


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("step", {"datatype": "INT32"}, "input step; got: 'INT32'"),
        ("step", {"data": [1, 2]}, "shape [3], 2 values"),
        ("step", {"data": [1, 2, 3.5]}, "a tensor's data; got: 3.5"),
        ("step", {"data": [1, 2, 2**70]}, "input step"),
        ("step", {"shape": [2], "data": [1, 2]}, "expected: [B] = [3]"),
        ("step", {"shape": [3, 1]}, "input step"),
        ("step", {"shape": [-3]}, "input step"),
        ("step", {"name": "steps"}, "an input; got: 'steps'"),
        ("gap_s", {"data": [1, 2, 1e39]}, "not finite"),
        ("item_id", {"data": [40] * 12}, "integers in [0, 39]"),
        ("mask", {"data": [False] * 12}, "a row without candidates"),
        ("mask", {"data": [1] * 12}, "a tensor's data; got: 1"),
        ("mask", {"data": None}, "input mask"),
    ],
)
def test_what_is_wrong_is_named(engine, asked, name, changes, message):
    status, answer = infer(engine, changed(asked[0], name, changes))
    assert status == 400
    assert message in answer["error"]


def test_inputs_must_be_all_there(engine, asked):
    payload = {"inputs": asked[0]["inputs"][1:]}
    assert "absent; got: ['user_features']" in infer(engine, payload)[1]["error"]
    assert infer(engine, {"inputs": 3})[0] == infer(engine, [])[0] == 400


def test_metadata_name_the_tensors(engine):
    told = model_metadata(engine.schema, engine.identity)
    assert told["versions"] == [engine.identity]
    shapes = {each["name"]: each["shape"] for each in told["inputs"]}
    assert shapes["history_feedback"] == [-1, -1, 3]
    assert shapes["user_features"] == [-1, 3]
