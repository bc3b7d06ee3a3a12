"""The format `triton`: a model repository of Triton, which KServe's Triton runtime takes too.

    triton/policy/config.pbtxt
    triton/policy/1/model.onnx

The graph is that of the format `onnx`, and so are its inputs: encoded requests, whose first
dimension is the batch. `example.py` of that format shows how a raw request is encoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recomind.adapters import ExternalKind
from recomind.errors import ConfigError
from recomind.export.formats import ExportJob
from recomind.export.onnx.format import parity_of, write_model
from recomind.export.onnx.graph import check_possible, open_session
from recomind.export.onnx.theirs import external_part
from recomind.export.scorer import PolicyScorer

MODEL, VERSION = "policy", "1"
_TYPES = {"float": "TYPE_FP32", "int64": "TYPE_INT64", "bool": "TYPE_BOOL"}


@dataclass(frozen=True, slots=True)
class TritonFormat:
    """See the module."""

    name: str = "triton"

    def check_possible(self, scorer: PolicyScorer) -> None:
        """Raise ConfigError unless `scorer` can become one ONNX graph here."""
        check_possible(scorer)
        external = external_part(scorer.network.frozen)
        if external is not None and external.config.kind is ExternalKind.lightgbm:
            raise ConfigError(
                "Triton's repository holds one ONNX graph, and LightGBM stays outside of it",
                mend="export.formats=[onnx] writes the boosters beside the graph",
            )

    def write(self, job: ExportJob, folder: Path) -> dict[str, Any]:
        """Write the repository; returns how far its graph is from the trained network."""
        path = folder / MODEL / VERSION / "model.onnx"
        path.parent.mkdir(parents=True)
        write_model(job, path)
        (folder / MODEL / "config.pbtxt").write_text(configuration(open_session(path)))
        return parity_of(path, job.golden)


def configuration(session: Any) -> str:
    """`config.pbtxt` of the graph that `session` has open; -1 is a free dimension."""
    # 0: Triton adds no dimension of its own, the graph's first one is the batch.
    head = [f'name: "{MODEL}"', 'backend: "onnxruntime"', "max_batch_size: 0"]
    tensors = [_tensor("input", t) for t in session.get_inputs()]
    tensors += [_tensor("output", t) for t in session.get_outputs()]
    return "\n".join([*head, *tensors]) + "\n"


def _tensor(kind: str, tensor: Any) -> str:
    sizes = ", ".join(str(size) if isinstance(size, int) else "-1" for size in tensor.shape)
    type_ = _TYPES[tensor.type.removeprefix("tensor(").removesuffix(")")]
    return f'{kind} [ {{ name: "{tensor.name}" data_type: {type_} dims: [ {sizes} ] }} ]'


FORMAT = TritonFormat()
