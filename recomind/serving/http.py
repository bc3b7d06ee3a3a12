"""From bodies to JSON answers, many at once; no server in sight."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recomind.errors import SchemaError
from recomind.serving.engine import RankingEngine
from recomind.serving.request import RankRequest
from recomind.serving.v2 import MODEL, infer

RANK, RECOMMEND, INFER = "/rank", "/recommend", f"/v2/models/{MODEL}/infer"
Answer = tuple[int, Any]  # HTTP status, JSON value
MAX_ERROR_CHARS = 400

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Asked:
    """One body, read whole."""

    path: str  # RANK, RECOMMEND or INFER
    body: bytes


def respond_all(engine: RankingEngine, asked: Sequence[Asked]) -> list[Answer]:
    """Answer several bodies, whose requests are scored together.

    What a client got wrong is status 400 and says what; it touches no other body's answer.
    """
    answers: dict[int, Answer] = {}
    for path in {each.path for each in asked}:
        places = [place for place, each in enumerate(asked) if each.path == path]
        found = _respond_alike(engine, path, [asked[place] for place in places])
        answers |= dict(zip(places, found, strict=True))
    return [answers[place] for place in range(len(asked))]


def _respond_alike(engine: RankingEngine, path: str, asked: Sequence[Asked]) -> list[Answer]:
    if path == INFER:
        return [_infer(engine, each) for each in asked]
    answer = engine.recommend if path == RECOMMEND else engine.rank
    parsed = [_parse(engine, each) for each in asked]
    good = [requests for requests, _, refusal in parsed if refusal is None]
    try:
        rows = iter(answer([request for requests in good for request in requests]))
    except Exception as failure:
        if len(asked) > 1:  # one of them may be at fault: each alone
            return [respond_all(engine, [each])[0] for each in asked]
        return [_failed(failure)]
    answers, names = [], engine.schema.names
    for requests, is_list, refusal in parsed:
        values = [] if refusal else [next(rows) for _ in requests]
        for value in values:
            value["item_ids"] = names.item_names(value["item_ids"])
        answers.append(refusal or (200, values if is_list else values[0]))
    return answers


def _infer(engine: RankingEngine, asked: Asked) -> Answer:
    try:
        return 200, infer(engine.scorer, engine.schema, engine.identity, asked.body)
    except Exception as failure:
        return _failed(failure)


def _parse(engine: RankingEngine, asked: Asked) -> tuple[list[RankRequest], bool, Answer | None]:
    try:
        requests, is_list = engine.schema.parse_body(asked.body)
    except SchemaError as wrong:
        return [], False, error(400, str(wrong))
    return requests, is_list, None


def _failed(failure: Exception) -> Answer:
    if isinstance(failure, SchemaError):  # a feature so large that its score is not finite
        return error(400, str(failure))
    _log.error("a request that fits the schema could not be scored", exc_info=failure)
    return error(500, "the scorer failed; the service's log says why")


def error(status: int, text: str) -> Answer:
    """An answer that says what is wrong; what it echoes is cut and has no lone surrogates."""
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) > MAX_ERROR_CHARS:
        text = text[:MAX_ERROR_CHARS] + " ..."
    return status, {"error": text}


def encode(answer: Answer) -> tuple[int, bytes]:
    """Status and the bytes of the JSON."""
    status, value = answer
    return status, json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
