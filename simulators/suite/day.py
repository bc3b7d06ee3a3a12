"""`day`: the time of day says what is liked and how many minutes are left before work calls.

Source: Baltrunas, Amatriain, "Towards Time-Dependant Recommendation based on Implicit Feedback"
(CARS workshop of RecSys 2009): users have a taste for each part of the day. That the break ends at
a fixed moment, that an item counts only if it fits in, and the numbers, are ours.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from recomind.simulation import Hidden
from recomind.streams import hash_normal
from simulators.suite.world import LIKED, SuiteWorld

_PARTS = ("morning", "noon", "evening")


class Day(SuiteWorld):
    """Longer items are liked more and leave less time."""

    break_minutes: ClassVar[tuple[float, float, float]] = (6.0, 12.0, 24.0)
    median: ClassVar[float] = 1.2  # minutes of an item
    spread: ClassVar[float] = 0.5  # deviation of the log of its minutes
    depth: ClassVar[float] = 0.3  # logits per deviation of the log of its minutes
    glance: ClassVar[float] = 0.3  # minutes spent on an item that is not liked
    interruption: ClassVar[float] = 0.01
    price: ClassVar[float] = 0.5

    def content(self, keys_N: Tensor) -> dict[str, Tensor]:
        """The log of the minutes, standardised."""
        self.log_N = hash_normal(keys_N, 11)
        self.minutes_N = self.median * (self.spread * self.log_N).exp()
        return {"log_minutes": self.log_N}

    def further_user_features(self) -> list[str]:
        """The part of the day at the session's start."""
        return list(_PARTS)

    def see(self, hidden: Hidden) -> Tensor:
        """[B, 3]: one-hot of the part of the day."""
        return one_hot(hidden["part"], len(_PARTS)).float()

    def start(self, taste_BT: Tensor, draws_BD: Tensor) -> Hidden:
        """Another taste in each part: topics are rotated by it."""
        part_B = (draws_BD[:, 0] * len(_PARTS)).long()
        topic_BT = (torch.arange(self.num_topics) + 3 * part_B[:, None]) % self.num_topics
        left_B = torch.tensor(self.break_minutes)[part_B]
        return {"taste": taste_BT.gather(1, topic_BT), "part": part_B, "minutes_left": left_B}

    def rates(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """More of what is long, nothing of what is too long."""
        fits_BK = self.minutes_N[item_BK] <= hidden["minutes_left"][:, None]
        logit_BK = self.appeal(hidden, item_BK) + self.depth * self.log_N[item_BK]
        return (logit_BK.sigmoid() * fits_BK)[..., None]

    def change(self, hidden: Hidden, item_B: Tensor, feedback_BH: Tensor) -> Hidden:
        """Time passes."""
        minutes_B = self.dwell_s(item_B, feedback_BH) / 60.0
        return hidden | {"minutes_left": hidden["minutes_left"] - minutes_B}

    def leave_rate(self, hidden: Hidden, item_B: Tensor, feedback_BH: Tensor) -> Tensor:
        """1 when the break is over."""
        called_away = super().leave_rate(hidden, item_B, feedback_BH)
        return torch.where(hidden["minutes_left"] <= 0.0, 1.0, called_away)

    def dwell_s(self, item_B: Tensor, feedback_BH: Tensor) -> Tensor:
        """The minutes of an item that is liked, otherwise a glance."""
        return 60.0 * torch.where(feedback_BH[:, LIKED], self.minutes_N[item_B], self.glance)

    def consequence(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """Minutes that are expected to pass, negative."""
        liked_BK = self.rates(hidden, item_BK)[..., LIKED]
        return -liked_BK * self.minutes_N[item_BK] - (1.0 - liked_BK) * self.glance
