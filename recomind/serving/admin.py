"""Another scorer while serving: its golden requests come first, and no request is dropped."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from recomind.errors import ConfigError, RecomindError, SchemaError
from recomind.serving.http import Answer, error
from recomind.serving.queue import RequestQueue
from recomind.serving.replica import Loaded, Replica
from recomind.serving.request import decode_json

MakeReplicas = Callable[[Path], Sequence[Replica]]  # makes replicas of the scorer in a folder

_log = logging.getLogger(__name__)


class Admin:
    """What an operator may ask of a running service, with a token.

    Args:
        queue: whose replicas are changed.
        token: what a caller must bring; where empty, everything is refused.
        make_replicas: replicas of the scorer in a folder, not started.
    """

    def __init__(self, queue: RequestQueue, token: str, make_replicas: MakeReplicas | None) -> None:
        self._queue, self._make_replicas, self._lock = queue, make_replicas, asyncio.Lock()
        self._token = token

    async def load(self, authorization: str, body: bytes) -> tuple[Answer, Loaded | None]:
        """Answer `POST /admin/load`, whose body is `{"scorer_folder": ...}`; roll back likewise.

        What does not load is refused with 409, and the scorer that serves goes on.
        """
        if not self._token or self._make_replicas is None:
            return error(404, "no such path; serving.admin_token_file would open it"), None
        if not hmac.compare_digest(authorization.encode(), f"Bearer {self._token}".encode()):
            return error(401, "the bearer token of serving.admin_token_file is wanted"), None
        try:
            folder = _folder(body)
        except SchemaError as wrong:
            return error(400, str(wrong)), None
        if self._lock.locked():
            return error(409, "another scorer is being loaded"), None
        return await self.load_folder(folder)

    async def load_folder(self, folder: Path) -> tuple[Answer, Loaded | None]:
        """Serve the scorer in `folder` from now on, or go on as before."""
        assert self._make_replicas is not None
        async with self._lock:
            return await self._replace(folder, self._make_replicas)

    async def _replace(self, folder: Path, make: MakeReplicas) -> tuple[Answer, Loaded | None]:
        metrics = self._queue.metrics
        try:
            loaded = await self._queue.replace(await asyncio.to_thread(make, folder))
        except RecomindError as refusal:
            metrics.loaded(accepted=False)
            _log.error("the scorer in %s is not served: %s", folder, refusal)
            return error(409, str(refusal)), None
        metrics.loaded(accepted=True)
        _log.warning("now serving %s from %s", loaded.status["scorer"], folder)
        return (200, loaded.status), loaded


def read_token(path: Path) -> str:
    """The token in a file that only its owner may read.

    Raises:
        ConfigError: the file is absent, too short, or open to others.
    """
    try:
        mode, token = path.stat().st_mode, path.read_text().strip()
    except (OSError, UnicodeDecodeError) as failure:
        raise ConfigError("serving.admin_token_file", got=f"{path}: {failure}") from None
    if mode & 0o077:
        raise ConfigError(
            "serving.admin_token_file is open to others",
            got=f"{path}, mode {mode & 0o777:o}",
            mend=f"chmod 600 {path}",
        )
    if len(token) < 16:
        raise ConfigError(
            "serving.admin_token_file",
            got=f"a token of {len(token)} characters",
            expected="at least 16",
            mend=f"openssl rand -hex 32 > {path}",
        )
    return token


def _folder(body: bytes) -> Path:
    value = decode_json(body)
    if not isinstance(value, dict) or set(value) != {"scorer_folder"}:
        raise SchemaError("the body", expected='{"scorer_folder": "..."}')
    if not isinstance(value["scorer_folder"], str) or "\0" in value["scorer_folder"]:
        raise SchemaError("scorer_folder", expected="a path")
    return Path(value["scorer_folder"])
