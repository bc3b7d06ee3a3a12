"""From a method, a path and a body to a status and a JSON answer; no server in sight."""

from __future__ import annotations

from typing import Any

from recomind.errors import SchemaError
from recomind.serving.engine import RankingEngine

Answer = tuple[int, Any]  # HTTP status, JSON value

_METHOD_OF = {"/rank": "POST", "/healthz": "GET"}


def refuse(method: str, path: str) -> Answer | None:
    """The answer to a request for what does not exist, or None."""
    if path not in _METHOD_OF:
        return _error(404, f"no such path; known are {', '.join(sorted(_METHOD_OF))}")
    if method != _METHOD_OF[path]:
        return _error(405, f"{path} wants {_METHOD_OF[path]}")
    return None


def too_large(max_bytes: int) -> Answer:
    """The answer to a body that is too long."""
    return _error(413, f"the body is longer than {max_bytes} bytes")


def respond(engine: RankingEngine, method: str, path: str, body: bytes) -> Answer:
    """Answer one HTTP request; what the client got wrong is status 400 and says what."""
    refused = refuse(method, path)
    if refused is not None:
        return refused
    if path == "/healthz":
        return 200, engine.status()
    try:
        requests, is_list = engine.schema.parse_body(body)
        answers = engine.rank(requests)
    except SchemaError as error:
        return _error(400, str(error))
    return 200, answers if is_list else answers[0]


def _error(status: int, text: str) -> Answer:
    return status, {"error": text}
