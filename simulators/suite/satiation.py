"""`satiation`: the embedded feed, in which a topic that is watched tires and recovers.

Source: simulators/video_feed, preset `fatigue` (docs/adr/0003), as it is: fatigue by topic that
recovers geometrically, as in Leqi, Kilinc-Karzan, Lipton, Montgomery, "Rebounding Bandits for
Modeling Satiation Effects" (NeurIPS 2021), and a patience that time and disappointment spend. Every
figure of this repository before the suite was tuned in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from recomind.simulation import Hidden
from recomind.types import Policy
from simulators.suite.logs import logging_policy
from simulators.video_feed.oracles import expected_patience, expected_watch
from simulators.video_feed.world import VideoFeed


class Satiation(VideoFeed):
    """The preset `fatigue` with the suite's logs and references.

    Args:
        logging: who served before: `random`, `weak` or `ranker` (simulators/suite/logs.py).
        num_items: size of the catalogue.
        warm_events: see `VideoFeed`.
        world_seed: selects items and users.
    """

    # The best pair of experiments/presets: likes per unit of patience, and of fatigue per unit of
    # it and of taste; the suite's single price multiplies both.
    patience_price: ClassVar[float] = 1.2
    fatigue_price: ClassVar[float] = 0.5
    price: ClassVar[float] = 1.0

    def __init__(
        self,
        *,
        logging: str = "weak",
        num_items: int = 1000,
        horizon: int = 30,
        history_length: int = 30,
        warm_events: int = 8,
        reward_weights: Mapping[str, float] | None = None,
        world_seed: int = 0,
    ) -> None:
        self.logging = logging
        super().__init__(
            preset_name="fatigue",
            num_items=num_items,
            horizon=horizon,
            history_length=history_length,
            warm_events=warm_events,
            reward_weights=reward_weights,
            world_seed=world_seed,
        )

    def logging_policy(self) -> Policy:
        """The one that `logging` names."""
        return logging_policy(self)

    def cohort_taste(self, user_B: Tensor) -> Tensor:
        """[B, T]: what the visible cohort tells of the user's taste."""
        return self.parameters.cohort_share**0.5 * self.users.cohort_taste(user_B)

    def start(self, taste_BT: Tensor, draws_BD: Tensor) -> Hidden:
        """A rested user with this taste."""
        del draws_BD
        return {"taste": taste_BT, "fatigue": torch.zeros_like(taste_BT)}

    def expected_reward(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """True probability [B, K] of a watch of more than 10 s."""
        items = self.items.items(item_BK)
        return expected_watch(self, items, self.appeal(items, hidden["taste"], hidden["fatigue"]))

    def consequence(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """Expected change of patience and of fatigue, priced as the look-ahead oracle's."""
        items, taste_BT = self.items.items(item_BK), hidden["taste"]
        appeal_BK = self.appeal(items, taste_BT, hidden["fatigue"])
        fatigue_BK = hidden["fatigue"].gather(1, items.topic)
        tires_BK = taste_BT.gather(1, items.topic).clamp(min=0.0) * (1.0 - fatigue_BK)
        patience_BK = self.patience_price * expected_patience(self, items, appeal_BK)
        return patience_BK - self.fatigue_price * self.parameters.fatigue_gain * tires_BK
