"""The Ray Serve application: POST /rank and GET /healthz."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from starlette.requests import Request
from starlette.responses import JSONResponse

from recomind.candidates import CandidatesConfig, fresh_items
from recomind.errors import ConfigError
from recomind.local_ray import start_ray
from recomind.serving.config import ServingConfig
from recomind.serving.engine import check_released, load_engine
from recomind.serving.http import refuse, respond, too_large

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Serve's own deprecations, told on import
    from ray import serve

APP = "recomind"
_OBJECT_STORE_BYTES = 128 * 1024**2


class RankingService:
    """One replica. It takes no request before its scorer has answered the golden ones."""

    def __init__(
        self,
        scorer_folder: str,
        index_folder: str | None,
        config: ServingConfig,
        candidates: CandidatesConfig,
    ) -> None:
        self.config = config
        self.engine = load_engine(
            Path(scorer_folder),
            config,
            index_folder=None if index_folder is None else Path(index_folder),
            candidates=candidates,
            newest=fresh_items,  # the pool that the policy was trained with
        )

    async def __call__(self, request: Request) -> JSONResponse:
        """Answer one HTTP request."""
        path, method = request.url.path, request.method
        body = b""
        if refuse(method, path) is None:
            read = await read_body(request, self.config.max_body_bytes)
            if read is None:
                status, answer = too_large(self.config.max_body_bytes)
                return JSONResponse(answer, status_code=status)
            body = read
        # In a thread, so that a health check is answered while a batch is scored.
        status, answer = await asyncio.to_thread(respond, self.engine, method, path, body)
        return JSONResponse(answer, status_code=status)


async def read_body(request: Request, max_bytes: int) -> bytes | None:
    """The whole body, or None as soon as it proves longer than `max_bytes`."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            return None
    return bytes(body)


def build_app(
    scorer_folder: Path,
    config: ServingConfig,
    *,
    index_folder: Path | None = None,
    candidates: CandidatesConfig | None = None,
) -> serve.Application:
    """The application, to be run by `serving` or by any Ray Serve cluster.

    Raises:
        ArtifactError: there is no scorer, or it is damaged.
        ConfigError: the scorer was not released and the config does not allow that.
    """
    check_released(scorer_folder, config)
    deployment = serve.deployment(RankingService).options(
        name="ranking",
        num_replicas=config.num_replicas,
        ray_actor_options={"num_cpus": config.num_cpus},
        max_ongoing_requests=config.max_ongoing_requests,
        max_queued_requests=config.max_queued_requests,
        max_constructor_retry_count=1,
    )
    index = None if index_folder is None else str(Path(index_folder).resolve())
    return deployment.bind(
        str(Path(scorer_folder).resolve()), index, config, candidates or CandidatesConfig()
    )


@contextmanager
def serving(
    scorer_folder: Path,
    config: ServingConfig,
    *,
    index_folder: Path | None = None,
    candidates: CandidatesConfig | None = None,
) -> Iterator[str]:
    """Yield the address of a service that is ready; stop it afterwards.

    A Ray that runs already is used and left running.

    Raises:
        ArtifactError: there is no scorer, or it is damaged.
        ConfigError: an unreleased scorer, a port that is taken, too few CPUs, or a Ray that
            serves already: run `build_app` there.
    """
    app = build_app(scorer_folder, config, index_folder=index_folder, candidates=candidates)
    _check_port(config)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    with _running_ray(config):
        _refuse_running_serve()
        try:
            serve.start(
                proxy_location="HeadOnly",
                http_options={"host": config.host, "port": config.port},
            )
            serve.run(app, name=APP, route_prefix="/")
            yield f"http://{config.host}:{config.port}"
        finally:
            serve.shutdown()


def serve_forever(
    scorer_folder: Path,
    config: ServingConfig,
    *,
    index_folder: Path | None = None,
    candidates: CandidatesConfig | None = None,
    on_ready: Callable[[str], None] = print,
) -> None:
    """Serve until interrupted; `on_ready` is told the address."""
    with serving(
        scorer_folder, config, index_folder=index_folder, candidates=candidates
    ) as address:
        on_ready(address)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


def _check_port(config: ServingConfig) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host, config.port))
        except OSError as error:
            raise ConfigError(
                "cannot listen there",
                got=f"{config.host}:{config.port}: {error.strerror}",
                mend="choose another serving.port, or stop what listens on it",
            ) from None


def _refuse_running_serve() -> None:
    # It would keep its own address, and stopping ours would stop whatever else it runs.
    try:
        ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    except ValueError:
        return
    raise ConfigError(
        "this Ray serves already", mend="run recomind.serving.app.build_app(...) there"
    )


@contextmanager
def _running_ray(config: ServingConfig) -> Iterator[None]:
    needed = config.num_replicas * config.num_cpus
    if ray.is_initialized():
        _check_cpus(needed, ray.available_resources().get("CPU", 0.0))
        yield
        return
    available = len(os.sched_getaffinity(0))
    _check_cpus(needed, available)
    start_ray(available, _OBJECT_STORE_BYTES)
    try:
        yield
    finally:
        ray.shutdown()


def _check_cpus(needed: float, available: float) -> None:
    if needed > available:
        raise ConfigError(
            "serving.num_replicas * serving.num_cpus",
            got=needed,
            expected=f"<= {available:g}, the CPUs that are free",
            mend="fewer replicas; Ray would wait for the CPUs without a word",
        )
