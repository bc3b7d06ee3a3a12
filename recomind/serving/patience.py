"""A deadline for the head of a request, which the server itself leaves to whoever sends it."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class PatientProtocol(HttpToolsProtocol):
    """Closes a connection whose next request has begun and whose head does not end.

    A body has its deadline where it is read; between requests `keep_alive_s` holds.
    """

    head_timeout_s = 5.0  # from the connection, or the head's first byte, to its last byte
    _alarm: asyncio.TimerHandle | None = None

    @classmethod
    def waiting(cls, seconds: float) -> type[PatientProtocol]:
        """The protocol with another deadline."""
        return type(cls.__name__, (cls,), {"head_timeout_s": seconds})

    def connection_made(self, transport: Any) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._set_alarm()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._set_alarm()
        else:
            self._stop_alarm()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._stop_alarm()
        super().connection_lost(exc)

    def _set_alarm(self) -> None:
        if self._alarm is None:  # bytes that trickle in do not move it
            self._alarm = self.loop.call_later(self.head_timeout_s, self.transport.close)

    def _stop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
