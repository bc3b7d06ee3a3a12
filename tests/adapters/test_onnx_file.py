"""An ONNX file, written with onnx alone, through ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from recomind.adapters.onnx_file import load_onnx
from recomind.errors import ArtifactError, SchemaError
from recomind.ranker import load_external
from recomind.ranker.config import ExternalConfig, ExternalKind, OutputKind
from tests.adapters.models import Flat, answers, auc, catalogue, crossed, rows, train

TASKS = ["watch_10s", "like"]
INPUTS = [("user", [None, 2]), ("other", [None, 6])]


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return train(Flat(), crossed).eval()


def weights(model):
    names = {"net.0.weight": "w0", "net.0.bias": "b0", "net.3.weight": "w1", "net.3.bias": "b1"}
    return [
        numpy_helper.from_array(tensor.detach().numpy(), names[key])
        for key, tensor in model.state_dict().items()
    ]


def nodes(*last):
    """A multi-layer perceptron over two inputs, then the nodes `last`."""
    return [
        helper.make_node("Concat", ["user", "other"], ["x"], axis=1),
        helper.make_node("Gemm", ["x", "w0", "b0"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w1", "b1"], ["z"], transB=1),
        *last,
    ]


SIGMOID = helper.make_node("Sigmoid", ["z"], ["p"])
SWAP = helper.make_node("Gather", ["p", "one_zero"], ["q"], axis=1)


def save(path, graph_nodes, outputs, initializers, **graph_values):
    graph = helper.make_graph(
        graph_nodes,
        "ranker",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in INPUTS],
        outputs,
        initializers,
        **graph_values,
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.save(proto, path)
    return proto


def floats(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def by_name(batch):
    features = crossed(batch)
    return {"user": features[:, :2], "other": features[:, 2:].numpy()}


def make(path, inputs="by_name", tasks=TASKS, **changes):
    config = ExternalConfig(
        kind=ExternalKind.onnx,
        path=str(path),
        inputs=f"{__name__}.{inputs}",
        tasks=list(tasks),
        **changes,
    )
    return load_external(config, catalogue())


def ask(ranker, batch):
    return ranker.score(ranker.encode_state(batch.state), batch.item_id[:, None])[:, 0]


@pytest.fixture
def path(model, tmp_path):
    path = tmp_path / "ranker.onnx"
    save(path, nodes(SIGMOID), [floats("p", None, 2)], weights(model))
    return path


@pytest.mark.parametrize("chunk_rows", [7, 65_536])
def test_it_answers_as_the_model(model, path, chunk_rows):
    batch = rows(30, seed=4)
    expected = model(crossed(batch)).detach()
    logits = ask(make(path, chunk_rows=chunk_rows), batch)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_logits_are_taken_as_they_are(model, tmp_path):
    save(tmp_path / "z.onnx", nodes(), [floats("z", None, 2)], weights(model))
    batch = rows(30)
    logits = ask(make(tmp_path / "z.onnx", output=OutputKind.logits), batch)
    torch.testing.assert_close(logits, model(crossed(batch)).detach(), atol=1e-5, rtol=1e-5)
    with pytest.raises(
        SchemaError, match=r"onnx ranker z\.onnx returned a value that is no probability"
    ):
        ask(make(tmp_path / "z.onnx"), batch)


def test_it_knows_what_it_learned(path):
    batch = rows(1000, seed=5)
    assert auc(ask(make(path), batch)[:, 0], answers(batch, 6)[:, 0]) > 0.75


@pytest.mark.parametrize("names", [("like", "watch_10s"), ("like", "skip")])
def test_an_output_for_each_task(model, tmp_path, names):
    """By name where the names are the tasks', else in the file's order."""
    path, batch = tmp_path / "two.onnx", rows(20)
    split = helper.make_node("Split", ["q"], list(names), axis=1, num_outputs=2)
    order = numpy_helper.from_array(np.array([1, 0]), "one_zero")
    outputs = [floats(name, None, 1) for name in names]
    save(path, nodes(SIGMOID, SWAP, split), outputs, [*weights(model), order])
    logits = ask(make(path, tasks=["watch_10s", names[1]] if "skip" in names else TASKS), batch)
    expected = model(crossed(batch)).detach()
    if "skip" in names:
        expected = expected[:, [1, 0]]
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def only_user(batch):
    return {"user": crossed(batch)[:, :2]}


def misspelt(batch):
    return by_name(batch) | {"usr": crossed(batch)[:, :2]}


def unnamed(batch):
    return crossed(batch)


def doubles(batch):
    return {name: np.asarray(value, np.float64) for name, value in by_name(batch).items()}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("only_user", r"an input is not given: 'other'; got: \['user'\]; expected: \['user', 'o"),
        ("misspelt", "no such input: 'usr'.*did you mean 'user'"),
        ("unnamed", r"must name the inputs of the ONNX file; got: Tensor; .*ranker\.onnx"),
        ("doubles", r"onnx ranker ranker\.onnx failed on what .*tensor\(double\)"),
    ],
)
def test_inputs_that_do_not_fit(path, inputs, message):
    with pytest.raises(SchemaError, match=message):
        ask(make(path, inputs), rows(3))


@pytest.mark.parametrize("tasks", [["like"], ["watch_10s", "like", "hide"]])
def test_a_wrong_number_of_tasks(path, tasks):
    with pytest.raises(SchemaError, match=r"got: \[3, 2\]; expected: floats \[3, "):
        ask(make(path, tasks=tasks), rows(3))


def test_a_dictionary_for_each_row_is_refused(model, tmp_path):
    zipmap = helper.make_node(
        "ZipMap", ["p"], ["zipped"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]
    )
    of_one = helper.make_map_type_proto(
        TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    )
    output = helper.make_value_info("zipped", helper.make_sequence_type_proto(of_one))
    save(tmp_path / "zip.onnx", nodes(SIGMOID, zipmap), [output], weights(model))
    with pytest.raises(ArtifactError, match=r"not the tasks; got: .*seq\(map.*zipmap=False"):
        make(tmp_path / "zip.onnx")


def test_labels_beside_probabilities_are_refused(model, tmp_path):
    """What a classifier's converter writes: a class and a row of probabilities."""
    label = helper.make_node("ArgMax", ["p"], ["label"], axis=1, keepdims=0)
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
        floats("p", None, 2),
    ]
    save(tmp_path / "label.onnx", nodes(SIGMOID, label), outputs, weights(model))
    with pytest.raises(ArtifactError, match=r"not the tasks; got: .*'label': 'tensor\(int64\)'"):
        make(tmp_path / "label.onnx")


def outside(tensor, location):
    """`tensor` as a reference to a file."""
    beside = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    beside.data_location = TensorProto.EXTERNAL
    beside.external_data.add(key="location", value=location)
    return beside


def in_a_branch(tensor):
    """A node whose branches hold `tensor` as a constant."""
    graph = helper.make_graph(
        [helper.make_node("Constant", [], ["b"], value=tensor)], "branch", [], [floats("b", 16)]
    )
    return helper.make_node("If", ["yes"], ["b0"], then_branch=graph, else_branch=graph)


@pytest.mark.parametrize("where", ["initializer", "constant", "branch", "sparse"])
@pytest.mark.parametrize("location", ["beside.bin", "../beside.bin", "/etc/hostname"])
def test_weights_in_other_files_are_refused(model, tmp_path, where, location):
    kept = {tensor.name: tensor for tensor in weights(model)}
    bias = outside(kept.pop("b0"), location)
    yes = numpy_helper.from_array(np.array(True), "yes")
    first, sparse = [], []
    match where:
        case "initializer":
            kept["b0"] = bias
        case "constant":
            first = [helper.make_node("Constant", [], ["b0"], value=bias)]
        case "branch":
            first = [in_a_branch(bias)]
        case "sparse":
            index = numpy_helper.from_array(np.arange(16), "index")
            sparse = [onnx.SparseTensorProto(values=bias, indices=index, dims=[16])]
    (tmp_path / "deep").mkdir()
    values = np.zeros(16, np.float32).tobytes()
    for folder in (tmp_path, tmp_path / "deep"):
        (folder / "beside.bin").write_bytes(values)
    save(
        tmp_path / "deep" / "r.onnx",
        [*first, *nodes(SIGMOID)],
        [floats("p", None, 2)],
        [*kept.values(), yes],
        sparse_initializer=sparse,
    )
    with pytest.raises(ArtifactError, match=r"keeps weights in other files; .*'b0'"):
        make(tmp_path / "deep" / "r.onnx")


@pytest.mark.parametrize("content", [b"", b"\x00\x01", b"not a model\n" * 40])
def test_what_is_no_onnx_file(tmp_path, content):
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"holds no ONNX model|ONNX Runtime refuses"):
        make(tmp_path / "x.onnx")


def test_a_truncated_file(path):
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ArtifactError, match=r"ranker\.onnx"):
        make(path)


def test_a_file_that_contradicts_its_own_inputs_is_one_typed_error(tmp_path):
    """ONNX Runtime has an error class for each thing it refuses; none of them is documented."""
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])]
    nodes = [helper.make_node("Sigmoid", ["x"], ["p"])]
    graph = helper.make_graph(nodes, "flat", given, [floats("p", None)])
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "x.onnx")
    config = ExternalConfig(
        kind=ExternalKind.onnx,
        path=str(tmp_path / "x.onnx"),
        inputs="a.b",
        tasks=["like"],
        output=OutputKind.probabilities,
    )
    ask_file = load_onnx(config, tmp_path / "x.onnx")
    with pytest.raises(SchemaError, match=r"onnx ranker x\.onnx failed on .*Invalid rank"):
        ask_file(np.zeros((2, 3), dtype=np.float32))
