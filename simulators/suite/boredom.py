"""`boredom`: too many likes of one topic turn the user away from everything for some steps.

Source: Deffayet, Thonet, Hwang, Lehoux, Renders, de Rijke, "SARDINE: A Simulator for Automated
Recommendation in Dynamic and Interactive Environments" (ACM TORS 2024): a user who has clicked on
too many items of a topic within the last ones is bored for a fixed number of steps. There boredom
is with that topic; here it is with everything. The numbers are ours.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from recomind.simulation import Hidden
from simulators.suite.world import LIKED, SuiteWorld


class Boredom(SuiteWorld):
    """Heat by topic rises with likes; above a limit the user is bored for a while."""

    decay: ClassVar[float] = 0.8  # factor of heat per step
    limit: ClassVar[float] = 2.2  # heat of a topic that bores: three likes of it in a row or nearly
    duration: ClassVar[float] = 5.0  # steps for which the user is bored
    bored_share: ClassVar[float] = 0.1  # share of the likes that remain while bored
    interruption: ClassVar[float] = 0.02
    price: ClassVar[float] = 1.0

    def start(self, taste_BT: Tensor, draws_BD: Tensor) -> Hidden:
        """Nothing is hot and nobody is bored."""
        bored_B = torch.zeros(len(taste_BT))
        return {"taste": taste_BT, "heat": torch.zeros_like(taste_BT), "bored": bored_B}

    def rates(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """A share of the appeal while bored."""
        share_B = torch.where(hidden["bored"] > 0.0, self.bored_share, 1.0)
        return (self.appeal(hidden, item_BK).sigmoid() * share_B[:, None])[..., None]

    def change(self, hidden: Hidden, item_B: Tensor, feedback_BH: Tensor) -> Hidden:
        """Heat rises by likes; a topic above the limit bores and cools down to 0."""
        liked_BT = one_hot(self.topic_N[item_B], self.num_topics) * feedback_BH[:, :1]
        heat_BT = self.decay * hidden["heat"] + liked_BT
        bores_BT = heat_BT > self.limit
        bored_B = (hidden["bored"] - 1.0).clamp(min=0.0)
        bored_B = torch.where(bores_BT.any(1), self.duration, bored_B)
        return hidden | {"heat": heat_BT.masked_fill(bores_BT, 0.0), "bored": bored_B}

    def consequence(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """Steps that are expected to be lost to boredom, half of them where one like is missing."""
        heat_BK = self.decay * hidden["heat"].gather(1, self.topic_N[item_BK]) + 1.0
        liked_BK = self.rates(hidden, item_BK)[..., LIKED]
        near_BK = 0.25 * (heat_BK / self.limit).clamp(max=1.0) ** 2
        return -liked_BK * torch.where(heat_BK > self.limit, 1.0, near_BK)
