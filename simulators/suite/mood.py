"""`mood`: what the session is about is hidden at its start, and is learned soonest by asking.

Source: Christakopoulou, Radlinski, Hofmann, "Towards Conversational Recommender Systems" (KDD
2016): a few questions, chosen by what they tell, find what a new user wants faster than
recommending does. Here a question is an item that names half of the topics and is answered by
whether the mood is among them. The numbers are ours.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from recomind.simulation import Hidden
from recomind.streams import hash_int64, hash_uniform
from simulators.suite.world import SuiteWorld


class Mood(SuiteWorld):
    """One of the topics is the mood. References know the taste and the answers, not the mood."""

    task_names: ClassVar[tuple[str, ...]] = ("liked", "answered")
    num_topics: ClassVar[int] = 12
    bias: ClassVar[float] = -3.5
    taste_scale: ClassVar[float] = 0.5
    boost: ClassVar[float] = 4.0  # logits of the mood's topic
    questions: ClassVar[float] = 0.15  # share of the items that ask; they are never liked
    truthful: ClassVar[float] = 0.95  # probability of answering as the mood says
    price: ClassVar[float] = 1.0

    def content(self, keys_N: Tensor) -> dict[str, Tensor]:
        """Whether an item asks, and about which topics."""
        self.asks_N = hash_uniform(keys_N, 11) < self.questions
        keys_NT = hash_int64(keys_N, 12)[:, None] + torch.arange(self.num_topics) * 0x5851F42D
        half_NT = hash_uniform(keys_NT, 13).argsort(dim=1).argsort(dim=1) < self.num_topics // 2
        self.names_NT = (half_NT & self.asks_N[:, None]).float()
        named = {f"asks_{t}": self.names_NT[:, t] for t in range(self.num_topics)}
        return {"asks": self.asks_N.float()} | named

    def start(self, taste_BT: Tensor, draws_BD: Tensor) -> Hidden:
        """A mood that nothing tells of."""
        belief_BT = torch.full_like(taste_BT, 1.0 / self.num_topics)
        mood_B = (draws_BD[:, 0] * self.num_topics).long()
        return {"taste": taste_BT, "mood": mood_B, "belief": belief_BT}

    def rates_if(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """[B, K, T, H]: the rates for each mood."""
        mood_T, appeal_BK1 = torch.arange(self.num_topics), self.appeal(hidden, item_BK)[..., None]
        fits_BKT = self.topic_N[item_BK][..., None] == mood_T
        asks_BK1 = self.asks_N[item_BK][..., None]
        liked_BKT = (appeal_BK1 + self.boost * fits_BKT).sigmoid() * ~asks_BK1
        yes_BKT = torch.where(self.names_NT[item_BK] > 0, self.truthful, 1.0 - self.truthful)
        return torch.stack([liked_BKT, yes_BKT * asks_BK1], dim=-1)

    def rates(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """Those of the true mood."""
        mood = hidden["mood"][:, None, None, None].expand(*item_BK.shape, 1, len(self.tasks))
        return self.rates_if(hidden, item_BK).gather(2, mood)[:, :, 0]

    def change(self, hidden: Hidden, item_B: Tensor, feedback_BH: Tensor) -> Hidden:
        """The belief follows Bayes' rule; the mood stays."""
        rates_BTH = self.rates_if(hidden, item_B[:, None])[:, 0]
        likelihood_BTH = torch.where(feedback_BH[:, None], rates_BTH, 1.0 - rates_BTH)
        belief_BT = hidden["belief"] * likelihood_BTH.prod(-1)
        return hidden | {"belief": belief_BT / belief_BT.sum(1, keepdim=True)}

    def expected_reward(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """Under the belief."""
        reward_BKT = self.rates_if(hidden, item_BK) @ self.reward_weights_H
        return (reward_BKT * hidden["belief"][:, None]).sum(-1)

    def consequence(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """Nats that the response is expected to tell of the mood (mutual information)."""
        rates_BKTH, belief = self.rates_if(hidden, item_BK), hidden["belief"][:, None, :, None]
        mean_BKH = (rates_BKTH * belief).sum(2)
        return (_entropy(mean_BKH) - (_entropy(rates_BKTH) * belief).sum(2)).sum(-1)


def _entropy(rate: Tensor) -> Tensor:
    """[...]: nats of a coin."""
    return -torch.xlogy(rate, rate) - torch.xlogy(1.0 - rate, 1.0 - rate)
