"""Names that an earlier version knew: still read, and said to be old."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import cast

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from recomind import aliases
from recomind.aliases import RENAMED, as_today, with_old_names
from recomind.artifacts import MANIFEST, Manifest, read_manifest, write_artifact
from recomind.config import RecomindConfig, conf_dir, register, resolve
from recomind.errors import ConfigError
from recomind.policy import PolicyConfig
from recomind.training.config import TrainingConfig
from recomind.training.trainer import _check_same

WORLD = {"world": {"_target_": "simulators.video_feed.world.VideoFeed"}}
OLD = {"simulation": {"gate": False}, "training": {"actor_critic": {"leash_weight": 0.5}}}


def composed(*overrides: str) -> RecomindConfig:
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return resolve(compose("base", ["experiment=tiny", "output=out", *overrides]))


def test_an_old_name_on_the_command_line_works_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        config = composed("simulation.gate=false", "training.actor_critic.leash_weight=0.5")
    assert (config.simulation.fatigue, config.training.actor_critic.kl_coefficient) == (False, 0.5)
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        f"{old} is now called {new}" for old, new in RENAMED.items()
    ]


def test_an_old_name_in_yaml_works() -> None:
    merged = OmegaConf.merge(with_old_names(RecomindConfig), WORLD, OLD)
    config = resolve(cast(DictConfig, merged))
    assert (config.simulation.fatigue, config.training.actor_critic.kl_coefficient) == (False, 0.5)


def test_an_algorithm_of_ones_own_takes_options() -> None:
    assert composed("+training.options={alpha: 0.5}").training.options == {"alpha": 0.5}


def test_without_an_old_name_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert composed().simulation.fatigue is True
    assert not caplog.records


def test_a_name_that_was_never_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown setting 'simulation\.gait'"):
        composed("+simulation.gait=false")


def test_an_artifact_of_the_version_before_has_todays_names(tmp_path: Path) -> None:
    with write_artifact(tmp_path / "a", Manifest(kind="simulator", config=OLD)):
        pass
    assert json.loads((tmp_path / "a" / MANIFEST).read_text())["config"] == OLD
    assert read_manifest(tmp_path / "a").config == {
        "simulation": {"fatigue": False},
        "training": {"actor_critic": {"kl_coefficient": 0.5}, "options": {}},
    }


def test_what_was_added_is_filled_in_where_its_group_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aliases, "ADDED", {"training.later": lambda training: [1]})
    assert as_today({"ranker": {}, "training": {}}) == {"ranker": {}, "training": {"later": [1]}}
    assert as_today({"ranker": {}}) == {"ranker": {}}


@pytest.mark.parametrize(("tau", "kept"), [(0.05, True), (0.0, False)])
def test_a_policy_of_the_version_before_keeps_the_rankers_first_choice(
    tau: float, kept: bool
) -> None:
    """Where there is no density that is no difference, and no reason to refuse the run."""
    assert as_today({"policy": {"support_density": tau}})["policy"]["support_keeps_ranker"] is kept
    given = {"support_density": 0.05, "support_keeps_ranker": False, "support_evidence": 2.0}
    assert as_today({"policy": given}) == {"policy": given}


@pytest.mark.parametrize(
    ("tau", "evidence"), [(0.05, None), (0.0, PolicyConfig().support_evidence)]
)
def test_a_density_of_the_version_before_always_constrains(
    tau: float, evidence: float | None
) -> None:
    assert as_today({"policy": {"support_density": tau}})["policy"]["support_evidence"] == evidence


def test_a_checkpoint_of_the_version_before_goes_on() -> None:
    config = TrainingConfig()
    config.actor_critic.kl_coefficient = 0.5
    written = OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True)
    theirs = cast(dict, written)
    del theirs["actor_critic"]["kl_coefficient"], theirs["options"]
    manifest = Manifest(kind="training_checkpoint", seed=3, config=theirs)
    theirs["actor_critic"]["leash_weight"] = 0.5
    _check_same(manifest, config, 3)
    theirs["actor_critic"]["leash_weight"] = 0.6
    with pytest.raises(ConfigError, match="other settings"):
        _check_same(manifest, config, 3)


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_alias_names_a_setting_of_today_and_none_that_is_left(old: str, new: str) -> None:
    today = OmegaConf.structured(RecomindConfig)
    assert OmegaConf.select(today, new) is not None
    holder, _, name = old.rpartition(".")
    assert name not in OmegaConf.select(today, holder)
