"""A folder of versions, one of which is current; the service serves it, and follows it.

    registry/v41/        an exported scorer
    registry/v42/
    registry/current     a link to one of them, or a file that holds its name

Who releases changes `current` and nothing else; to roll back, change it back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from recomind.errors import ConfigError

CURRENT = "current"

_log = logging.getLogger(__name__)


def current_version(registry: Path) -> Path:
    """The folder that is current.

    Raises:
        ConfigError: there is none, or it lies outside the registry.
    """
    pointer = Path(registry) / CURRENT
    try:
        is_file = pointer.is_file()
        folder = Path(registry) / pointer.read_text().strip() if is_file else pointer
        folder = folder.resolve(strict=True)
    except (OSError, UnicodeDecodeError, ValueError) as failure:
        raise ConfigError(
            "the registry has no current version",
            got=f"{pointer}: {failure}",
            expected="a link to a version's folder, or a file that holds its name",
        ) from None
    if not folder.is_dir() or Path(registry).resolve() not in folder.parents:
        raise ConfigError(
            "the registry's current version is no folder in it", got=folder, expected=registry
        )
    return folder


async def follow(
    registry: Path, served: Path, load: Callable[[Path], Awaitable[object]], poll_s: float
) -> None:
    """Ask `load` for every version that becomes current, once; goes on until it is cancelled.

    Args:
        registry: the folder.
        served: the version that is served now.
        load: what refuses a version says so itself, and the last one goes on.
        poll_s: seconds between looks.
    """
    while True:
        await asyncio.sleep(poll_s)
        try:
            version = await asyncio.to_thread(current_version, registry)
        except ConfigError as error:
            _log.error("%s", error)
            continue
        if version != served:
            served = version
            await load(version)
