"""One graph of three: the user's inputs, their model, and ours.

user_id, history_..., item_id -> [rows] -> their inputs [R, ...] -> [theirs] -> outputs [R, H]
                                                -> [B, K, H] -> [ours] -> order, q, ...
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import ModelProto, TensorProto, helper, version_converter

from recomind.adapters import ExternalConfig, ExternalKind
from recomind.adapters.onnx_file import refuse_external_data
from recomind.adapters.torch_module import load_torchscript
from recomind.errors import ConfigError
from recomind.export.onnx.graph import (
    BATCH,
    CANDIDATES,
    THEIRS,
    sample_feeds,
    state_inputs,
    to_onnx,
    trace,
)
from recomind.export.onnx.theirs import Given, TheirInputs, external_part, standing_in
from recomind.export.scorer import PolicyScorer

_AT = "theirs/"  # before the names of their part


def composed(scorer: PolicyScorer) -> tuple[ModelProto, ModelProto | None]:
    """The policy's graph; and that of the rows of a model that stays outside of it.

    Raises:
        ConfigError: a part cannot become ONNX.
    """
    external = external_part(scorer.network.frozen)
    assert external is not None
    with standing_in(external) as stand_in:
        if not isinstance(stand_in, Given):
            return _proto(trace(scorer)), None
        ours = _proto(trace(scorer, stand_in))
    config = external.config
    rows, names = _rows(scorer)
    if config.kind is ExternalKind.lightgbm:
        return ours, rows
    theirs = _their_model(config, external.model_path, scorer, names)
    return _joined(rows, theirs, ours, config), None


def _proto(program: torch.onnx.ONNXProgram) -> ModelProto:
    return program.model_proto


def _rows(scorer: PolicyScorer) -> tuple[ModelProto, list[str]]:
    """The graph of the user's function, and the names of what it returns."""
    external = external_part(scorer.network.frozen)
    assert external is not None
    fields = state_inputs(scorer)
    module, sample = TheirInputs(external, fields), sample_feeds(scorer)
    arguments = [torch.from_numpy(sample[name]) for name in (*fields, "item_id")]
    named = module.named(*arguments)
    shapes = [*({0: BATCH} for _ in fields), {0: BATCH, 1: CANDIDATES}]
    outputs = [f"{_AT}{name}" for name in named]
    program = to_onnx(module.eval(), arguments, shapes, (*fields, "item_id"), outputs)
    return _proto(program), list(named)


def _their_model(
    config: ExternalConfig, path: Path, scorer: PolicyScorer, names: list[str]
) -> ModelProto:
    """Their model as ONNX, whose inputs are called as the user's function calls them."""
    if config.kind is ExternalKind.torchscript:
        return _from_torchscript(config, path, scorer, names)
    content = path.read_bytes()
    refuse_external_data(content, path)
    model = onnx.load_model_from_string(content)
    given = [each.name for each in model.graph.input]
    if names == ["input_0"] and len(given) == 1:  # one array, which needs no name
        _rename(model, given[0], "input_0")
    return model


def _from_torchscript(
    config: ExternalConfig, path: Path, scorer: PolicyScorer, names: list[str]
) -> ModelProto:
    """A TorchScript file by torch's earlier exporter, the only one that reads such files."""
    external, fields = external_part(scorer.network.frozen), state_inputs(scorer)
    assert external is not None
    sample = sample_feeds(scorer)
    arguments = [torch.from_numpy(sample[name]) for name in (*fields, "item_id")]
    rows = tuple(TheirInputs(external, fields).named(*arguments).values())
    module, content = load_torchscript(config, path), io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                rows,
                content,  # pyright: ignore[reportArgumentType]
                dynamo=False,
                input_names=list(names),
                output_names=["output"],
                dynamic_axes={name: {0: "rows"} for name in (*names, "output")},
                opset_version=18,
            )
    except Exception as error:  # whatever an operator without a form in ONNX raises
        raise ConfigError(
            "the TorchScript ranker has no ONNX form",
            got=str(error).strip()[:600],
            mend="export without ONNX and serve the scorer's folder, which holds the model",
        ) from error
    return onnx.load_model_from_string(content.getvalue())


def _joined(
    rows: ModelProto, theirs: ModelProto, ours: ModelProto, config: ExternalConfig
) -> ModelProto:
    opset = _opset(ours)
    if _opset(theirs) != opset:
        try:
            theirs = version_converter.convert_version(theirs, opset)
        except Exception as error:
            raise ConfigError(
                "the ONNX ranker cannot be brought to the operators of the policy's graph",
                got=f"opset {_opset(theirs)}: {error}",
                expected=f"opset {opset}",
            ) from error
    outputs = [each.name for each in theirs.graph.output]
    if set(outputs) == set(config.tasks):
        outputs = list(config.tasks)
    theirs = onnx.compose.add_prefix(theirs, _AT)
    rows = _with_prefix(rows, "rows/")
    ours = _with_prefix(ours, "ours/")
    glue = _reshaping([f"{_AT}{name}" for name in outputs], len(config.tasks))
    parts = [rows.graph, theirs.graph, ours.graph]
    graph = helper.make_graph(
        [*rows.graph.node, *theirs.graph.node, *glue, *ours.graph.node],
        "policy",
        [each for each in ours.graph.input if each.name != THEIRS],
        list(ours.graph.output),
        [tensor for part in parts for tensor in part.initializer],
    )
    opsets: dict[str, int] = {}
    for model in (rows, theirs, ours):
        for each in model.opset_import:
            opsets[each.domain] = max(each.version, opsets.get(each.domain, 0))
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(name, version) for name, version in opsets.items()],
        functions=[*rows.functions, *theirs.functions, *ours.functions],
        ir_version=max(rows.ir_version, theirs.ir_version, ours.ir_version),
    )


def _with_prefix(model: ModelProto, prefix: str) -> ModelProto:
    """Inner names under a prefix; inputs and outputs, by which the parts meet, as they are."""
    return onnx.compose.add_prefix(model, prefix, rename_inputs=False, rename_outputs=False)


def _reshaping(outputs: list[str], num_tasks: int) -> list[Any]:
    """Nodes from outputs [R, H], or one [R] or [R, 1] a task, to `THEIRS` [B, K, H]."""
    make = helper.make_node
    columns = 1 if len(outputs) > 1 else num_tasks
    of_column = helper.make_tensor("glue/columns", TensorProto.INT64, [1], [columns])
    nodes = [
        make("Constant", [], ["glue/num"], value=of_column),
        make("Shape", ["item_id"], ["glue/pool"]),
        make("Concat", ["glue/pool", "glue/num"], ["glue/shape"], axis=0),
    ]
    shaped = [f"glue/output_{place}" for place in range(len(outputs))]
    for name, to in zip(outputs, shaped, strict=True):
        nodes.append(make("Reshape", [name, "glue/shape"], [f"{to}_any"]))
        nodes.append(make("Cast", [f"{to}_any"], [to], to=TensorProto.FLOAT))
    return [*nodes, make("Concat", shaped, [THEIRS], axis=2)]


def _opset(model: ModelProto) -> int:
    return next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))


def _rename(model: ModelProto, old: str, new: str) -> None:
    """Another name for an input."""
    for each in model.graph.input:
        each.name = new if each.name == old else each.name
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = new if name == old else name
