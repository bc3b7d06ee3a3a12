"""The targets of a state, and how often each item is one.

Symbols: `A` states, `P` positive rows in the events' order, `B` states of a batch.

    events of a timeline     a   b*  c   d*  e   f*        * positive
    next                         b       d       f         each its own event
    all_action, two events   b   bd  d   df  f   f         one of them drawn, batch by batch

`all_action` is the dense all-action loss of Pancha et al., "PinnerFormer: sequence modeling for
user representation at Pinterest" (KDD 2022, section 3.3): a state at any place of a timeline
predicts a random positive action of the days that follow. That the state's own event is among them
is ours: the state holds only what was known before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recomind.data import SessionDataset
from recomind.errors import SchemaError
from recomind.retrieval.config import LossKind, RetrievalConfig

DAY_S = 86_400.0


class ItemShares:
    """Share of each item among learning samples; memory grows with the items that occur.

    Args:
        item_id: [P] int64.
        weight: [P] float64, number of samples of each; 1 where None.
    """

    def __init__(self, item_id: Tensor, weight: Tensor | None = None) -> None:
        weight = torch.ones(len(item_id), dtype=torch.float64) if weight is None else weight
        self._item_id, inverse = item_id.unique(return_inverse=True)
        total = weight.new_zeros(len(self._item_id)).index_add_(0, inverse, weight)
        self._share = total / weight.sum()

    def of(self, item_id: Tensor) -> Tensor:
        """[...] float64 in [0, 1]; 0.0 for an item that does not occur."""
        place = torch.searchsorted(self._item_id, item_id).clamp(max=len(self._item_id) - 1)
        return torch.where(self._item_id[place] == item_id, self._share[place], 0.0)


@dataclass(kw_only=True, slots=True)
class Targets:
    """States, and for each the range of positive rows that are its targets."""

    row_A: Tensor  # [A] int64, rows of the states
    first_A: Tensor  # [A] int64, first index of the range in `positive_P`
    last_A: Tensor  # [A] int64, one past its last index
    positive_P: Tensor  # [P] int64, rows
    shares: ItemShares  # shares of the items that are drawn

    def __len__(self) -> int:
        """Number of states."""
        return len(self.row_A)

    def draw(self, index_B: Tensor, generator: torch.Generator) -> Tensor:
        """One uniformly drawn target of each state: indices [B] into `positive_P`."""
        first_B = self.first_A[index_B]
        num_B = self.last_A[index_B] - first_B
        if bool((num_B == 1).all()):  # nothing to draw: the generator is not used
            return first_B
        unit_B = torch.rand(len(num_B), generator=generator, dtype=torch.float64)
        return first_B + (unit_B * num_B).long()


def positive_rows(dataset: SessionDataset, *splits: str) -> Tensor:
    """Rows [P] int64 of training users with a positive first task.

    Raises:
        SchemaError: there are none.
    """
    rows = dataset.rows(*splits, holdout=False)
    rows = rows[dataset.labels(rows)[:, 0] > 0]
    if not len(rows):
        raise SchemaError(
            f"no positive row of task {dataset.tasks[0]!r} in split {', '.join(splits)}",
            mend="check the labels, or make another task the first",
        )
    return rows


def make_targets(dataset: SessionDataset, config: RetrievalConfig) -> Targets:
    """The targets of the split "train" for the config's loss.

    Raises:
        SchemaError: no positive row.
    """
    positive_P = positive_rows(dataset, "train")
    if config.loss is LossKind.all_action:
        return _all_actions(dataset, positive_P, config.horizon_days * DAY_S)
    index_P = torch.arange(len(positive_P))
    return Targets(
        row_A=positive_P,
        first_A=index_P,
        last_A=index_P + 1,
        positive_P=positive_P,
        shares=ItemShares(dataset.item_id(positive_P)),
    )


def _all_actions(dataset: SessionDataset, positive_P: Tensor, horizon_s: float) -> Targets:
    row_A = dataset.rows("train", holdout=False)
    time_A, time_P = _on_one_axis(dataset, row_A, positive_P, horizon_s)
    first_A = torch.searchsorted(positive_P, row_A)
    last_A = torch.searchsorted(time_P, time_A + horizon_s, right=True)
    some_A = last_A > first_A
    row_A, first_A, last_A = row_A[some_A], first_A[some_A], last_A[some_A]
    weight_P = _expected_draws(first_A, last_A, len(positive_P))
    return Targets(
        row_A=row_A,
        first_A=first_A,
        last_A=last_A,
        positive_P=positive_P,
        shares=ItemShares(dataset.item_id(positive_P), weight_P),
    )


def _on_one_axis(
    dataset: SessionDataset, row_A: Tensor, positive_P: Tensor, horizon_s: float
) -> tuple[Tensor, Tensor]:
    """Seconds [A] and [P], ascending, with more than the horizon between two timelines."""
    begin_A, elapsed_A = dataset.clock(row_A)
    begin_P, elapsed_P = dataset.clock(positive_P)
    timeline_T = begin_A.unique()
    apart_s = float(elapsed_A.max()) + 2.0 * horizon_s
    offset_A, offset_P = (torch.searchsorted(timeline_T, b) * apart_s for b in (begin_A, begin_P))
    return offset_A + elapsed_A, offset_P + elapsed_P


def _expected_draws(first_A: Tensor, last_A: Tensor, num: int) -> Tensor:
    """How often [P] float64 each positive is drawn in a pass over the states, on average."""
    chance_A = 1.0 / (last_A - first_A).double()
    change = torch.zeros(num + 1, dtype=torch.float64)
    change.index_add_(0, first_A, chance_A).index_add_(0, last_A, -chance_A)
    return change.cumsum(0)[:num]
