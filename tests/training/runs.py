"""Algorithms that are built, trained, compared and resumed: what the tests of both share."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch

from recomind.training.checkpoint import load_checkpoint, save_checkpoint
from recomind.training.cluster import quiet_rllib
from recomind.training.target import trainable

Weights = dict[str, torch.Tensor]
Build = Callable[..., AbstractContextManager[Any]]


@contextmanager
def built(config: Any) -> Iterator[Any]:
    """The algorithm of an RLlib config, stopped at the end."""
    with quiet_rllib():
        algorithm = config.build_algo()
        try:
            yield algorithm
        finally:
            algorithm.stop()


def weights(algorithm: Any) -> Weights:
    return {k: v.detach().clone() for k, v in trainable(algorithm.trained_network()).items()}


def same(one: Weights, two: Weights) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def trained(build: Build, num_iterations: int, **changes: Any) -> Weights:
    with build(**changes) as algorithm:
        for _ in range(num_iterations):
            algorithm.train()
        return weights(algorithm)


def interrupted(build: Build, folder: Path, through: str) -> Weights:
    """Two iterations, a checkpoint of ours or of RLlib's, and two more in another algorithm."""
    with build() as algorithm:
        algorithm.train()
        algorithm.train()
        if through == "ours":
            path = save_checkpoint(folder, 2, algorithm.training_state(), {}, seed=0)
        else:
            path = algorithm.save_to_path(folder / "rllib")
        algorithm.train()  # what came after the checkpoint must not leak into it
    with build() as algorithm:
        if through == "ours":
            algorithm.set_training_state(load_checkpoint(path)[1])
        else:
            algorithm.restore_from_path(path)
        algorithm.train()
        algorithm.train()
        assert algorithm.num_updates == algorithm.learner.num_updates
        return weights(algorithm)
