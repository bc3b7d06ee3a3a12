"""How feedback tasks are weighed into a reward, and probabilities into a utility."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from recomind.errors import ConfigError


def task_weights(tasks: tuple[str, ...], weights: Mapping[str, float]) -> Tensor:
    """[H] float32 weights in the order of `tasks`; absent tasks weigh 0.

    Raises:
        ConfigError: a weight for a task that does not exist, or no weight other than 0.
    """
    unknown = sorted(set(weights) - set(tasks))
    if unknown:
        raise ConfigError("weight for an unknown task", got=unknown, expected=list(tasks))
    vector = torch.tensor([float(weights.get(task, 0.0)) for task in tasks])
    if not bool(vector.any()):
        raise ConfigError("every task weighs 0, so there is nothing to maximise", got=dict(weights))
    return vector
