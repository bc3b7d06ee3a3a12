"""The HTTP interface as an ASGI application: what is read, refused, handed on and sent back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from recomind.serving.config import ServingConfig
from recomind.serving.http import Answer, Asked, encode, error
from recomind.serving.queue import Refused, RequestQueue
from recomind.serving.replica import Loaded


class Routes:
    """One service's paths.

    Args:
        queue: what answers; started already.
        loaded: what its replicas say of themselves.
        config: deadlines and bounds.
    """

    def __init__(self, queue: RequestQueue, loaded: Loaded, config: ServingConfig) -> None:
        self.queue, self.loaded, self.config = queue, loaded, config
        self.is_ending = False

    def application(self) -> Starlette:
        """The ASGI application; it closes the queue when it ends."""
        paths = [
            Route("/rank", self.answer, methods=["POST"]),
            Route("/recommend", self.answer, methods=["POST"]),
            Route("/healthz", self.healthz, methods=["GET"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
        ]
        handlers = {HTTPException: _refuse_path, Exception: _internal}
        return Starlette(routes=paths, exception_handlers=handlers, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        await self.queue.close()

    async def answer(self, request: Request) -> Response:
        """POST /rank and /recommend: the body is read first, and takes a place only then."""
        try:
            body = await self._read(request)
            if not isinstance(body, bytes):
                return _respond(encode(body), close=True)
            status, content = await self.queue.reply_to(Asked(request.url.path, body))
            return _respond((status, content))
        except Refused as refused:
            return _respond(encode(error(503, refused.reason)), retry_s=refused.retry_after_s)
        except ClientDisconnect:
            return Response(status_code=400)  # to nobody

    async def healthz(self, _: Request) -> Response:
        """GET /healthz: answered here, whatever the replicas are doing."""
        if self.is_ending or not self.queue.num_ready:
            status = "ending" if self.is_ending else "no replica is ready"
            return _respond(encode((503, self.loaded.status | {"status": status})))
        return _respond(encode((200, self.loaded.status)))

    async def openapi(self, _: Request) -> Response:
        """GET /openapi.json."""
        return _respond(encode((200, self.loaded.openapi)))

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


def _respond(
    reply: tuple[int, bytes], *, retry_s: int | None = None, close: bool = False
) -> Response:
    headers = {} if retry_s is None else {"retry-after": str(retry_s)}
    if close:  # what is left of the body would be read as the next request
        headers["connection"] = "close"
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
