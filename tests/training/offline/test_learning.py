"""`bc`, `cql` and `iql`: better than those who logged and than the ranker, from logs alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from recomind.artifacts import Manifest
from recomind.errors import ConfigError
from recomind.training.config import TrainingConfig
from recomind.training.offline.bc import SessionBCConfig
from recomind.training.offline.config import OfflineConfig
from recomind.training.offline.cql import SessionCQLConfig
from recomind.training.offline.iql import SessionIQLConfig, expectile_loss
from recomind.training.session_config import SessionConfig
from recomind.training.trainer import _check_same, _plain, train_policy
from recomind.types import TrainableQFunction
from tests.training.offline.trapped import LOGGED_TRAP, dataset
from tests.training.runs import built, interrupted, same, trained
from tests.training.test_known_optimum import true_value
from tests.training.trap import MOODS, TRAP, TrapNetwork, optimum

pytestmark = pytest.mark.usefixtures("ray_cluster")

UPDATES = {"bc": 50, "cql": 150, "iql": 300}
CONFIGS: dict[str, type[SessionConfig]] = {
    "bc": SessionBCConfig,
    "cql": SessionCQLConfig,
    "iql": SessionIQLConfig,
}
SMALL: dict[str, Any] = {
    "gamma": 0.99,
    "support_ratio": 0.0,
    "learning_rate": 1e-2,
    "batch_size": 128,
    "env_steps_per_update": 64,
    "num_env_steps": 64 * 300,
    "steps_per_iteration": 64 * 300,
}


def train(folder: Path, **changes: Any) -> TrainableQFunction:
    return train_policy(
        LOGGED_TRAP,
        TrainingConfig(**SMALL | changes),
        seed=0,
        checkpoint_dir=folder,
        on_iteration=lambda report: None,
    )


def logged_value() -> float:
    data = dataset()
    rows = data.rows("train")
    return float(data.labels(rows).sum() / (data.position(rows) == 0).sum())


@pytest.mark.parametrize("name", CONFIGS)
def test_learns_from_logs_what_greed_does_not_know(tmp_path: Path, name: str) -> None:
    best, ranker = float(optimum()[0][0, MOODS - 1]), true_value(TrapNetwork())
    logged = logged_value()
    assert ranker < logged < 0.9 * best
    found = true_value(train(tmp_path, algorithm=name, num_env_steps=64 * UPDATES[name]))
    assert found > logged
    assert found > 0.9 * best


@pytest.mark.parametrize("name", CONFIGS)
def test_resumes_from_a_checkpoint_as_if_it_had_not_stopped(tmp_path: Path, name: str) -> None:
    short: dict[str, Any] = {"num_env_steps": 64 * 12, "steps_per_iteration": 64 * 3}

    def build(**changes: Any):
        small: dict[str, Any] = SMALL | short | changes
        settings = TrainingConfig(algorithm=name, **small)
        return built(CONFIGS[name]().session(problem=LOGGED_TRAP, settings=settings, seed=4))

    assert same(interrupted(build, tmp_path, "ours"), trained(build, 4))


@pytest.mark.parametrize("name", CONFIGS)
def test_is_the_ranker_before_it_learns(tmp_path: Path, name: str) -> None:
    network = train(tmp_path, algorithm=name, num_env_steps=0)
    assert same(dict(network.named_parameters()), dict(TrapNetwork().named_parameters()))


@pytest.mark.parametrize(
    ("problem", "changes", "message"),
    [
        (TRAP, {}, "needs some; got: a SessionProblem without logs"),
        (LOGGED_TRAP, {"num_runners": 1}, "training.num_runners with an algorithm that learns"),
    ],
    ids=["no logs", "runners"],
)
def test_what_it_cannot_work_with_is_refused(problem, changes, message) -> None:
    small: dict[str, Any] = SMALL | changes
    settings = TrainingConfig(algorithm="cql", **small)
    config = SessionCQLConfig().session(problem=problem, settings=settings)
    with pytest.raises(ConfigError, match=message), built(config):
        pass


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("temperature", 0.0, "> 0"),
        ("conservatism", -0.1, ">= 0"),
        ("expectile", 1.0, r"in \[0.5, 1\)"),
        ("value_hidden", 0, ">= 1"),
        ("n_step", 0, ">= 1"),
        ("temperature", float("nan"), "> 0"),
    ],
)
def test_settings_out_of_range_are_refused(setting, value, expected) -> None:
    with pytest.raises(ConfigError, match=rf"training.offline.{setting}.*{expected}"):
        OfflineConfig(**{setting: value})


def test_a_checkpoint_from_before_there_were_these_settings_is_continued() -> None:
    config = TrainingConfig(n_step=5)
    earlier = _plain(config)
    del earlier["offline"]
    manifest = Manifest(kind="training_checkpoint", seed=1, config=earlier)
    _check_same(manifest, config, 1)
    changed = TrainingConfig(n_step=5, offline=OfflineConfig(conservatism=0.5))
    with pytest.raises(ConfigError, match=r"other settings; got: \{'offline': .*0\.5"):
        _check_same(manifest, changed, 1)


def test_a_network_that_hides_its_states_has_no_value_head() -> None:
    class Closed(TrapNetwork):
        state_vector: Any = None

    problem = dataclasses.replace(LOGGED_TRAP, network=Closed)
    config = SessionIQLConfig().session(
        problem=problem, settings=TrainingConfig(algorithm="iql", **SMALL)
    )
    with pytest.raises(ConfigError, match="needs an encoding of the state"), built(config):
        pass


def test_the_expectile_is_where_both_sides_balance() -> None:
    draws, tau = torch.tensor([0.0, 1.0, 2.0, 10.0]), 0.9
    value = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.LBFGS([value], max_iter=100)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = expectile_loss(draws - value, tau)
        loss.backward()
        return loss

    optimiser.step(closure)
    above, below = (draws - value).clamp(min=0).sum(), (value - draws).clamp(min=0).sum()
    torch.testing.assert_close(tau * above, (1 - tau) * below, rtol=1e-3, atol=1e-4)
    assert float(value.detach()) > float(draws.mean())
