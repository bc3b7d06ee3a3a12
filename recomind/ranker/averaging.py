"""Running average of dense weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor


class WeightAverage:
    """The running average of parameters (Polyak and Juditsky 1992), which is what is kept.

    The plain mean of all updates at first, then exponential with `rate`. Embedding tables are left
    out: an average of a table would touch every row at every update.

    Args:
        parameters: what is averaged.
        rate: share of the newest weights; 0 switches averaging off.
    """

    def __init__(self, parameters: Sequence[Tensor], rate: float) -> None:
        self.parameters = [parameter.detach() for parameter in parameters]
        self.rate, self.num_updates = rate, 0
        self.average = [p.clone() for p in self.parameters] if rate > 0 else []

    def update(self) -> None:
        """Take in the weights after an update."""
        if not self.average:
            return
        self.num_updates += 1
        share = max(self.rate, 1 / self.num_updates)
        for average, parameter in zip(self.average, self.parameters, strict=True):
            average.lerp_(parameter, share)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module has the averaged weights meanwhile."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def swap(self) -> None:
        """Exchange the average and the weights."""
        for average, parameter in zip(self.average, self.parameters, strict=False):
            kept = parameter.clone()
            parameter.copy_(average)
            average.copy_(kept)
