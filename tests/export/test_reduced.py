"""Graphs with smaller weights: close to the whole ones, half the size, and held to their bounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from recomind.export import PolicyScorer
from recomind.export.comparing import ndcg_of
from recomind.export.golden import make_golden
from recomind.export.onnx.graph import open_session
from recomind.export.onnx.reduced import FP16, INT8, to_half, to_int8
from recomind.streams import make_generator
from tests.export.tiny import NAMES, network

DIM, NUM = 24, 100


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A table that is looked up, a `Gemm`, a product with a vector, and a weight too large."""
    rng = np.random.default_rng(0)
    weights = {
        "table": rng.normal(size=(NUM, DIM)),
        "weight": rng.normal(size=(DIM, DIM)) / DIM**0.5,
        "bias": rng.normal(size=DIM),
        "vector": rng.normal(size=DIM),
        "steep": np.full((1, 512), 1e6),
    }
    stored = [numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()]
    node = helper.make_node
    nodes = [
        node("Gather", ["table", "item"], ["rows"], name="look_up"),
        node("Gemm", ["rows", "weight", "bias"], ["hidden"], name="layer", transB=1),
        node("Relu", ["hidden"], ["active"], name="relu"),
        node("MatMul", ["active", "vector"], ["score"], name="weigh"),
        node("Identity", ["steep"], ["walls"], name="walls"),
    ]
    item = helper.make_tensor_value_info("item", TensorProto.INT64, ["n"])
    outputs = [
        helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("walls", TensorProto.FLOAT, [1, 512]),
    ]
    graph = helper.make_graph(nodes, "tiny", [item], outputs, stored)
    path = tmp_path_factory.mktemp("reduced") / "whole.onnx"
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def scores(path: Path) -> list[np.ndarray]:
    return open_session(path).run(None, {"item": np.arange(NUM)})


@pytest.mark.parametrize(
    ("reduce", "deviations", "size"), [(to_half, 0.003, 0.75), (to_int8, 0.06, 0.65)]
)
def test_a_smaller_graph_answers_nearly_alike(whole, tmp_path, reduce, deviations, size):
    path = tmp_path / "small.onnx"
    reduce(whole, path)
    (small, walls), (large, _) = scores(path), scores(whole)
    difference = np.abs(small - large).max() / large.std()
    assert 0 < difference <= deviations
    assert path.stat().st_size <= size * whole.stat().st_size
    assert walls.max() == 1e6  # more than float16 holds


def test_what_is_looked_up_stays_half_in_memory(whole, tmp_path):
    to_half(whole, tmp_path / "half.onnx")
    model = onnx.load(tmp_path / "half.onnx")
    by_name = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert by_name["table"] == by_name["weight"] == TensorProto.FLOAT16
    assert by_name["bias"] == by_name["steep"] == TensorProto.FLOAT
    (look_up,) = [node for node in model.graph.node if node.op_type == "Gather"]
    casts = {node.input[0] for node in model.graph.node if node.op_type == "Cast"}
    assert casts == {look_up.output[0], "weight"}


def test_ndcg_is_one_for_the_golden_order_and_less_for_another():
    scorer = PolicyScorer(network(), NAMES)
    golden = make_golden(scorer, make_generator(3), num_states=30, num_candidates=30)
    assert ndcg_of(golden, golden.order) == pytest.approx(1.0)
    swapped = golden.order[:, [1, 0, *range(2, 30)]]
    backwards = golden.order.flip(1)
    assert ndcg_of(golden, backwards) < ndcg_of(golden, swapped) < 1.0
    assert ndcg_of(golden, torch.arange(30).expand(30, 30)) < 0.99


def test_each_states_a_bound():
    assert 0 < FP16.max_deviations < INT8.max_deviations
    assert 0.9 < INT8.min_ndcg < FP16.min_ndcg < 1
