"""`repetition`: an item is liked more each time it comes back, until it has come once too often.

Source: Zajonc, "Attitudinal effects of mere exposure" (Journal of Personality and Social
Psychology 1968): repeated exposure raises liking; and Calder, Sternthal, "Television Commercial
Wearout" (Journal of Marketing Research 1980): beyond a number of exposures it turns into
annoyance. Here an exposure beyond the limit makes the user leave with a fixed probability. The
numbers are ours.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from recomind.simulation import Hidden
from simulators.suite.world import SuiteWorld


class Repetition(SuiteWorld):
    """Exposures by item raise its appeal; beyond a limit they drive the user away.

    Its catalogue is small, and a pool must not leave out what was seen lately.
    """

    familiarity: ClassVar[float] = 0.3  # logits per earlier exposure, up to the limit
    limit: ClassVar[int] = 3  # exposures of one item in a session that are welcome
    annoyance: ClassVar[float] = 0.2  # probability of leaving at each exposure beyond
    price: ClassVar[float] = 8.0

    def start(self, taste_BT: Tensor, draws_BD: Tensor) -> Hidden:
        """Nothing has been shown in this session."""
        count_BN = torch.zeros(len(taste_BT), len(self.topic_N))
        return {"taste": taste_BT, "count": count_BN}

    def rates(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """More of what is familiar."""
        count_BK = hidden["count"].gather(1, item_BK).clamp(max=self.limit)
        return (self.appeal(hidden, item_BK) + self.familiarity * count_BK).sigmoid()[..., None]

    def change(self, hidden: Hidden, item_B: Tensor, feedback_BH: Tensor) -> Hidden:
        """One more exposure of the item."""
        once = torch.ones(len(item_B), 1)
        return hidden | {"count": hidden["count"].scatter_add(1, item_B[:, None], once)}

    def leave_rate(self, hidden: Hidden, item_B: Tensor, feedback_BH: Tensor) -> Tensor:
        """Higher where the item has come too often."""
        too_often_B = hidden["count"].gather(1, item_B[:, None])[:, 0] > self.limit
        called_away = super().leave_rate(hidden, item_B, feedback_BH)
        return torch.where(too_often_B, self.annoyance, called_away)

    def consequence(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """Probability of driving the user away, negative."""
        return -self.annoyance * (hidden["count"].gather(1, item_BK) >= self.limit)
