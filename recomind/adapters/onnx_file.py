"""An ONNX file through ONNX Runtime, on one thread.

The inputs function returns a mapping from the file's input names to arrays or tensors, or one
array where there is one input. The file has one output [R, H], or one output a task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from recomind.adapters.config import ExternalConfig
from recomind.adapters.flat_rows import call
from recomind.errors import ArtifactError, SchemaError, did_you_mean

if TYPE_CHECKING:
    import onnx

_MAX_BYTES = 2**31 - 1


def load_onnx(config: ExternalConfig, path: Path) -> Callable[[Any], np.ndarray]:
    """A function from the inputs of R rows to [R, H].

    Raises:
        ArtifactError: not an ONNX file, one that reads other files, or outputs that are no
            tensors of the tasks. The function raises SchemaError where ONNX Runtime refuses what
            it is asked.
    """
    import onnxruntime

    content = _content(path)
    refuse_external_data(content, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only; what is wrong is raised as well
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ArtifactError("ONNX Runtime refuses the file", got=f"{path}: {error}") from error
    chosen = _outputs(session, config.tasks, path)
    known = [node.name for node in session.get_inputs()]

    def ask(inputs: Any) -> np.ndarray:
        outputs = session.run(chosen, _feeds(inputs, known, path))
        arrays = [np.asarray(output) for output in outputs]
        if len(arrays) == 1:
            return arrays[0]
        return np.stack([a[:, 0] if a.ndim == 2 and a.shape[1] == 1 else a for a in arrays], -1)

    return lambda inputs: call(ask, inputs, f"onnx ranker {path.name}")


def _content(path: Path) -> bytes:
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise ArtifactError(
            "ranker.external.path holds no ONNX model",
            got=f"{path} of {size} bytes",
            expected=f"at most {_MAX_BYTES}, which is protobuf's own limit",
        )
    return path.read_bytes()


def refuse_external_data(content: bytes, path: Path) -> None:
    """Raise ArtifactError unless `content` is an ONNX model that is whole by itself.

    Weights beside the file are named by paths inside it, and such paths have led out of the
    folder before (CVE-2026-27489 and the two after it).
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ArtifactError(
            "ranker.external.path holds no ONNX model", got=f"{path}: {error}"
        ) from error
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ArtifactError(
                "the ONNX file keeps weights in other files",
                got=f"{path}: tensor {tensor.name!r}",
                expected="one file that is whole by itself",
                mend="onnx.save(onnx.load(path), new_path, save_as_external_data=False)",
            )


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from _graph_tensors(model.graph)
    for training in model.training_info:
        yield from _graph_tensors(training.initialization)
        yield from _graph_tensors(training.algorithm)
    for function in model.functions:
        yield from _node_tensors(function.node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Any) -> Iterator[onnx.TensorProto]:
    for attribute in (a for node in nodes for a in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        if attribute.HasField("g"):
            yield from _graph_tensors(attribute.g)
        for graph in attribute.graphs:
            yield from _graph_tensors(graph)


def _outputs(session: Any, tasks: list[str], path: Path) -> list[str]:
    """Names of the outputs to ask for: the only one, or one a task, by name where names fit."""
    types = {node.name: node.type for node in session.get_outputs()}
    tensors = all(kind in ("tensor(float)", "tensor(double)") for kind in types.values())
    if not tensors or len(types) not in (1, len(tasks)):
        raise ArtifactError(
            "the outputs of the ONNX file are not the tasks",
            got=f"{types} in {path}",
            expected=f"one float output [R, {len(tasks)}], or one for each of {tasks}",
            mend="for scikit-learn and LightGBM convert with zipmap=False and keep only the "
            "probabilities of the positive class",
        )
    return list(tasks) if set(types) == set(tasks) else list(types)


def _feeds(inputs: Any, known: list[str], path: Path) -> dict[str, np.ndarray]:
    if not isinstance(inputs, Mapping):
        if len(known) != 1:
            raise SchemaError(
                "ranker.external.inputs must name the inputs of the ONNX file",
                got=type(inputs).__name__,
                expected=f"a mapping with {known} for {path.name}",
            )
        inputs = {known[0]: inputs}
    for name in set(inputs) ^ set(known):
        wrong = "the ONNX file has no such input" if name in inputs else "an input is not given"
        mend = did_you_mean(name, known) if name in inputs else ""
        raise SchemaError(f"{wrong}: {name!r}", got=sorted(inputs), expected=known, mend=mend)
    return {k: v.numpy() if isinstance(v, Tensor) else np.asarray(v) for k, v in inputs.items()}
