"""Where a scorer lives: in a process of its own, so that HTTP is answered while it computes.

The two talk over a pair of sockets. A replica ends when its end of the pair closes, so it outlives
nobody, however the service ended. It is told which scorer it must hold, by identity: one that
finds another in the folder refuses to start.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from recomind.candidates import CandidatesConfig
from recomind.errors import RecomindError, ServiceError
from recomind.serving.config import ServingConfig
from recomind.serving.engine import RankingEngine
from recomind.serving.http import Asked, encode, respond_all
from recomind.serving.loading import load_engine
from recomind.serving.openapi import openapi
from recomind.serving.scored import Counts
from recomind.serving.v2 import model_metadata

_LAST_WORDS_S = 3.0  # for a replica that is told to end, to close its log
Reply = tuple[int, bytes]  # HTTP status, JSON


@dataclass(kw_only=True, slots=True)
class ReplicaSpec:
    """What every replica of a service loads."""

    scorer_folder: Path
    identity: str  # identity of the scorer, pinned when the service began
    config: ServingConfig
    index_folder: Path | None = None
    candidates: CandidatesConfig | None = None


@dataclass(kw_only=True, slots=True)
class Loaded:
    """What a replica says once it is ready."""

    status: dict[str, Any]  # as `RankingEngine.status`
    openapi: dict[str, Any]
    model: dict[str, Any]  # as `recomind.serving.v2.model_metadata`


@dataclass(kw_only=True, slots=True)
class Answered:
    """What a replica gives for a batch."""

    replies: list[Reply]  # one a body
    counts: Counts


class Replica(Protocol):
    """Answers bodies, one batch at a time. Both methods block."""

    def start(self) -> Loaded:
        """Load the scorer and answer the golden requests."""
        ...

    def answer(self, asked: Sequence[Asked]) -> Answered:
        """Reply to every body.

        Raises:
            ServiceError: the replica has ended.
        """
        ...

    def close(self) -> None:
        """End it, whatever it is doing."""
        ...


class LocalReplica:
    """An engine in this process, for tests and for callers that bring their own."""

    def __init__(self, engine: RankingEngine) -> None:
        self.engine = engine

    def start(self) -> Loaded:
        """See `Replica.start`."""
        return _loaded(self.engine)

    def answer(self, asked: Sequence[Asked]) -> Answered:
        """See `Replica.answer`."""
        replies = [encode(answer) for answer in respond_all(self.engine, asked)]
        return Answered(replies=replies, counts=self.engine.take_counts())

    def close(self) -> None:
        """See `Replica.close`."""


class ProcessReplica:
    """An engine in a process of its own.

    Args:
        spec: what it loads.
    """

    def __init__(self, spec: ReplicaSpec) -> None:
        self.spec = spec
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def start(self) -> Loaded:
        """Start the process and wait until it is ready.

        Raises:
            RecomindError: as `load_engine`.
            ServiceError: it was not ready within `start_timeout_s`, or died.
        """
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "recomind.serving.replica", str(theirs.fileno())]
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        with theirs:
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                env=os.environ | {"PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
            )
        self._connection = Connection(ours.detach())
        patience_s = self.spec.config.start_timeout_s
        try:
            self._connection.send(self.spec)
            if not self._connection.poll(patience_s):
                raise _not_ready(patience_s)
            loaded = self._connection.recv()
        except (EOFError, OSError) as error:
            raise ServiceError("a replica ended before it was ready", got=self._ended()) from error
        finally:
            if "loaded" not in locals() or isinstance(loaded, RecomindError):
                self._process.kill()
                self.close()
        if isinstance(loaded, RecomindError):
            raise loaded
        return loaded

    def answer(self, asked: Sequence[Asked]) -> Answered:
        """See `Replica.answer`."""
        if self._connection is None:
            raise ServiceError("a replica that is closed was asked")
        try:
            self._connection.send(list(asked))
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise ServiceError("a replica ended while it answered", got=self._ended()) from error

    def close(self) -> None:
        """See `Replica.close`."""
        process, connection = self._process, self._connection
        self._connection = None
        if connection is not None:  # both ends see the end: the replica, and who waits for it
            with (
                contextlib.suppress(OSError),
                socket.socket(fileno=os.dup(connection.fileno())) as end,
            ):
                end.shutdown(socket.SHUT_RDWR)
        if process is not None:
            try:
                process.wait(_LAST_WORDS_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if connection is not None:
            connection.close()

    @property
    def pid(self) -> int | None:
        """Id of the process, where it was started."""
        return None if self._process is None else self._process.pid

    def _ended(self) -> str:
        if self._process is None:
            return "closed"
        try:
            return f"status {self._process.wait(5.0)}"
        except subprocess.TimeoutExpired:
            return "it hung up"


def _not_ready(patience_s: float) -> ServiceError:
    return ServiceError(
        f"a replica was not ready within {patience_s:g} s",
        mend="raise serving.start_timeout_s, or try again when the machine is less busy",
    )


def _loaded(engine: RankingEngine) -> Loaded:
    return Loaded(
        status=engine.status(),
        openapi=openapi(engine.schema),
        model=model_metadata(engine.schema, engine.identity),
    )


def _run(descriptor: int) -> None:
    """The process of a replica: load, say so, answer until the other end closes."""
    # The service is told to end and drains; a terminal's Ctrl-C reaches its replicas as well.
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    connection, replica = Connection(descriptor), None
    try:
        spec: ReplicaSpec = connection.recv()
        replica = LocalReplica(_load(spec))
        connection.send(replica.start())
        while True:
            connection.send(replica.answer(connection.recv()))
    except RecomindError as error:
        connection.send(error)
    except (EOFError, OSError):  # the service is gone, or wants another
        if replica is not None:
            replica.engine.close()


def _load(spec: ReplicaSpec) -> RankingEngine:
    import torch

    from recomind.candidates import fresh_items

    torch.set_num_threads(spec.config.num_threads)
    return load_engine(
        spec.scorer_folder,
        spec.config,
        index_folder=spec.index_folder,
        candidates=spec.candidates,
        newest=fresh_items,  # the pool that the policy was trained with
        identity=spec.identity,
    )


if __name__ == "__main__":
    from recomind.serving import replica  # so that what is sent has the name that it is known by

    replica._run(int(sys.argv[1]))
    os._exit(0)
