"""`ranker_optimal`: what is liked next is also best for later, so a perfect ranker is optimal.

What is liked lengthens the session and what is not shortens it. An item acts on later only through
whether it is liked; of two items the one that is liked more often is therefore better now and
later.

Source: Zou, Xia, Ding, Song, Liu, Yin, "Reinforcement Learning to Optimize Long-term User
Engagement in Recommender Systems" (KDD 2019): satisfaction with what was shown decides when the
user leaves. The patience and its numbers are ours.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from recomind.simulation import Hidden
from simulators.suite.world import LIKED, SuiteWorld


class RankerOptimal(SuiteWorld):
    """Patience is spent on what is not liked and restored by what is."""

    patience: ClassVar[float] = 3.0  # at the start, in disappointments
    restored: ClassVar[float] = 1.0  # by an item that is liked, up to `patience`
    interruption: ClassVar[float] = 0.02
    price: ClassVar[float] = 1.0

    def start(self, taste_BT: Tensor, draws_BD: Tensor) -> Hidden:
        """Rested, with full patience."""
        return {"taste": taste_BT, "patience": torch.full((len(draws_BD),), self.patience)}

    def change(self, hidden: Hidden, item_B: Tensor, feedback_BH: Tensor) -> Hidden:
        """One disappointment less, or some patience back."""
        gained_B = torch.where(feedback_BH[:, LIKED], self.restored, -1.0)
        return hidden | {"patience": (hidden["patience"] + gained_B).clamp(max=self.patience)}

    def leave_rate(self, hidden: Hidden, item_B: Tensor, feedback_BH: Tensor) -> Tensor:
        """1 where patience is used up."""
        called_away = super().leave_rate(hidden, item_B, feedback_BH)
        return torch.where(hidden["patience"] <= 0.0, 1.0, called_away)

    def consequence(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """Expected change of patience, which is larger the more the item is liked."""
        return self.rates(hidden, item_BK)[..., LIKED] * (1.0 + self.restored) - 1.0
