"""The version that is current in a registry is served, and followed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from recomind.errors import ConfigError
from recomind.serving.registry import current_version, follow


@pytest.fixture
def registry(tmp_path) -> Path:
    folder = tmp_path / "registry"
    for name in ("v1", "v2"):
        (folder / name).mkdir(parents=True)
    (folder / "current").symlink_to("v1")
    return folder


def point_at(registry: Path, name: str) -> None:
    staging = registry / ".next"
    staging.symlink_to(name)
    staging.rename(registry / "current")


def test_a_link_and_a_file_both_name_the_version(registry):
    assert current_version(registry) == (registry / "v1").resolve()
    (registry / "current").unlink()
    (registry / "current").write_text("v2\n")
    assert current_version(registry) == (registry / "v2").resolve()


@pytest.mark.parametrize("content", ["", "v3", "..", "/", "a\0b"])
def test_what_is_no_version_is_refused(registry, content):
    (registry / "current").unlink()
    (registry / "current").write_text(content)
    with pytest.raises(ConfigError, match="current version"):
        current_version(registry)
    (registry / "current").unlink()
    with pytest.raises(ConfigError, match="no current version"):
        current_version(registry)


def test_each_change_is_loaded_once_and_a_broken_registry_changes_nothing(registry):
    loaded: list[str] = []

    async def load(folder: Path) -> None:
        loaded.append(folder.name)

    async def play() -> None:
        served = current_version(registry)
        task = asyncio.create_task(follow(registry, served, load, poll_s=0.01))
        for name in ("v2", "nowhere", "v1"):
            point_at(registry, name)
            await asyncio.sleep(0.15)
        task.cancel()

    asyncio.run(play())
    assert loaded == ["v2", "v1"]
