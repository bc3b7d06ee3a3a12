"""`serving` and `serve_forever`: a service that is up, and that ends in order."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette

from recomind.candidates import CandidatesConfig
from recomind.errors import ConfigError
from recomind.serving.admin import Admin, MakeReplicas, read_token
from recomind.serving.config import ServingConfig
from recomind.serving.loading import check_released
from recomind.serving.patience import PatientProtocol
from recomind.serving.queue import RequestQueue
from recomind.serving.registry import current_version, follow
from recomind.serving.replica import ProcessReplica, Replica, ReplicaSpec
from recomind.serving.routes import Routes

_BACKLOG = 2048  # connections that the system holds until they are accepted


class Service:
    """One service: its replicas and its HTTP server.

    Args:
        replicas: what answers; not started yet.
        config: deadlines, bounds and address.
        make_replicas: of the scorer in a folder, for a change while serving.
        served: the version of the registry that `replicas` hold.

    Raises:
        ConfigError: the file of the administrator's token is absent, or open to others.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        config: ServingConfig,
        make_replicas: MakeReplicas | None = None,
        served: Path | None = None,
    ) -> None:
        self.served = served or Path()
        self.replicas, self.config, self.make_replicas = list(replicas), config, make_replicas
        self._token = read_token(Path(config.admin_token_file)) if config.admin_token_file else ""
        self.address = f"http://{config.host}:{config.port}"
        self._server: uvicorn.Server | None = None
        self._routes: Routes | None = None
        self._is_told_to_end = False

    def end(self, *_: Any) -> None:
        """Take no more requests, answer those in flight, and return from `run`."""
        self._is_told_to_end = True
        if self._routes is not None:
            self._routes.is_ending = True
        if self._server is not None:
            self._server.should_exit = True

    async def run(self, listener: socket.socket, on_ready: Callable[[str], None]) -> None:
        """Serve on `listener` until `end` is called.

        Raises:
            RecomindError: a replica does not start.
        """
        config = self.config
        queue = RequestQueue(self.replicas, config)
        loaded = await queue.start()
        try:
            admin = Admin(queue, self._token, self.make_replicas)
            self._routes = Routes(queue, loaded, config, admin)
            self._server = _Server(
                _uvicorn(self._routes.application(), config), lambda: on_ready(self.address)
            )
            self._server.should_exit = self._is_told_to_end
            following = self._following(admin, self._routes)
            await self._server.serve(sockets=[listener])
            if following is not None:
                following.cancel()
        finally:
            await queue.close()

    def _following(self, admin: Admin, routes: Routes) -> asyncio.Task[None] | None:
        """Where there is a registry, the task that serves what becomes current in it."""
        registry = Path(self.config.registry)
        if not self.config.registry or self.make_replicas is None:
            return None

        async def load(folder: Path) -> None:
            _, loaded = await admin.load_folder(folder)
            routes.loaded = loaded or routes.loaded

        follows = follow(registry, self.served, load, self.config.registry_poll_s)
        return asyncio.create_task(follows)


def _uvicorn(application: Starlette, config: ServingConfig) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        http=PatientProtocol.waiting(config.body_timeout_s),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        backlog=_BACKLOG,
        timeout_keep_alive=round(config.keep_alive_s),
        timeout_graceful_shutdown=round(config.drain_timeout_s),
        server_header=False,
    )


class _Server(uvicorn.Server):
    """Tells when it listens, and leaves signals to whoever started it."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def make_service(
    scorer_folder: Path,
    config: ServingConfig,
    *,
    index_folder: Path | None = None,
    candidates: CandidatesConfig | None = None,
) -> Service:
    """A service whose replicas are processes; raises as `serving`."""
    index = None if index_folder is None else Path(index_folder).resolve()
    if config.registry:
        scorer_folder = current_version(Path(config.registry))

    def make_replicas(folder: Path) -> list[Replica]:
        spec = ReplicaSpec(
            scorer_folder=folder.resolve(),
            identity=check_released(folder, config).identity,
            config=config,
            index_folder=index,
            candidates=candidates,
        )
        return [ProcessReplica(spec) for _ in range(config.num_replicas)]

    served = Path(scorer_folder)
    return Service(make_replicas(served), config, make_replicas, served)


@contextmanager
def serving(
    scorer_folder: Path,
    config: ServingConfig,
    *,
    index_folder: Path | None = None,
    candidates: CandidatesConfig | None = None,
) -> Iterator[str]:
    """Yield the address of a service that is ready; stop it afterwards.

    Raises:
        ArtifactError: there is no scorer, it is damaged, or its verdict is about another policy.
        ConfigError: an unreleased scorer, or a port that is taken.
        ServiceError: a replica is not ready within `serving.start_timeout_s`.
    """
    service = make_service(scorer_folder, config, index_folder=index_folder, candidates=candidates)
    with running(service) as address:
        yield address


@contextmanager
def running(service: Service) -> Iterator[str]:
    """Run `service` in a thread; yield its address once it is ready, and end it afterwards.

    Raises:
        ConfigError: its port is taken.
        RecomindError: a replica does not start.
    """
    with _listening(service.config) as listener:
        ready, failures = threading.Event(), []

        def run() -> None:
            try:
                asyncio.run(service.run(listener, lambda _: ready.set()))
            except BaseException as error:  # told to whoever waits
                failures.append(error)
                ready.set()

        thread = threading.Thread(target=run, name="recomind-serving")
        thread.start()
        try:
            ready.wait()
            if failures:
                raise failures[0]
            yield service.address
        finally:
            service.end()
            thread.join()


def serve_forever(
    scorer_folder: Path,
    config: ServingConfig,
    *,
    index_folder: Path | None = None,
    candidates: CandidatesConfig | None = None,
    on_ready: Callable[[str], None] = print,
) -> None:
    """Serve until SIGTERM or SIGINT, then answer what is in flight; raises as `serving`.

    Args:
        scorer_folder: artifact of kind "scorer".
        config: where, and how much.
        index_folder: artifact of kind "index" over the same catalogue.
        candidates: shape of the pool.
        on_ready: is told the address.
    """
    service = make_service(scorer_folder, config, index_folder=index_folder, candidates=candidates)
    with _listening(config) as listener, _told_to_end(service.end):
        asyncio.run(service.run(listener, on_ready))


@contextmanager
def _told_to_end(end: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {each: signal.signal(each, end) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _listening(config: ServingConfig) -> socket.socket:
    """A socket that is bound, so that a port that is taken is known before anything is loaded."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _no_listener(config, error) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _no_listener(config, error) from None
    return listener


def _no_listener(config: ServingConfig, error: OSError) -> ConfigError:
    return ConfigError(
        "cannot listen there",
        got=f"{config.host}:{config.port}: {error.strerror}",
        mend="choose another serving.port, or stop what listens on it",
    )
