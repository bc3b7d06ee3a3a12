"""Updates on a device that nothing waits for: the host only queues work, and reads losses at times.

A wait in each update would leave the device idle while the host queues the next one. What the host
needs to know (is the loss finite?) is therefore decided on the device.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recomind.data import SessionDataset
from recomind.device_settings import MatmulPrecision
from recomind.devices import device_of, rounding, within_memory
from recomind.ranker.averaging import WeightAverage
from recomind.ranker.loss import ImpressionLoss
from recomind.ranker.run_batch import RunBatch

_READ_EVERY = 50  # updates between two readings of the losses
_log = logging.getLogger(__name__)


class DeviceUpdates:
    """Updates whose losses are summed on the device.

    An update whose loss or gradient is not finite is counted and not applied, moments included.

    Args:
        loss: with the weights on the device.
        optimizers: fused AdamW and `TableAdam`, which both leave everything as it is where their
            `found_inf` is 1.
        dense: the parameters whose gradient is clipped.
        average: of the weights.
        max_norm: of the clipped gradient.
    """

    def __init__(
        self,
        loss: ImpressionLoss,
        optimizers: Sequence[torch.optim.Optimizer],
        dense: Sequence[nn.Parameter],
        average: WeightAverage,
        max_norm: float,
    ) -> None:
        self.loss, self.optimizers, self.dense = loss, optimizers, dense
        self.average, self.max_norm = average, max_norm
        self.precision = loss.ranker.config.precision
        self.device = device_of(loss)
        self.num_updates = self.num_skipped = 0
        self._sums = self._nothing()
        self._latest = 0.0

    def _nothing(self) -> Tensor:
        """Sum of the losses, updates that were applied, and those that were not."""
        return torch.zeros(3, device=self.device)

    def __call__(self, block: SessionDataset, rows: Tensor, batch: RunBatch | None) -> float:
        """One update; the mean loss when it was last read, NaN where training has to stop.

        Args:
            block: of the log.
            rows: of the block.
            batch: what is read of them, where it has been gathered; on the processor.

        Raises:
            RecomindError: the device has too little memory for so many rows.
        """
        within_memory(
            lambda _: self.queue(block, rows, batch),
            len(rows),
            what="an update of the ranker",
            setting="ranker.batch_size",
            probe=lambda num: self._gradients(block, rows[:num], None),
        )
        self.num_updates += 1
        if self.num_updates == 1 or self.num_updates % _READ_EVERY == 0:
            self._latest = self.read()
        return self._latest

    def queue(self, block: SessionDataset, rows: Tensor, batch: RunBatch | None) -> None:
        """One update, without a look at what came of it."""
        loss = self._gradients(block, rows, batch)
        norm = nn.utils.clip_grad_norm_(self.dense, self.max_norm)
        bad = ~(loss.isfinite() & norm.isfinite() & self._tables_are_finite())
        for optimizer in self.optimizers:
            stepping: Any = optimizer
            stepping.found_inf = bad.float()
            optimizer.step()
        self.average.update()
        self._sums += torch.stack([loss.masked_fill(bad, 0.0), (~bad).float(), bad.float()])

    def _tables_are_finite(self) -> Tensor:
        """Whether the rows' gradients are, which the norm leaves out."""
        groups: Any = self.optimizers[1].param_groups
        grads = [table.grad._values() for group in groups for table in group["params"]]
        return torch.stack([grad.isfinite().all() for grad in grads]).all()

    def _gradients(self, block: SessionDataset, rows: Tensor, batch: RunBatch | None) -> Tensor:
        self.loss.ranker.train()
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        with rounding(self.precision, self.device):
            loss = self.loss(block, rows) if batch is None else self.loss.of_batch(block, batch)
        loss.backward()
        return loss.detach()

    def read(self) -> float:
        """The mean loss since the last reading, for which the host waits; NaN where it must stop.

        It must stop at an update that is not finite in float32, and where no update was applied.
        """
        total, applied, skipped = self._sums.tolist()
        self._sums = self._nothing()
        self.num_skipped += int(skipped)
        if skipped and (self.precision is not MatmulPrecision.bf16 or not applied):
            return math.nan
        return total / applied if applied else self._latest

    def tell_skipped(self) -> None:
        """Warn of updates that were not applied."""
        if self.num_skipped:
            _log.warning(
                "%d of %d updates of the ranker were not finite in %s, and not applied",
                *(self.num_skipped, self.num_updates, self.precision.value),
            )
