"""The service's interface as an OpenAPI 3.1 document, with the names of its scorer."""

from __future__ import annotations

from typing import Any

import recomind
from recomind.data.encoding import TIME, TIME_SCHEMA
from recomind.serving.request import MAX_FLOAT, MAX_INT, MAX_NAME, RequestSchema

Json = dict[str, Any]


def openapi(schema: RequestSchema) -> Json:
    """The document of a service whose requests must fit `schema`."""
    rank = _asking(schema, "rank", "Order candidates from best to worst", "RankAnswer")
    recommend = _asking(schema, "recommend", "Decide what to show, and log it", "RecommendAnswer")
    health = {
        "operationId": "healthz",
        "summary": "What is served",
        "responses": {
            "200": _answer("Ready", {"type": "object"}),
            "503": _answer("Not ready, or about to end", {"type": "object"}),
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "recomind", "version": recomind.__version__},
        "paths": {
            "/rank": {"post": rank},
            "/recommend": {"post": recommend},
            "/healthz": {"get": health},
        },
        "components": {"schemas": _schemas(schema)},
    }


def _asking(schema: RequestSchema, name: str, summary: str, answer: str) -> Json:
    asked, given = _one_or_some(_ref("RankRequest"), schema), _one_or_some(_ref(answer), schema)
    return {
        "operationId": name,
        "summary": summary,
        "requestBody": {"required": True, "content": _json(asked)},
        "responses": {"200": _answer("The order", given)} | _errors(),
    }


def _schemas(schema: RequestSchema) -> Json:
    item_id, user_id = _integer(0, schema.num_items - 1), _integer(0, MAX_INT)
    if schema.names.items is not None:
        item_id = {"type": ["string", "integer"]}
    seconds = {"type": "number", "minimum": 0, "maximum": MAX_FLOAT}
    number = {"type": "number", "minimum": -MAX_FLOAT, "maximum": MAX_FLOAT}
    names = list(schema.feature_names)
    feedback = {task: {"type": "boolean"} for task in schema.tasks}
    event = {
        "item_id": item_id,
        "feedback": _object(feedback),
        "dwell_s": seconds,
        "gap_s": seconds,
        TIME: TIME_SCHEMA,
    }
    encoding = schema.names.encoding
    by_name = encoding.schema(names, number) | {"additionalProperties": False}
    in_order = {"type": "array", "items": number, "minItems": len(names), "maxItems": len(names)}
    request = {
        "user_id": {"anyOf": [user_id, {"type": "string", "minLength": 1, "maxLength": MAX_NAME}]},
        "user_features": {"anyOf": [by_name, in_order]},
        "history": {"type": "array", "items": _object(event, ["item_id"])},
        "step": _integer(0, MAX_INT),
        "gap_s": seconds,
        TIME: TIME_SCHEMA,
        "item_ids": {
            "type": "array",
            "items": item_id,
            "minItems": 1,
            "maxItems": schema.max_candidates,
            "uniqueItems": True,
        },
        "num": _integer(1, schema.max_candidates),
        "request_id": {"type": "string", "maxLength": MAX_NAME},
        "session_id": {"type": "string", "maxLength": MAX_NAME},
    }
    required = ["user_id"] + ["user_features"] * bool(names)
    candidates = [{"required": ["item_ids"]}] + [{"required": ["num"]}] * schema.has_pool
    answer = {
        "item_ids": {"type": "array", "items": item_id},
        "scores": {"type": "array", "items": {"type": "number"}},
        "released": {"type": "boolean"},
        "arm": {"enum": ["policy", "control", "ranker"], "description": "ranker: a fall-back"},
        "reason": {"enum": ["", "error", "late"], "description": "of a fall-back"},
        "scorer": {"type": "string", "description": "identity of what answered"},
    }
    decision = answer | {
        "decision_id": {"type": "string"},
        "propensity": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "explored": {"type": "boolean"},
    }
    rules = [{"anyOf": candidates}, *([encoding.time_rule()] if encoding.clock else [])]
    return {
        "RankRequest": _object(request, required) | {"allOf": rules},
        "RankAnswer": _object(answer, list(answer)),
        "RecommendAnswer": _object(decision, list(decision)),
        "Error": _object({"error": {"type": "string"}}, ["error"]),
    }


def _errors() -> Json:
    said = {
        "400": "The body is not what it must be",
        "408": "The body did not arrive in time",
        "413": "The body is too long",
        "500": "The scorer failed",
    }
    refused = _answer("Too much to do", _ref("Error")) | {
        "headers": {"Retry-After": {"description": "seconds", "schema": _integer(1, MAX_INT)}}
    }
    return {status: _answer(text, _ref("Error")) for status, text in said.items()} | {
        "503": refused
    }


def _one_or_some(entry: Json, schema: RequestSchema) -> Json:
    some = {"type": "array", "items": entry, "minItems": 1, "maxItems": schema.max_batch_size}
    return {"anyOf": [entry, some]}


def _answer(text: str, schema: Json) -> Json:
    return {"description": text, "content": _json(schema)}


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: Json, required: list[str] | None = None) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": required or [],
        "additionalProperties": False,
    }


def _integer(low: int, high: int) -> Json:
    return {"type": "integer", "minimum": low, "maximum": high}
