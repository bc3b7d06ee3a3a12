"""The training loop of small networks on rows that fit in memory: response, leaving, density.

Symbols: `R` rows, `M` input features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from recomind.streams import make_generator

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # (outputs, context, labels) -> scalar
_WEIGHT_DECAY = 1e-3


class FitSettings(Protocol):
    """The settings that `fit_network` reads; `SimulatorConfig` has them."""

    num_epochs: int
    batch_size: int
    learning_rate: float


class Standardising(nn.Module):
    """Base of small networks that standardise their inputs, for `fit_network`."""

    mean: Tensor  # [M]
    scale: Tensor  # [M]

    def __init__(self, num_inputs: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_inputs))
        self.register_buffer("scale", torch.ones(num_inputs))

    def standardise(self, inputs_RM: Tensor) -> None:
        """Take mean and scale from rows."""
        self.mean.copy_(inputs_RM.mean(0))
        self.scale.copy_(inputs_RM.std(0).clamp(min=1e-3))


@dataclass(slots=True)
class Fit:
    """Rows for `fit_network`: inputs, and what the loss needs beside the outputs."""

    inputs: Tensor  # [R, M]
    context: Tensor  # [R, ...] whatever the loss takes beside outputs and labels
    labels: Tensor  # [R, ...]


def fit_network(
    net: Standardising, train: Fit, held_out: Fit, loss: Loss, config: FitSettings, seed: int
) -> int:
    """Minimise `loss(outputs, context, labels)` by AdamW; keep the best epoch on held-out rows.

    The training rows judge the epochs where there are no held-out rows.

    Returns:
        The number of epochs after which the network was best.
    """
    net.standardise(train.inputs)
    generator = make_generator(seed)
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=config.learning_rate, weight_decay=_WEIGHT_DECAY
    )
    best, best_loss, best_epoch = None, float("inf"), config.num_epochs
    for epoch in range(config.num_epochs):
        order = torch.randperm(len(train.inputs), generator=generator)
        for rows in order.split(config.batch_size):
            value = loss(net(train.inputs[rows]), train.context[rows], train.labels[rows])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        with torch.no_grad():
            judged = held_out if len(held_out.inputs) else train
            value = loss(net(judged.inputs), judged.context, judged.labels).item()
        if value < best_loss:
            best, best_loss = {k: v.clone() for k, v in net.state_dict().items()}, value
            best_epoch = epoch + 1
    if best is not None:
        net.load_state_dict(best)
    return best_epoch
