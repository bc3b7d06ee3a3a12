"""The HTTP interface as an ASGI application: what is read, refused, handed on and sent back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from recomind.serving.admin import Admin
from recomind.serving.config import ServingConfig
from recomind.serving.http import INFER, RANK, RECOMMEND, Answer, Asked, encode, error
from recomind.serving.queue import Refused, RequestQueue
from recomind.serving.replica import Loaded
from recomind.serving.v2 import MODEL, server_metadata

_COOL_S = 1.0  # between a refusal and the next request of its connection, as it was told


class Routes:
    """One service's paths.

    Args:
        queue: what answers; started already.
        loaded: what its replicas say of themselves.
        config: deadlines and bounds.
        admin: answers POST /admin/load.
    """

    def __init__(
        self,
        queue: RequestQueue,
        loaded: Loaded,
        config: ServingConfig,
        admin: Admin,
    ) -> None:
        self.queue, self.loaded, self.config, self.admin = queue, loaded, config, admin
        self.is_ending = False

    def application(self) -> Starlette:
        """The ASGI application."""
        paths = [Route(path, self.answer, methods=["POST"]) for path in (RANK, RECOMMEND, INFER)]
        gets = {
            "/healthz": self.healthz,
            "/metrics": self.metrics,
            "/openapi.json": self.told(lambda: self.loaded.openapi),
            "/v2": self.told(server_metadata),
            "/v2/health/live": self.told(lambda: {"live": True}),
            "/v2/health/ready": self.ready,
            f"/v2/models/{MODEL}": self.told(lambda: self.loaded.model),
            f"/v2/models/{MODEL}/ready": self.ready,
        }
        paths += [Route(path, answer, methods=["GET"]) for path, answer in gets.items()]
        paths.append(Route("/admin/load", self.load, methods=["POST"]))
        handlers = {HTTPException: _refuse_path, Exception: _internal}
        return Starlette(routes=paths, exception_handlers=handlers)

    async def answer(self, request: Request) -> Response:
        """POST of a body that a replica answers: it is read first, and takes a place only then."""
        path, metrics = request.url.path, self.queue.metrics
        with metrics.timed(path):
            response = await self._answer(path, request)
        metrics.requests.labels(path, response.status_code).inc()
        return response

    async def _answer(self, path: str, request: Request) -> Response:
        try:
            body = await self._read(request)
            if not isinstance(body, bytes):
                return _respond(encode(body), close=True)
            return _respond(await self.queue.reply_to(Asked(path, body)))
        except Refused as refused:
            return _Refusal(refused)
        except ClientDisconnect:
            return Response(status_code=400)  # to nobody

    async def load(self, request: Request) -> Response:
        """POST /admin/load: another scorer answers from the next batch on, or none does."""
        body = await self._read(request)
        if not isinstance(body, bytes):
            return _respond(encode(body), close=True)
        answer, loaded = await self.admin.load(request.headers.get("authorization", ""), body)
        self.loaded = loaded or self.loaded
        return _respond(encode(answer))

    async def metrics(self, _: Request) -> Response:
        """GET /metrics."""
        metrics = self.queue.metrics
        return Response(metrics.text(), headers={"content-type": metrics.content_type})

    async def ready(self, _: Request) -> Response:
        """GET of the protocol's readiness: 200 or 503."""
        is_ready = bool(self.queue.num_ready) and not self.is_ending
        return _respond(encode((200 if is_ready else 503, {"ready": is_ready})))

    def told(self, value: Callable[[], Any]) -> Callable[[Request], Awaitable[Response]]:
        """A path whose answer is `value()`."""

        async def tell(_: Request) -> Response:
            return _respond(encode((200, value())))

        return tell

    async def healthz(self, _: Request) -> Response:
        """GET /healthz: answered here, whatever the replicas are doing."""
        if self.is_ending or not self.queue.num_ready:
            status = "ending" if self.is_ending else "no replica is ready"
            return _respond(encode((503, self.loaded.status | {"status": status})))
        return _respond(encode((200, self.loaded.status)))

    async def _read(self, request: Request) -> bytes | Answer:
        """The whole body, or the answer to one that is too long or too slow."""
        limit, body = self.config.max_body_bytes, bytearray()
        if int(request.headers.get("content-length", 0)) > limit:
            return error(413, f"the body is longer than {limit} bytes")
        try:
            async with asyncio.timeout(self.config.body_timeout_s):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > limit:
                        return error(413, f"the body is longer than {limit} bytes")
        except TimeoutError:
            return error(408, f"the body took longer than {self.config.body_timeout_s:g} s")
        return bytes(body)


class _Refusal(Response):
    """503 at once; the connection's next request is read a moment later.

    Who asks again without a pause would otherwise take the processor from those who are answered.
    """

    def __init__(self, refused: Refused) -> None:
        status, content = encode(error(503, refused.reason))
        headers = {"retry-after": str(refused.retry_after_s)}
        super().__init__(content, status, headers, media_type="application/json")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it whole, and only then end it."""

        async def send_open(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "more_body": True}
            await send(message)

        await super().__call__(scope, receive, send_open)
        await asyncio.sleep(_COOL_S)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _respond(reply: tuple[int, bytes], *, close: bool = False) -> Response:
    # What is left of the body would be read as the next request.
    headers = {"connection": "close"} if close else {}
    return Response(reply[1], reply[0], headers, media_type="application/json")


async def _refuse_path(request: Request, refused: Exception) -> Response:
    assert isinstance(refused, HTTPException)
    said = {
        404: "no such path; GET /openapi.json lists those that exist",
        405: f"{request.url.path} does not take {request.method}",
    }
    status = refused.status_code
    response = _respond(encode(error(status, said.get(status, refused.detail))))
    response.headers.update(refused.headers or {})
    return response


async def _internal(_: Request, __: Exception) -> Response:
    return _respond(encode(error(500, "internal error; the service's log says more")))
