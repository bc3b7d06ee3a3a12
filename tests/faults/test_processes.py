"""What is said of old weights and dead processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recomind.errors import ConfigError, RecomindError
from recomind.training.cluster import running_ray
from recomind.training.dqn.algorithm import SessionDQN, SessionDQNConfig
from recomind.training.trainer import ProcessDiedError, train_policy
from tests.faults.kills import RUNNER
from tests.faults.processes import actors, kill
from tests.training.test_algorithm import build
from tests.training.tiny import PROBLEM, settings

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_outdated_weights_are_noticed() -> None:
    with build() as algorithm:
        algorithm.train()
        assert algorithm.report["weights_behind_updates"] == 0
        round_size = 16 * 4  # sessions times steps: what is simulated before weights are sent again
        assert 0 < algorithm.report["weights_behind_env_steps"] <= round_size
        (rows,) = algorithm._simulate()
        rows.weights_seq_no -= 3
        rows.weights_env_steps -= 1000
        before = algorithm.num_env_steps
        algorithm._remember([rows])
        events = algorithm.num_env_steps - before + 1000
        behind = {"weights_behind_updates": 3, "weights_behind_env_steps": events}
        assert algorithm.take_staleness() == behind
        assert set(algorithm.take_staleness().values()) == {0}


def test_staleness_is_reported_and_in_tensorboard(tmp_path: Path) -> None:
    reports = run(tmp_path / "run", tensorboard_dir=tmp_path / "tb")
    assert [report["weights_behind_updates"] for report in reports] == [0, 0, 0]
    assert [report["faults"] for report in reports] == [0, 0, 0]
    events = EventAccumulator(str(tmp_path / "tb")).Reload()
    steps = [scalar.value for scalar in events.Scalars("training/weights_behind_env_steps")]
    assert steps == [report["weights_behind_env_steps"] for report in reports]
    assert len(events.Scalars("training/faults")) == 3


def run(
    folder: Path, tensorboard_dir: Path | None = None, on_iteration=lambda report: None, **changes
) -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = []

    def listen(report: dict[str, Any]) -> None:
        reports.append(report)
        on_iteration(report)

    train_policy(
        PROBLEM,
        settings(**changes),
        seed=0,
        checkpoint_dir=folder,
        on_iteration=listen,
        tensorboard_dir=tensorboard_dir,
    )
    return reports


def test_an_error_of_ours_is_not_taken_for_a_death(tmp_path: Path) -> None:
    def fail(report: dict[str, Any]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(tmp_path, on_iteration=fail, restart_runners=True)


@pytest.mark.slow
def test_a_death_without_restarts_is_said_and_can_be_gone_on_from(tmp_path: Path) -> None:
    def strike(report: dict[str, Any]) -> None:
        if report["iteration"] == 2:
            (found,) = actors(RUNNER)
            kill(found)

    with pytest.raises(ProcessDiedError, match=r"process of the training died.*restart_runners"):
        run(tmp_path, on_iteration=strike, num_runners=1, num_env_steps=2000)
    seen = run(tmp_path, num_runners=1, num_env_steps=2000)
    assert seen[0]["iteration"] <= 3  # the checkpoint after the second may not have come about
    assert seen[-1]["env_steps"] >= 2000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Train's use of Ray Data
def test_an_error_in_a_learner_is_what_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecomindError, match="is not finite") as caught:
        run(tmp_path, num_learners=1, learning_rate=1e30, restart_runners=True)
    assert not isinstance(caught.value, ProcessDiedError)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", r"no Ray head answers at training.ray_address; got: 127.0.0.1:1: "),
        ("ray://127.0.0.1:10001", "expected: host:port"),
        ("nowhere", "expected: host:port"),
    ],
)
def test_no_cluster_at_the_address(
    monkeypatch: pytest.MonkeyPatch, address: str, message: str
) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ConfigError, match=message), running_ray(settings(ray_address=address)):
        pass
    monkeypatch.setenv("RAY_ADDRESS", address)  # what Ray's own commands listen to
    with pytest.raises(ConfigError, match=message), running_ray(settings()):
        pass


def test_drawn_settings_are_taken_over_and_unknown_ones_refused() -> None:
    config = SessionDQNConfig().session(problem=PROBLEM, settings=settings())
    with pytest.raises(ConfigError, match="unknown setting 'learning_rat': did you mean"):
        config.tuned(learning_rat=1.0)
    algorithm = cast(SessionDQN, config.tuned(learning_rate=0.25, gamma=0.5).build_algo())
    try:
        assert algorithm.settings.gamma == 0.5
        assert algorithm.learner is not None
        (optimizer,) = algorithm.learner._named_optimizers.values()
        assert [group["lr"] for group in optimizer.param_groups] == [0.25]
    finally:
        algorithm.stop()


def test_a_drawn_rate_outlives_the_state_of_another_trial(tmp_path: Path) -> None:
    with build(learning_rate=1e-3) as algorithm:
        algorithm.train()
        path = algorithm.save_to_path(tmp_path / "good")
        weights = {k: v.clone() for k, v in algorithm.learner.session_module.target.tensors.items()}
    with build(learning_rate=1e-2) as algorithm:
        algorithm.restore_from_path(path)
        (optimizer,) = algorithm.learner._named_optimizers.values()
        assert [group["lr"] for group in optimizer.param_groups] == [1e-2]
        assert len(optimizer.state) == len(weights)
        for name, value in algorithm.learner.session_module.target.tensors.items():
            assert torch.equal(value, weights[name])
