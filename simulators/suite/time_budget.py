"""`time_budget`: a session has a budget of time, which good items give back and others spend.

Source: Ie et al., "RecSim" (arXiv:1909.04847, 2019), the interest evolution environment: items have
a length and a quality by topic, most topics are poor, the budget falls by the time spent and is
restored by a bonus that grows with quality, and the session ends with the budget. That poor topics
attract more, and the numbers, are ours.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from recomind.simulation import Hidden
from recomind.streams import hash_normal
from simulators.suite.world import LIKED, SuiteWorld


class TimeBudget(SuiteWorld):
    """Topics 0 to 4 attract, the last three are of good quality."""

    budget: ClassVar[float] = 8.0  # minutes at the start
    median: ClassVar[float] = 1.0  # minutes of an item
    spread: ClassVar[float] = 0.4  # deviation of the log of its minutes
    glance: ClassVar[float] = 0.3  # minutes spent on an item that is not liked
    bonus: ClassVar[float] = 0.8  # share of the minutes of a good item that come back, if liked
    num_poor: ClassVar[int] = 5  # topics
    lure: ClassVar[float] = 0.5  # logits by which poor topics attract more
    interruption: ClassVar[float] = 0.01
    price: ClassVar[float] = 1.0

    def content(self, keys_N: Tensor) -> dict[str, Tensor]:
        """The log of the minutes, standardised."""
        log_N = hash_normal(keys_N, 11)
        self.minutes_N = self.median * (self.spread * log_N).exp()
        return {"log_minutes": log_N}

    def start(self, taste_BT: Tensor, draws_BD: Tensor) -> Hidden:
        """The whole budget."""
        return {"taste": taste_BT, "budget": torch.full((len(taste_BT),), self.budget)}

    def rates(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """Poor topics are liked more."""
        poor_BK = (self.topic_N[item_BK] < self.num_poor).float()
        return (self.appeal(hidden, item_BK) + self.lure * poor_BK).sigmoid()[..., None]

    def net(self, item: Tensor) -> Tensor:
        """[...]: minutes by which the budget falls if the item is liked."""
        good = self.topic_N[item] >= self.num_poor
        return self.minutes_N[item] * torch.where(good, 1.0 - self.bonus, 1.0)

    def change(self, hidden: Hidden, item_B: Tensor, feedback_BH: Tensor) -> Hidden:
        """The time spent goes, the bonus of a good item comes back."""
        spent_B = torch.where(feedback_BH[:, LIKED], self.net(item_B), self.glance)
        return hidden | {"budget": hidden["budget"] - spent_B}

    def leave_rate(self, hidden: Hidden, item_B: Tensor, feedback_BH: Tensor) -> Tensor:
        """1 where the budget is spent."""
        called_away = super().leave_rate(hidden, item_B, feedback_BH)
        return torch.where(hidden["budget"] <= 0.0, 1.0, called_away)

    def dwell_s(self, item_B: Tensor, feedback_BH: Tensor) -> Tensor:
        """The minutes of an item that is liked, otherwise a glance."""
        return 60.0 * torch.where(feedback_BH[:, LIKED], self.minutes_N[item_B], self.glance)

    def consequence(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """Expected change of the budget in minutes."""
        liked_BK = self.rates(hidden, item_BK)[..., LIKED]
        return -liked_BK * self.net(item_BK) - (1.0 - liked_BK) * self.glance
