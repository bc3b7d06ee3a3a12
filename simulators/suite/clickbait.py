"""`clickbait`: what attracts most now lowers how much is liked later.

Source: Ie, Hsu, Mladenov, Jain, Narvekar, Wang, Wu, Boutilier, "RecSim: A Configurable Simulation
Platform for Recommender Systems" (arXiv:1909.04847, 2019), the long-term satisfaction environment
("choc" and "kale"): exposure to bait is summed with a discount, satisfaction is the sigmoid of the
sum, and engagement is proportional to satisfaction. The numbers are ours.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from recomind.simulation import Hidden
from recomind.streams import hash_uniform
from simulators.suite.world import SuiteWorld


class Clickbait(SuiteWorld):
    """Items have a bait in (0, 1), visible; its discounted sum is a hidden satisfaction."""

    attraction: ClassVar[float] = 1.0  # logits between no bait and full bait
    decay: ClassVar[float] = 0.9  # factor of the sum of exposures per step
    sensitivity: ClassVar[float] = 0.2  # slope of satisfaction against the sum
    price: ClassVar[float] = 0.125

    def content(self, keys_N: Tensor) -> dict[str, Tensor]:
        """The bait, standardised."""
        self.bait_N = hash_uniform(keys_N, 11)
        return {"bait": (self.bait_N - 0.5) * 12**0.5}

    def start(self, taste_BT: Tensor, draws_BD: Tensor) -> Hidden:
        """Neither spoilt nor pleased."""
        return {"taste": taste_BT, "exposure": torch.zeros(len(taste_BT))}

    def rates(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """Attraction times satisfaction."""
        attracted_BK = self.appeal(hidden, item_BK) + self.attraction * self.bait_N[item_BK]
        satisfied_B1 = torch.sigmoid(self.sensitivity * hidden["exposure"])[:, None]
        return (attracted_BK.sigmoid() * satisfied_B1)[..., None]

    def change(self, hidden: Hidden, item_B: Tensor, feedback_BH: Tensor) -> Hidden:
        """Bait lowers the sum and its absence raises it, whether the item was liked or not."""
        value_B = 1.0 - 2.0 * self.bait_N[item_B]
        return hidden | {"exposure": self.decay * hidden["exposure"] + value_B}

    def consequence(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """What the item adds to the sum."""
        del hidden
        return 1.0 - 2.0 * self.bait_N[item_BK]
