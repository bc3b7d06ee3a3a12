"""The scorer by the Open Inference Protocol (KServe V2, REST): tensors in, tensors out.

    B sessions, L history events, H tasks, U user features, K candidates

    inputs   user_features FP32 [B, U], history_item_id INT64 [B, L], history_feedback BOOL
             [B, L, H], history_dwell_s, history_gap_s FP32 [B, L], history_mask BOOL [B, L],
             gap_s FP32 [B], step INT64 [B], item_id INT64 [B, K], and if wanted mask BOOL [B, K]
    outputs  score FP32 [B, K], order INT64 [B, K], slots from best to worst, supported BOOL [B, K]

What the tensors mean stands beside `recomind.types.SessionState`. Only JSON data is taken, flat in
row-major order or nested.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

import recomind
from recomind.errors import SchemaError
from recomind.export import PolicyScorer
from recomind.serving.request import RequestSchema, decode_json
from recomind.types import SessionState

MODEL = "recomind"
_DTYPES = {"FP32": torch.float32, "INT64": torch.int64, "BOOL": torch.bool}
_INPUTS: dict[str, tuple[str, str]] = {  # name -> type, symbols of its shape
    "user_features": ("FP32", "B U"),
    "history_item_id": ("INT64", "B L"),
    "history_feedback": ("BOOL", "B L H"),
    "history_dwell_s": ("FP32", "B L"),
    "history_gap_s": ("FP32", "B L"),
    "history_mask": ("BOOL", "B L"),
    "gap_s": ("FP32", "B"),
    "step": ("INT64", "B"),
    "item_id": ("INT64", "B K"),
}
_OPTIONAL = {"mask": ("BOOL", "B K")}
_OUTPUTS = {"score": ("FP32", "B K"), "order": ("INT64", "B K"), "supported": ("BOOL", "B K")}


def server_metadata() -> dict[str, Any]:
    """The answer to `GET /v2`."""
    return {"name": "recomind", "version": recomind.__version__, "extensions": []}


def model_metadata(schema: RequestSchema, identity: str) -> dict[str, Any]:
    """The answer to `GET /v2/models/recomind`; -1 is a free size."""
    sizes = {"U": len(schema.feature_names), "H": len(schema.tasks)}

    def described(tensors: Mapping[str, tuple[str, str]]) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "datatype": dtype,
                "shape": [sizes.get(symbol, -1) for symbol in shape.split()],
            }
            for name, (dtype, shape) in tensors.items()
        ]

    return {
        "name": MODEL,
        "versions": [identity],
        "platform": "recomind",
        "inputs": described(_INPUTS | _OPTIONAL),
        "outputs": described(_OUTPUTS),
    }


@torch.no_grad()
def infer(
    scorer: PolicyScorer, schema: RequestSchema, identity: str, body: bytes
) -> dict[str, Any]:
    """The answer to `POST /v2/models/recomind/infer`.

    Raises:
        SchemaError: the body is no such request, or a tensor of it is not what it must be.
    """
    payload = decode_json(body)
    if not isinstance(payload, dict) or not isinstance(payload.get("inputs"), list):
        raise SchemaError("an inference request", expected="an object with a list of inputs")
    tensors: dict[str, Any] = _tensors(payload["inputs"], schema)
    item_id = tensors.pop("item_id")
    mask = tensors.pop("mask", torch.ones_like(item_id, dtype=torch.bool))
    batch = len(item_id)
    state = SessionState(
        user_id=torch.zeros(batch, dtype=torch.int64), **tensors, batch_size=[batch]
    )
    order, score, supported = scorer.rank_supported(state, item_id, mask)
    lowest = torch.finfo(torch.float32).min  # JSON has no infinity
    found = {"score": score.clamp(min=lowest), "order": order, "supported": supported & mask}
    answer = {"model_name": MODEL, "model_version": identity, "outputs": _outputs(found)}
    return answer | ({"id": payload["id"]} if isinstance(payload.get("id"), str) else {})


def _outputs(found: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "datatype": _OUTPUTS[name][0],
            "shape": list(tensor.shape),
            "data": tensor.flatten().tolist(),
        }
        for name, tensor in found.items()
    ]


def _tensors(inputs: list[Any], schema: RequestSchema) -> dict[str, Tensor]:
    given: dict[str, Any] = {}
    for entry in inputs:
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or name not in _INPUTS | _OPTIONAL or name in given:
            raise SchemaError(
                "an input",
                got=repr(name)[:50],
                expected="each of these once, " + ", ".join(_INPUTS) + " (mask)",
            )
        given[name] = entry
    absent = [name for name in _INPUTS if name not in given]
    if absent:
        raise SchemaError("inputs are absent", got=absent)
    sizes = {"U": len(schema.feature_names), "H": len(schema.tasks)}
    tensors = {name: _tensor(name, entry, sizes) for name, entry in given.items()}
    if not 1 <= sizes["B"] <= schema.max_batch_size or not 1 <= sizes["K"] <= schema.max_candidates:
        raise SchemaError(
            "the size of a batch",
            got=f"B = {sizes['B']}, K = {sizes['K']}",
            expected=f"1 <= B <= {schema.max_batch_size}, 1 <= K <= {schema.max_candidates}",
        )
    if sizes["L"] != schema.history_length:
        raise SchemaError("history events", got=sizes["L"], expected=schema.history_length)
    for name in ("history_item_id", "item_id"):
        if not bool(((tensors[name] >= 0) & (tensors[name] < schema.num_items)).all()):
            raise SchemaError(name, expected=f"integers in [0, {schema.num_items - 1}]")
    if "mask" in tensors and not bool(tensors["mask"].any(dim=1).all()):
        raise SchemaError("mask", got="a row without candidates")
    return tensors


def _tensor(name: str, entry: Mapping[str, Any], sizes: dict[str, int]) -> Tensor:
    """The input `entry`; sizes that are met for the first time are noted in `sizes`."""
    dtype, symbols = (_INPUTS | _OPTIONAL)[name]
    symbols = symbols.split()
    shape, data = entry.get("shape"), entry.get("data")
    is_typed = entry.get("datatype") == dtype and isinstance(data, list)
    if not isinstance(shape, list) or not is_typed or not all(map(_is_size, shape)):
        raise SchemaError(
            f"input {name}",
            got=f"{entry.get('datatype')!r:.20}, shape {shape!r:.50}",
            expected=f"{dtype} with shape and data",
        )
    expected = [
        sizes.setdefault(symbol, size) for symbol, size in zip(symbols, shape, strict=False)
    ]
    values = _flat(list(data or ()), dtype)
    if shape != expected or len(symbols) != len(shape) or len(values) != math.prod(shape):
        raise SchemaError(
            f"input {name}",
            got=f"shape {shape}, {len(values)} values",
            expected=f"[{', '.join(symbols)}] = {expected}",
        )
    try:
        tensor = torch.tensor(values, dtype=_DTYPES[dtype]).reshape(shape)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise SchemaError(f"input {name}", got=str(error)[:80], expected=dtype) from None
    if dtype == "FP32" and not bool(tensor.isfinite().all()):
        raise SchemaError(f"input {name}", got="a number that is not finite")
    return tensor


def _is_size(value: object) -> bool:
    return type(value) is int and value >= 0


def _flat(data: list[Any], dtype: str) -> list[Any]:
    """Values in row-major order."""
    kinds = {"FP32": (int, float), "INT64": (int,), "BOOL": (bool,)}[dtype]
    while data and all(isinstance(value, list) for value in data):
        data = [value for inner in data for value in inner]
    for value in data:
        if type(value) not in kinds:
            raise SchemaError("a tensor's data", got=repr(value)[:50], expected=dtype)
    return data
