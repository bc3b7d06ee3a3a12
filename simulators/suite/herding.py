"""`herding`: what has been adopted is adopted more, until its market is saturated.

A session is a market of successive visitors; each step shows one of them an item.

Source: Bass, "A New Product Growth for Model Consumer Durables" (Management Science 1969):
adoption at a rate p + q (share adopted), times the share that is left. Salganik, Dodds, Watts,
"Experimental Study of Inequality and Unpredictability in an Artificial Cultural Market" (Science
2006): what leads early wins. That only some topics have a crowd, and a larger market, and the
numbers, are ours.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from recomind.simulation import Hidden
from simulators.suite.world import LIKED, SuiteWorld


class Herding(SuiteWorld):
    """Even topics are niches, liked first and soon saturated; a crowd follows odd ones."""

    taste_scale: ClassVar[float] = 0.5
    size: ClassVar[tuple[float, float]] = (10.0, 40.0)  # likes that saturate a niche, a mass market
    head_start: ClassVar[tuple[float, float]] = (0.5, -0.5)  # logits
    herd: ClassVar[tuple[float, float]] = (0.0, 1.5)  # logits per like so far in the topic
    crowd: ClassVar[float] = 5.0  # likes up to which more of them attract more
    interruption: ClassVar[float] = 0.01
    price: ClassVar[float] = 1.0

    def by_topic(self, pair: tuple[float, float]) -> Tensor:
        """[T]: the first of `pair` for niches, the second for mass markets."""
        return torch.tensor(pair).repeat(self.num_topics // 2)

    def start(self, taste_BT: Tensor, draws_BD: Tensor) -> Hidden:
        """Nobody has adopted anything."""
        return {"taste": taste_BT, "adopted": torch.zeros_like(taste_BT)}

    def rates(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """More with the crowd, in proportion to the share of the market that is left."""
        topic_BK = self.topic_N[item_BK]
        adopted_BK = hidden["adopted"].gather(1, topic_BK)
        logit_BK = self.appeal(hidden, item_BK) + self.by_topic(self.head_start)[topic_BK]
        logit_BK = logit_BK + self.by_topic(self.herd)[topic_BK] * adopted_BK.clamp(max=self.crowd)
        left_BK = (1.0 - adopted_BK / self.by_topic(self.size)[topic_BK]).clamp(min=0.0)
        return (logit_BK.sigmoid() * left_BK)[..., None]

    def change(self, hidden: Hidden, item_B: Tensor, feedback_BH: Tensor) -> Hidden:
        """A like is an adoption."""
        liked_BT = one_hot(self.topic_N[item_B], self.num_topics) * feedback_BH[:, LIKED, None]
        return hidden | {"adopted": hidden["adopted"] + liked_BT}

    def consequence(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """Likes times the change of the topic's rate once there are three more of them."""
        liked_BK = self.rates(hidden, item_BK)[..., LIKED]
        three_more = hidden | {"adopted": hidden["adopted"] + 3.0}
        return liked_BK * (self.rates(three_more, item_BK)[..., LIKED] - liked_BK)
