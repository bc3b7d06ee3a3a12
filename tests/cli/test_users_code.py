"""Code of the user's that fails is named by file and line, with status 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from recomind.config import FromEnvironment, plain, resolve
from recomind.errors import ConfigError
from recomind.folders import job_name
from tests.cli.test_config import composed
from tests.flow.in_process import Command

_ENVIRONMENT = """
import gymnasium as gym
import numpy as np

class Old(gym.Env):
    def __init__(self):
        self.observation_space = gym.spaces.Box(0, 1, (2,), np.float)

gym.register("Old-v0", entry_point=Old)
"""


def test_an_environment_that_cannot_be_made(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("oldenv.py").write_text(_ENVIRONMENT)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    outcome = command(
        "check-world", "world=gym", "world.env_id=oldenv:Old-v0", "allowed_targets=[oldenv]"
    )
    assert outcome.status == 2
    (line,) = outcome.err.splitlines()
    assert "AttributeError" in line
    assert f"({Path.cwd()}/oldenv.py:7)" in line


def test_an_error_repeats_little_of_a_large_input() -> None:
    said = str(ConfigError("body", got="x" * 4_000_000, mend="send less"))
    assert said == "body; got: {}...{} (4,000,000 characters); to mend: send less".format(
        "x" * 120, "x" * 80
    )


def test_what_the_environment_holds_is_not_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "hunter22")
    generator = "+candidates.generator={_target_: shop.Popular, key: '${oc.env:SHOP_TOKEN}'}"
    config = resolve(composed("world=steady", "candidates.num_generated=4", generator))
    key = config.candidates.generator["key"]
    assert (key, type(key)) == ("hunter22", FromEnvironment)
    assert plain(config)["candidates"]["generator"]["key"] == "${oc.env:SHOP_TOKEN}"
    assert "hunter22" not in str(plain(config))


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["experiment=tiny", "seed=1"], "seed=1"),
        (["name=a"], "default"),
        (["data.root=${oc.env:TOKEN}"], "data.root=_oc.env_TOKEN"),
        (["data.root=/mnt/a/b"], "data.root=_mnt_a_b"),
        ([f"candidates.blocked=[{','.join(map(str, range(100)))}]"], "candidates.blocked=_0,1,2,3"),
    ],
)
def test_jobs_have_short_names(overrides: list[str], name: str) -> None:
    made = job_name(overrides)
    assert made.startswith(name)
    assert len(made) <= 60
    assert "/" not in made
    assert made == job_name(list(reversed(overrides)))
    assert made != job_name([*overrides, "training.gamma=0.1"])


def test_a_long_sweep(command: Command) -> None:
    blocked = f"[{','.join(map(str, range(100)))}]"
    swept = f"candidates.blocked={blocked},[1]"
    outcome = command("collect-logs", "-m", "experiment=tiny", "collect.num_sessions=20", swept)
    assert outcome.status == 0, outcome.err
    jobs = sorted(path for path in Path("runs/sweeps/tiny").iterdir() if path.is_dir())
    assert len(jobs) == 2
    assert any(blocked in (job / ".hydra/overrides.yaml").read_text() for job in jobs)


def test_an_output_elsewhere_leaves_the_working_folder_alone(
    command: Command, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    setting = ["experiment=tiny", "collect.num_sessions=20", f"output={elsewhere}"]
    outcome = command("collect-logs", *setting)
    assert outcome.status == 0, outcome.err
    assert (elsewhere / "round_0/sessions/manifest.json").is_file()
    assert list(Path().iterdir()) == []
