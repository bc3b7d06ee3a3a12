"""`delayed`: the only reward is a purchase, which ends the session.

Source: Hu, Da, Zeng, Yu, Xu, "Reinforcement Learning to Rank in E-Commerce Search Engine:
Formalization, Analysis, and Application" (KDD 2018): a search session ends by a purchase or by
abandonment, the reward comes with the purchase, and what was shown before decides on it. That items
inform or press for a decision, and the numbers, are ours.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from recomind.simulation import Hidden
from recomind.streams import hash_uniform
from simulators.suite.world import LIKED, SuiteWorld


class Delayed(SuiteWorld):
    """Items that are liked inform; a pressing item sells to the informed and drives others away."""

    task_names: ClassVar[tuple[str, ...]] = ("liked", "bought")
    rewarded: ClassVar[str] = "bought"
    bias: ClassVar[float] = -0.5
    gain: ClassVar[float] = 0.3  # share of what is missing that an item which is liked informs of
    uninformed: ClassVar[float] = 0.1  # share of the sales to a user who knows nothing
    sales: ClassVar[float] = 1.0  # probability of buying a perfect item, pressed and informed
    abandonment: ClassVar[float] = 0.25  # rate of leaving a fully pressing item without buying
    interruption: ClassVar[float] = 0.02
    price: ClassVar[float] = 1.0

    def content(self, keys_N: Tensor) -> dict[str, Tensor]:
        """How much an item presses for a decision, standardised."""
        self.press_N = hash_uniform(keys_N, 11)
        return {"press": (self.press_N - 0.5) * 12**0.5}

    def start(self, taste_BT: Tensor, draws_BD: Tensor) -> Hidden:
        """Uninformed."""
        return {"taste": taste_BT, "informed": torch.zeros(len(taste_BT))}

    def rates(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """Liking by taste, less of what presses; buying by fit, pressure and information."""
        press_BK, fits_BK = self.press_N[item_BK], self.appeal(hidden, item_BK).sigmoid()
        share_B1 = self.share(hidden["informed"])[:, None]
        return torch.stack(
            [fits_BK * (1.0 - press_BK), self.sales * fits_BK * press_BK * share_B1], -1
        )

    def share(self, informed: Tensor) -> Tensor:
        """[...]: share of the sales that a user so informed brings."""
        return self.uninformed + (1.0 - self.uninformed) * informed**2

    def change(self, hidden: Hidden, item_B: Tensor, feedback_BH: Tensor) -> Hidden:
        """An item that is liked informs."""
        informed_B = hidden["informed"]
        return hidden | {
            "informed": informed_B + self.gain * (1.0 - informed_B) * feedback_BH[:, LIKED]
        }

    def leave_rate(self, hidden: Hidden, item_B: Tensor, feedback_BH: Tensor) -> Tensor:
        """1 after a purchase, and the more an item pressed in vain."""
        pressed_B = self.interruption + self.abandonment * self.press_N[item_B]
        return torch.where(feedback_BH[:, 1], 1.0, pressed_B)

    def consequence(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """Change of the share of sales that is left for later, 0 of it once the session ends."""
        liked_BK, bought_BK = self.rates(hidden, item_BK).unbind(-1)
        informed_B1 = hidden["informed"][:, None]
        later_B1 = self.share(informed_B1 + self.gain * (1.0 - informed_B1))
        now_B1 = self.share(informed_B1)
        pressed_BK = self.interruption + self.abandonment * self.press_N[item_BK]
        stays_BK = (1.0 - bought_BK) * (1.0 - pressed_BK)
        return stays_BK * (now_B1 + liked_BK * (later_B1 - now_B1)) - now_B1
