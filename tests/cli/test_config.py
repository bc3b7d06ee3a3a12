"""Every preset composes, resolves, and survives being written down."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from recomind.aliases import with_old_names
from recomind.config import RecomindConfig, conf_dir, make_world, plain, register, resolve

EXPERIMENTS = sorted(p.stem for p in (conf_dir() / "experiment").glob("*.yaml"))


def composed(*overrides: str) -> DictConfig:
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("base", ["output=out", *overrides])


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_survives_being_written_down(experiment: str, tmp_path: Path) -> None:
    root = ["data.root=raw"] if experiment == "kuairand" else []
    config = composed(f"experiment={experiment}", *root)
    OmegaConf.save(config, tmp_path / "config.yaml", resolve=True)
    written = OmegaConf.load(tmp_path / "config.yaml")
    again = OmegaConf.merge(with_old_names(RecomindConfig), written)
    resolved = resolve(config)
    assert resolved.name == experiment
    assert plain(resolve(cast(DictConfig, again))) == plain(resolved)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_opens_with_its_command(experiment: str) -> None:
    lines = (conf_dir() / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert lines[1].startswith(f"# recomind run experiment={experiment}")


@pytest.mark.parametrize("world", ["fatigue", "steady", "confounded"])
def test_every_world_can_be_built(world: str) -> None:
    config = resolve(composed(f"world={world}", "world.num_items=50"))
    found = make_world(config)
    assert found is not None
    assert found.catalogue.num_items == 50


@pytest.mark.parametrize(
    ("overrides", "tau"),
    [
        (["experiment=demo"], 0.05),
        (["world=gym", "world.env_id=CartPole-v1"], 0.05),
        (["experiment=kuairand", "data.root=raw"], 0.0),  # its propensities are unknown
    ],
)
def test_the_density_of_the_logs_is_asked_for_where_propensities_are_known(
    overrides: list[str], tau: float
) -> None:
    assert resolve(composed(*overrides)).policy.support_density == tau


def test_training_follows_the_policys_support_constraint() -> None:
    config = resolve(composed("world=steady", "policy.support_ratio=0.3"))
    assert config.training.support_ratio == 0.3


def of_a_shop(tmp_path: Path) -> list[str]:
    """A preset of a user's own."""
    text = """# @package _global_
candidates:
  num_generated: 4
  generator: {_target_: shop.Popular, top: 100}
  blocked: [3, 7]
"""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "shop.yaml").write_text(text)
    return [f"hydra.searchpath=[file://{tmp_path}]", "experiment=shop"]


@pytest.mark.parametrize("by_file", [False, True])
def test_a_generator_and_blocked_items_can_be_named(by_file: bool, tmp_path: Path) -> None:
    overrides = (
        of_a_shop(tmp_path)
        if by_file
        else [
            "candidates.num_generated=4",
            "candidates.blocked=[3, 7]",
            "+candidates.generator={_target_: shop.Popular, top: 100}",
        ]
    )
    config = resolve(composed("world=steady", *overrides)).candidates
    assert (config.num_generated, config.blocked) == (4, [3, 7])
    assert type(config.blocked) is list
    assert config.generator == {"_target_": "shop.Popular", "top": 100}
    assert type(config.generator) is dict
