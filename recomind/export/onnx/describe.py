"""What a reader of the `onnx` folder needs beside the graph, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recomind.data.encoding import TIME, TIME_SCHEMA
from recomind.export.formats import ExportJob
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
        "encoding": raw.encoding.to_json(),  # raw columns, before scaling
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
    encoding = job.record.raw.encoding
    needed = _object(
        {
            "user_features": encoding.schema(names, {"type": "number"}),
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
        }
    )
    needed["properties"][TIME] = TIME_SCHEMA
    title = {"$schema": _DRAFT, "title": "A request for a ranking", "tensors": _told(tensors)}
    return title | needed | encoding.time_rule()


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an object that must have all `properties`."""
    return {"type": "object", "required": list(properties), "properties": dict(properties)}


def _told(tensors: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {
        kind: [{"name": t.name, "type": t.type, "shape": t.shape} for t in found]
        for kind, found in tensors.items()
    }
