"""`drift`: interest moves towards what is consumed, in some topics up and in others down.

Source: Jiang, Chiappa, Lattimore, György, Kohli, "Degenerate Feedback Loops in Recommender
Systems" (AIES 2019): the interest in what is consumed drifts with each consumption. Dean,
Morgenstern, "Preference Dynamics Under Personalized Recommendations" (EC 2022): the drift is part
of what a policy brings about. That interest in a topic has a level of its own to which it drifts,
high for acquired tastes and low for fads, is ours, and so are the numbers.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from recomind.simulation import Hidden
from simulators.suite.world import LIKED, SuiteWorld


class Drift(SuiteWorld):
    """Even topics are fads, liked at first; odd ones are acquired tastes."""

    step_size: ClassVar[float] = 0.3  # share of the way to a topic's level per like
    exposure: ClassVar[float] = 0.1  # the same of an item that was shown and not liked
    level: ClassVar[tuple[float, float]] = (0.0, 3.0)  # levels of fads and of acquired tastes
    head_start: ClassVar[tuple[float, float]] = (0.5, -1.5)  # added to taste at the start
    price: ClassVar[float] = 0.5

    def by_topic(self, pair: tuple[float, float]) -> Tensor:
        """[T]: the first of `pair` for fads, the second for acquired tastes."""
        return torch.tensor(pair).repeat(self.num_topics // 2)

    def start(self, taste_BT: Tensor, draws_BD: Tensor) -> Hidden:
        """Fads are ahead."""
        return {"taste": taste_BT + self.by_topic(self.head_start)}

    def change(self, hidden: Hidden, item_B: Tensor, feedback_BH: Tensor) -> Hidden:
        """Interest in the topic that was shown moves towards the topic's level."""
        topic_B1 = self.topic_N[item_B][:, None]
        taste_B1 = hidden["taste"].gather(1, topic_B1)
        share_B1 = torch.where(feedback_BH[:, LIKED, None], self.step_size, self.exposure)
        moved_B1 = taste_B1 + share_B1 * (self.by_topic(self.level)[topic_B1] - taste_B1)
        return {"taste": hidden["taste"].scatter(1, topic_B1, moved_B1)}

    def consequence(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """Expected change of interest in the item's topic."""
        topic_BK = self.topic_N[item_BK]
        liked_BK = self.rates(hidden, item_BK)[..., LIKED]
        share_BK = self.exposure + (self.step_size - self.exposure) * liked_BK
        return share_BK * (
            self.by_topic(self.level)[topic_BK] - hidden["taste"].gather(1, topic_BK)
        )
