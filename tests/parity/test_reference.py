"""The RLlib algorithm does what a plain loop over the same parts does."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from recomind.errors import ConfigError
from recomind.training.cluster import quiet_rllib
from recomind.training.config import TrainingConfig
from recomind.training.dqn.algorithm import SessionDQN, SessionDQNConfig
from recomind.training.dqn.reference import ReferenceTrainer
from tests.training.tiny import PROBLEM, settings

NUM_UPDATES = 200
TOLERANCE = 1e-5


@pytest.fixture(scope="module", autouse=True)
def local_ray() -> Iterator[None]:
    import ray

    torch.set_num_threads(1)
    started = not ray.is_initialized()
    if started:
        ray.init(
            address="local",
            num_cpus=1,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    yield
    if started:
        ray.shutdown()


def config(**changes) -> TrainingConfig:
    """A little over 200 updates, exploration falling on the way, targets that move."""
    few = {"env_steps_per_update": 12, "num_env_steps": 2_560, "steps_per_iteration": 640}
    return settings(**(few | {"target_rate": 0.05, "n_step": 3} | changes))


def losses_in_rllib(training: TrainingConfig, seed: int) -> list[float]:
    """The loss of every update of a local runner and a local learner."""
    built = SessionDQNConfig().session(problem=PROBLEM, settings=training, seed=seed)
    with quiet_rllib():
        algorithm = built.build_algo()
        assert isinstance(algorithm, SessionDQN)
        losses: list[float] = []
        update = algorithm.learners.update

        def watched(**kwargs: Any) -> list[dict[str, Any]]:
            result = update(**kwargs)
            assert algorithm.learner is not None
            losses.append(algorithm.learner.take_metrics()["loss"])
            return result

        setattr(algorithm.learners, "update", watched)  # noqa: B010, to look at each one
        while algorithm.num_env_steps < training.num_env_steps:
            algorithm.train()
        algorithm.stop()
    return losses


def losses_in_reference(training: TrainingConfig, seed: int) -> list[float]:
    reference = ReferenceTrainer(PROBLEM, training, seed=seed)
    reference.run(training.num_env_steps)
    return torch.stack(reference.losses).tolist()


@pytest.mark.parametrize(
    "changes", [{}, {"target_rate": 0.0, "target_update_every": 30}], ids=["moved", "copied"]
)
def test_same_seed_same_loss_curve(changes):
    ours = losses_in_rllib(config(**changes), seed=3)
    theirs = losses_in_reference(config(**changes), seed=3)
    assert len(ours) == len(theirs) >= NUM_UPDATES
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) <= TOLERANCE


@pytest.mark.parametrize("changes", [{"algorithm": "actor_critic"}, {"prioritised": 0.6}])
def test_what_the_reference_does_not_do_is_refused(changes):
    with pytest.raises(ConfigError, match="Q-learning from a uniform replay"):
        ReferenceTrainer(PROBLEM, config(**changes), seed=3)


def test_another_seed_has_another_curve():
    one, other = (losses_in_reference(config(), seed) for seed in (3, 4))
    assert max(abs(a - b) for a, b in zip(one, other, strict=False)) > 1_000 * TOLERANCE
