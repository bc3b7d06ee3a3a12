"""What a reader of the `onnx` folder needs beside the graph, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from recomind.export.formats import ExportJob
from recomind.export.golden import Golden
from recomind.export.onnx.graph import open_session
from recomind.export.onnx.theirs import external_part

FORMAT_VERSION = 1
_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def model(job: ExportJob, parity: Mapping[str, Any]) -> dict[str, Any]:
    """`model.json`: what turns raw requests into inputs, and what the graph is."""
    scorer, record, raw = job.scorer, job.record, job.record.raw
    network, names = scorer.network, scorer.user_feature_names
    weights = dict(zip(network.tasks, network.weights_H.tolist(), strict=True))
    return {
        "format_version": FORMAT_VERSION,
        "items": raw.ids(scorer.catalogue.num_items),  # the id of each row
        "takes_user_id": external_part(network.frozen) is not None,
        "tasks": list(scorer.feedback_tasks),  # in the order of history_feedback
        "history_length": scorer.history_length,
        "features": [{"name": name} | dict(raw.scaling_of(name)) for name in names],
        "limit": raw.limit,  # scaled features are clipped to it; null: no limit
        "utility_weights": weights,
        "support": {
            "ratio": network.config.support_ratio,
            "density": network.config.support_density,
            "keeps_ranker": network.config.support_keeps_ranker,
        },
        "released": record.released,
        "reasons": list(record.reasons),
        "policy": record.judged,
        "made_from": dict(record.inputs),
        "seed": record.seed,
        "parity": dict(parity),
    }


def schema(job: ExportJob, path: Path) -> dict[str, Any]:
    """`request.schema.json`: a raw request as JSON Schema, and the graph's tensors."""
    session = open_session(path)
    tensors = {"inputs": session.get_inputs(), "outputs": session.get_outputs()}
    seconds, names = {"type": "number", "minimum": 0}, list(job.scorer.user_feature_names)
    item = {"type": ["string", "integer"]}
    feedback = {task: {"type": "boolean"} for task in job.scorer.feedback_tasks}
    return _object(
        {
            "user_features": _object({name: {"type": "number"} for name in names}),
            "history": {
                "type": "array",
                "items": _object(
                    {
                        "item_id": item,
                        "feedback": {"type": "object", "properties": feedback},
                        "dwell_s": seconds,
                        "gap_s": seconds,
                    }
                ),
            },
            "step": {"type": "integer", "minimum": 0},
            "gap_s": seconds,
            "item_ids": {"type": "array", "items": item, "minItems": 1},
        },
        **{"$schema": _DRAFT, "title": "A request for a ranking", "tensors": _told(tensors)},
    )


def _object(properties: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """The schema of an object that must have all `properties`."""
    required = {"type": "object", "required": list(properties), "properties": dict(properties)}
    return more | required


def _told(tensors: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {
        kind: [{"name": t.name, "type": t.type, "shape": t.shape} for t in found]
        for kind, found in tensors.items()
    }


def raw_requests(job: ExportJob) -> list[dict[str, Any]]:
    """The golden requests in raw ids and units; padding is left out."""
    golden, ids = job.golden, job.record.raw.ids(job.scorer.catalogue.num_items)
    return [_raw_request(job, golden, row, ids) for row in range(len(golden.q))]


def _raw_request(job: ExportJob, golden: Golden, row: int, ids: list[Any]) -> dict[str, Any]:
    state = golden.state
    on_theirs = external_part(job.scorer.network.frozen) is not None
    user = {"user_id": int(state.user_id[row])} if on_theirs else {}
    return user | {
        "user_features": _raw_features(job, state.user_features[row]),
        "history": [
            {
                "item_id": ids[int(state.history_item_id[row, at])],
                "feedback": _feedback(job, state.history_feedback[row, at]),
                "dwell_s": float(state.history_dwell_s[row, at]),
                "gap_s": float(state.history_gap_s[row, at]),
            }
            for at in state.history_mask[row].nonzero()[:, 0].tolist()
        ],
        "step": int(state.step[row]),
        "gap_s": float(state.gap_s[row]),
        "item_ids": [ids[item] for item in golden.item_id[row][golden.mask[row]].tolist()],
    }


def _feedback(job: ExportJob, answers_H: torch.Tensor) -> dict[str, bool]:
    return dict(zip(job.scorer.feedback_tasks, answers_H.tolist(), strict=True))


def _raw_features(job: ExportJob, scaled_U: torch.Tensor) -> dict[str, float]:
    """Features before scaling, in double precision, which brings them back exactly."""
    raw: dict[str, float] = {}
    for name, value in zip(job.scorer.user_feature_names, scaled_U.tolist(), strict=True):
        scaling = job.record.raw.scaling_of(name)
        raw[name] = value * scaling["std"] + scaling["mean"]
    return raw
