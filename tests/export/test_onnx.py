"""The folder `onnx` answers as the network does, with numpy and ONNX Runtime alone."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch

from recomind.artifacts import read_manifest
from recomind.data.encoding import FeatureEncoding
from recomind.errors import ConfigError
from recomind.export import PolicyScorer, RawInputs, export_and_verify, make_formats
from recomind.export.comparing import Answers, compare_answers
from recomind.export.golden import Golden, answer, make_golden, random_states
from recomind.export.onnx import graph
from recomind.export.onnx.format import run
from recomind.policy import PolicyConfig
from recomind.streams import make_generator
from recomind.types import SessionState
from tests.export import bare
from tests.export.tiny import LENGTH, NUM_ITEMS, TASKS, network, settings

needs_exporter = pytest.mark.skipif(
    importlib.util.find_spec("onnxscript") is None, reason="pip install onnxscript"
)
NAMES = ("hour_sin", "hour_cos", "device_car")
SCALING = {name: {"mean": 0.1 * at, "std": 0.5} for at, name in enumerate(NAMES)}
ENCODING = FeatureEncoding(categories={"device": {"car": "device_car"}}, clock="Europe/Berlin")
RAW = RawInputs(
    item_ids=[f"sku-{n * 7}" for n in range(NUM_ITEMS)], scaling=SCALING, encoding=ENCODING
)


@pytest.fixture(scope="module")
def scorer() -> PolicyScorer:
    """With all that a graph may have to hold: density of the logs, effects of items."""
    return PolicyScorer(
        network(PolicyConfig(support_ratio=0.5, support_density=0.3), effects=True), NAMES
    )


@pytest.fixture(scope="module")
def folder(scorer, tmp_path_factory) -> Path:
    """An export with 1,000 golden requests, traced once for both forms; not to be written to."""
    folder = tmp_path_factory.mktemp("onnx") / "scorer"
    formats = make_formats(["onnx", "onnx_fp16", "onnx_int8", "triton"])
    record = settings(raw=RAW, user_feature_names=NAMES)
    start = random_states(scorer.catalogue, TASKS, len(NAMES), LENGTH, 50, make_generator(8))
    start.user_features = torch.tensor([_scaled(minute) for minute in range(0, 1440, 29)])
    report = export_and_verify(folder, scorer.network, record, formats=formats, start=start)
    assert report["formats"]["onnx"]["max_abs_difference"] <= 1e-5
    assert report["formats"]["triton"] == report["formats"]["onnx"]
    assert (
        report["formats"]["onnx_fp16"]["ndcg_at_10"] > report["formats"]["onnx_int8"]["ndcg_at_10"]
    )
    return folder


def _scaled(minute: int) -> list[float]:
    """The features of a time of day, every second time in a car, as the network takes them."""
    device = "car" if minute % 2 else "boat"
    made = ENCODING.encode({"device": device}, f"2026-01-31T{minute // 60:02}:{minute % 60:02}")
    return [(made[name] - each["mean"]) / each["std"] for name, each in SCALING.items()]


def bare_python(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", bare.__file__, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@needs_exporter
@pytest.mark.slow
def test_numpy_and_onnxruntime_alone_rank_raw_requests_as_the_network_does(folder, tmp_path):
    there = (folder / "onnx").rename(tmp_path / "elsewhere")  # whole by itself
    try:
        done = bare_python(there / "example.py", there / "requests.json")
        assert done.returncode == 0, done.stderr
        answers = json.loads(done.stdout)
        with np.load(there / "golden.npz") as file:
            golden = dict(file)
    finally:
        there.rename(folder / "onnx")
    ids = np.array(RAW.item_ids)
    assert len(answers) == len(golden["output.q"]) == 1000
    places = [_wrong_places(answer, row, golden, ids) for row, answer in enumerate(answers)]
    assert sum(places) == 0


@needs_exporter
@pytest.mark.slow
def test_another_language_ranks_the_same_requests_alike(folder):
    """Node's ONNX Runtime: `npm install onnxruntime-node` anywhere, and NODE_PATH names it."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no `node` on the PATH")
    there = [node, "-e", "require('onnxruntime-node')"]
    if subprocess.run(there, capture_output=True, check=False, timeout=60).returncode:
        pytest.skip("node finds no onnxruntime-node: npm install it, and set NODE_PATH")
    onnx = folder / "onnx"
    command = [node, onnx / "example.cjs", onnx / "requests.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    with np.load(onnx / "golden.npz") as file:
        golden = dict(file)
    ids = np.array(RAW.item_ids)
    assert len(answers) == len(golden["output.q"]) == 1000
    assert sum(_wrong_places(each, row, golden, ids) for row, each in enumerate(answers)) == 0


def _wrong_places(answer, row: int, golden, ids: np.ndarray) -> int:
    """Places of a ranking held by an item whose value is another than the network's order has."""
    mask, order = golden["input.mask"][row], golden["output.order"][row]
    q, utility = golden["output.q"][row], golden["output.utility"][row]
    item, ranked = ids[golden["input.item_id"][row]], order[mask[order]]
    scores = dict(zip(answer["item_ids"], answer["scores"], strict=True))
    np.testing.assert_allclose([scores[i] for i in item[ranked]], q[ranked], atol=1e-5, rtol=0)
    values = np.where(golden["output.supported"][row], q, utility)
    value = dict(zip(item[ranked], values[ranked], strict=True))
    pairs = zip(answer["item_ids"], item[ranked], strict=True)
    return sum(ours != theirs and abs(value[ours] - value[theirs]) > 2e-5 for ours, theirs in pairs)


@pytest.mark.parametrize("name", ["torch", "ray", "polars", "recomind"])
def test_a_bare_environment_has_nothing_of_ours(name, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"import numpy, onnxruntime\nimport {name}\n")
    done = bare_python(script)
    assert done.returncode == 1
    assert f"not in a bare environment: {name}" in done.stderr


@needs_exporter
@pytest.mark.slow
def test_an_unknown_item_is_left_out_of_the_answer_and_of_the_history(folder, tmp_path):
    requests = json.loads((folder / "onnx" / "requests.json").read_text())
    request = next(r for r in requests if 0 < len(r["history"]) < LENGTH)
    event = {"item_id": "unheard of", "feedback": {"like": True}, "dwell_s": 9.0, "gap_s": 3.0}
    changed = request | {
        "item_ids": [*request["item_ids"], "unheard of"],
        "history": [event, *request["history"]],
    }
    asked = tmp_path / "asked.json"
    asked.write_text(json.dumps([request, changed]))
    done = bare_python(folder / "onnx" / "example.py", asked)
    assert done.returncode == 0, done.stderr
    known, unknown = json.loads(done.stdout)
    assert unknown["item_ids"] == known["item_ids"]
    np.testing.assert_allclose(unknown["scores"], known["scores"], atol=1e-6)


@needs_exporter
@pytest.mark.slow
def test_the_folder_says_what_it_takes_and_where_it_came_from(folder):
    onnx = folder / "onnx"
    schema = json.loads((onnx / "request.schema.json").read_text())
    requests = json.loads((onnx / "requests.json").read_text())
    checker = jsonschema.Draft202012Validator(schema)
    checker.check_schema(schema)
    assert all(checker.is_valid(request) for request in requests[:50])
    assert all(list(request["user_features"]) == ["device"] for request in requests)
    assert {type(request["time"]) for request in requests} == {str, int}
    assert not checker.is_valid(requests[0] | {"step": -1})
    told = {t["name"]: (t["type"], t["shape"]) for t in schema["tensors"]["inputs"]}
    assert list(told) == list(graph.INPUTS)
    assert told["history_feedback"] == ("tensor(bool)", ["batch", LENGTH, len(TASKS)])
    assert told["item_id"] == ("tensor(int64)", ["batch", "candidates"])
    outputs = [t["name"] for t in schema["tensors"]["outputs"]]
    assert outputs == [*graph.OUTPUTS, "log_density"]
    model = json.loads((onnx / "model.json").read_text())
    assert model["items"] == list(RAW.item_ids)
    assert model["utility_weights"] == {"watch_10s": 1.0, "like": 0.5, "hide": 0.0}
    assert (model["released"], model["reasons"]) == (False, list(settings().reasons))
    assert model["parity"]["passed"] is True
    listed = {name for name in read_manifest(folder).files if name.startswith("onnx/")}
    assert listed == {f"onnx/{path.name}" for path in onnx.iterdir()}


def adversarial_states(scorer: PolicyScorer, num: int) -> SessionState:
    """States [num]: random ones, and by turns empty, full, unheard-of, extreme and stale ones."""
    state = random_states(
        scorer.catalogue, TASKS, len(NAMES), LENGTH, num, make_generator(num), start=None
    )
    turn = torch.arange(num) % 6
    empty, full = turn == 1, turn == 2
    state.history_mask[empty] = False
    state.gap_s[empty] = 0.0
    state.step[empty] = 0
    state.history_mask[full] = True
    state.user_features[turn == 3] = 8.0
    state.user_features[turn == 4] *= 0.0
    state.history_dwell_s[turn == 5] = 1e7
    state.history_gap_s[turn == 5] = 1e9
    state.gap_s[turn == 5] = 1e9
    state.step[turn == 5] = 10_000
    return state


@needs_exporter
@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_states", "num_candidates", "share"),
    [(1, 1, 1.0), (1, 2000, 1.0), (600, 1, 1.0), (9200, 12, 0.6), (200, 40, 0.05)],
)
def test_any_states_any_candidates(scorer, folder, num_states, num_candidates, share):
    state = adversarial_states(scorer, num_states)
    generator = make_generator(num_candidates)
    shape = (num_states, num_candidates)
    item_id = torch.randint(NUM_ITEMS, shape, generator=generator)
    mask = torch.rand(shape, generator=generator) < share  # some rows may be padding alone
    asked = answer(scorer, state, item_id * mask, mask)
    found = _found(folder, asked)
    report = compare_answers(found, asked)
    assert (report["num_order_differences"], report["num_support_differences"]) == (0, 0)
    # Scores of extreme states are large, and float32 has seven digits.
    for ours, true in ((found.q, asked.q), (found.utility, asked.utility)):
        torch.testing.assert_close(ours[mask], true[mask], atol=1e-5, rtol=1e-5)
    assert report["max_log_density_difference"] <= 1e-4
    if num_candidates > 1:
        assert bool((mask & ~asked.supported).any())  # the support constraint binds


@needs_exporter
@pytest.mark.slow
def test_a_model_repository_tells_triton_the_tensors_of_the_graph(folder):
    policy = folder / "triton" / "policy"
    assert (policy / "1" / "model.onnx").read_bytes() == (folder / "onnx/model.onnx").read_bytes()
    told = (policy / "config.pbtxt").read_text().splitlines()
    assert told[:3] == ['name: "policy"', 'backend: "onnxruntime"', "max_batch_size: 0"]
    of_mask = 'input [ { name: "mask" data_type: TYPE_BOOL dims: [ -1, -1 ] } ]'
    of_order = 'output [ { name: "order" data_type: TYPE_INT64 dims: [ -1, -1 ] } ]'
    of_user = (
        f'input [ {{ name: "user_features" data_type: TYPE_FP32 dims: [ -1, {len(NAMES)} ] }} ]'
    )
    assert {of_mask, of_order, of_user} <= set(told)
    assert len(told) == 3 + len(graph.INPUTS) + len(graph.OUTPUTS) + 1  # the density


@needs_exporter
@pytest.mark.slow
def test_arrays_need_not_be_contiguous(scorer, folder):
    golden = make_golden(scorer, make_generator(4), num_states=40, num_candidates=8)
    session = graph.open_session(folder / "onnx" / "model.onnx")
    inputs = graph.feeds(golden)
    strided = {name: np.repeat(array, 2, axis=0)[::2] for name, array in inputs.items()}
    assert not strided["item_id"].flags.c_contiguous
    turned = {name: np.asfortranarray(array) for name, array in inputs.items()}
    expected = graph.ask(session, inputs)
    for given in (strided, turned):
        for name, found in graph.ask(session, given).items():
            np.testing.assert_array_equal(found, expected[name])


@needs_exporter
@pytest.mark.slow
def test_ties_go_by_item_id_and_then_by_slot(scorer, folder):
    golden = make_golden(scorer, make_generator(5), num_states=30, num_candidates=6)
    item_id = torch.cat([golden.item_id, golden.item_id.flip(1)], dim=1)  # each item twice
    mask = torch.cat([golden.mask, golden.mask.flip(1)], dim=1)
    asked = answer(scorer, golden.state, item_id, mask)
    assert compare_answers(_found(folder, asked), asked)["num_order_differences"] == 0


def _found(folder: Path, asked: Golden) -> Answers:
    arrays = run(folder / "onnx" / "model.onnx", asked)
    return Answers(**{name: torch.from_numpy(array) for name, array in arrays.items()})


@pytest.mark.parametrize("name", ["q", "utility", "supported", "order", "log_density"])
def test_another_answer_is_seen(scorer, name):
    golden = make_golden(scorer, make_generator(9), num_states=20, num_candidates=6)
    fields = ("order", "q", "utility", "supported", "log_density")
    true = Answers(**{field: getattr(golden, field) for field in fields})
    assert compare_answers(true, golden)["passed"]
    answers = getattr(golden, name)
    if name == "order":
        other = answers.flip(1)
    elif name == "supported":
        other = ~answers
    else:
        other = answers + 1e-2
    assert not compare_answers(replace(true, **{name: other}), golden)["passed"]
    if name in ("q", "utility"):
        nothing = torch.full_like(answers, torch.nan)
        assert not compare_answers(replace(true, **{name: nothing}), golden)["passed"]


def test_it_needs_a_table_of_item_vectors(tmp_path):
    formats = make_formats(["onnx"])
    with pytest.raises(ConfigError, match="ONNX needs the table of item vectors; got: 40 items"):
        export_and_verify(tmp_path / "s", network(max_table_items=1), settings(), formats=formats)
    assert list(tmp_path.iterdir()) == []


def test_a_ranker_of_a_class_of_its_own_is_refused(scorer):
    own = PolicyScorer(network(), NAMES)
    own.network.frozen = torch.nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ConfigError, match=r"no ONNX form; got: Identity"):
        graph.check_possible(own)


def test_absent_packages_are_named(scorer, monkeypatch):
    monkeypatch.setattr(graph.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install onnx onnxscript onnxruntime"):
        graph.check_possible(scorer)
