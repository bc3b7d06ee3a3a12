"""Formats `onnx_fp16` and `onnx_int8`: the folder of `onnx`, with smaller weights.

    fp16   weights are stored with 11 significant bits and used as float32: half the file, and half
           the memory of tables of items
    int8   weights of products and tables in 8 bits, with a scale each; what is multiplied with
           them is quantised as it comes (ONNX Runtime's dynamic quantisation)

Neither answers as the trained network does within 1e-5, so each states a bound of its own and is
held to it on the golden requests: of the largest difference of a score, in standard deviations of
the network's scores, and of NDCG@10 against the network's own order. Ours.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper

from recomind.adapters import ExternalKind
from recomind.errors import ConfigError
from recomind.export.comparing import ndcg_of
from recomind.export.formats import ExportJob
from recomind.export.golden import Golden
from recomind.export.onnx.format import MODEL, run, write_beside, write_model
from recomind.export.onnx.graph import check_possible
from recomind.export.onnx.theirs import external_part
from recomind.export.scorer import PolicyScorer

_MIN_ELEMENTS = 256  # smaller tensors stay as they are


@dataclass(frozen=True, slots=True)
class ReducedFormat:
    """See the module."""

    name: str
    reduce: Callable[[Path, Path], None]  # from a file to a file
    max_deviations: float  # bound of the largest difference of a score
    min_ndcg: float  # bound of NDCG@10

    def check_possible(self, scorer: PolicyScorer) -> None:
        """Raise ConfigError unless `scorer` can become one ONNX graph here."""
        check_possible(scorer)
        external = external_part(scorer.network.frozen)
        if external is not None and external.config.kind is ExternalKind.lightgbm:
            raise ConfigError(
                "LightGBM stays as it is, outside of the graph",
                got=f"export.formats with {self.name}",
                mend="export.formats=[onnx] writes the boosters beside the graph",
            )

    def write(self, job: ExportJob, folder: Path) -> dict[str, Any]:
        """Write the folder; returns how far it is from the trained network, and its bounds."""
        with tempfile.TemporaryDirectory() as scratch:
            whole = Path(scratch) / MODEL
            write_model(job, whole)
            self.reduce(whole, folder / MODEL)
            sizes = [path.stat().st_size for path in (whole, folder / MODEL)]
        report = self._report(folder / MODEL, job.golden) | {"size": sizes[1] / sizes[0]}
        write_beside(job, folder, report)
        return report

    def _report(self, path: Path, golden: Golden) -> dict[str, Any]:
        found, mask = run(path, golden), golden.mask
        q = torch.from_numpy(found["q"])
        difference = float((q - golden.q)[mask].abs().max())
        deviations = difference / max(float(golden.q[mask].std()), 1e-12)
        ndcg = ndcg_of(golden, torch.from_numpy(found["order"]))
        return {
            "max_abs_difference": difference,
            "max_deviations": deviations,
            "max_deviations_bound": self.max_deviations,
            "ndcg_at_10": ndcg,
            "ndcg_at_10_bound": self.min_ndcg,
            "passed": deviations <= self.max_deviations and ndcg >= self.min_ndcg,
        }


def to_half(path: Path, target: Path) -> None:
    """Store weights as float16; what looks rows up looks them up before they are cast back."""
    model = onnx.load(path)
    graph = model.graph
    casts: list[Any] = []
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.size < _MIN_ELEMENTS or _overflows(array):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), name))
        users = [node for node in graph.node if name in node.input]
        if all(node.op_type == "Gather" and node.input[0] == name for node in users):
            casts += [_cast_after(node) for node in users]
        else:
            casts.append(helper.make_node("Cast", [name], [f"{name}_32"], to=TensorProto.FLOAT))
            for node in users:
                _replace(node.input, name, f"{name}_32")
    _put_in_order(model, casts)
    del graph.value_info[:]  # types of what is looked up have changed
    onnx.save(model, target)


def _overflows(array: np.ndarray) -> bool:
    return bool(np.abs(array).max() > np.finfo(np.float16).max)


def _cast_after(node: Any) -> Any:
    whole = node.output[0]
    node.output[0] = f"{whole}_16"
    return helper.make_node("Cast", [f"{whole}_16"], [whole], to=TensorProto.FLOAT)


def _replace(names: Any, old: str, new: str) -> None:
    for place, name in enumerate(names):
        names[place] = new if name == old else name


def _put_in_order(model: ModelProto, casts: list[Any]) -> None:
    """Each cast before the first node that reads what it writes, and after what it reads."""
    by_input = {cast.input[0]: cast for cast in casts}
    stored = {tensor.name for tensor in model.graph.initializer}
    ordered = [cast for cast in casts if cast.input[0] in stored]
    for node in model.graph.node:
        ordered.append(node)
        ordered += [by_input[name] for name in node.output if name in by_input]
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def to_int8(path: Path, target: Path) -> None:
    """ONNX Runtime's dynamic quantisation of products and look-ups."""
    operators, model = ["MatMul", "Gather"], onnx.load(path)
    del model.graph.value_info[:]  # the tracer's notes of shapes are not what inference finds
    _gemms_as_products(model)
    vectors = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) < 2}
    by_vectors = [node.name for node in model.graph.node if set(node.input[1:]) & vectors]
    logging.disable(logging.WARNING)  # advice to prepare the graph, which fails on this one
    try:
        _quantize(model, target, operators, by_vectors)
    finally:
        logging.disable(logging.NOTSET)


def _quantize(model: ModelProto, target: Path, operators: list[str], left_out: list[str]) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        model,
        target,
        op_types_to_quantize=operators,
        nodes_to_exclude=[name for name in left_out if name],
        # Signed weights, a scale a column, saturate in the 16-bit sums of a processor without VNNI:
        # one layer of width 24 was off by .42 standard deviations there, and by .04 with these.
        weight_type=QuantType.QUInt8,
        extra_options={"DefaultTensorType": TensorProto.FLOAT, "MatMulConstBOnly": True},
    )


def _gemms_as_products(model: ModelProto) -> None:
    """`Gemm` of a stored weight as `MatMul` and `Add`: the quantiser rewrites it wrongly."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[Any] = []
    for node in model.graph.node:
        options = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        plain = options.get("alpha", 1.0) == options.get("beta", 1.0) == 1.0
        fits = plain and not options.get("transA") and len(node.input) == 3
        if node.op_type != "Gemm" or not fits or node.input[1] not in stored:
            nodes.append(node)
            continue
        values, weight, bias = node.input
        if options.get("transB"):
            turned = numpy_helper.to_array(stored[weight]).T.copy()
            weight = f"{weight}_turned_{len(nodes)}"
            model.graph.initializer.append(numpy_helper.from_array(turned, weight))
        product = f"{node.output[0]}_product"
        nodes.append(helper.make_node("MatMul", [values, weight], [product], name=product))
        nodes.append(helper.make_node("Add", [product, bias], list(node.output)))
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    rest = [tensor for tensor in model.graph.initializer if tensor.name in used]
    rest = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in rest]
    del model.graph.initializer[:]
    model.graph.initializer.extend(rest)


FP16 = ReducedFormat("onnx_fp16", to_half, max_deviations=0.1, min_ndcg=0.999)
INT8 = ReducedFormat("onnx_int8", to_int8, max_deviations=1.0, min_ndcg=0.95)
