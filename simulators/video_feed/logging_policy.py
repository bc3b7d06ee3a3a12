"""The logging policy of the embedded world."""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.candidates import SubsetExploration
from recomind.streams import hash_uniform
from recomind.types import Candidates, Decision, SessionState
from simulators.video_feed.catalogue import HashedCatalogue, HashedUsers


class LoggingPolicy:
    """What served the feed before: ranks by visible quality and the taste of the user's cohort.

    Half of the sessions explore 30 % of the time and half 10 %, with exact propensities. In the
    preset `confounded` it knows the user's own hidden taste instead of the cohort's.
    """

    def __init__(self, items: HashedCatalogue, users: HashedUsers) -> None:
        self.items, self.users = items, users
        self.explorations = [SubsetExploration(epsilon=e, subset_size=1) for e in (0.3, 0.1)]

    def act(self, state: SessionState, candidates: Candidates, uniforms: Tensor) -> Decision:
        """One candidate a session."""
        item_id, users = candidates.item_id, self.users
        knows = users.parameters.logging_policy_knows_taste
        taste = (users.taste if knows else users.cohort_taste)(state.user_id)
        items = self.items.items(item_id)
        scores = taste.gather(1, items.topic) + 0.5 * items.quality_signal
        explores_more = hash_uniform(state.user_id, 41) < 0.5
        slots, logs = zip(
            *(e.choose(scores, candidates.mask, uniforms) for e in self.explorations), strict=True
        )
        slot = torch.where(explores_more, slots[0], slots[1])
        return Decision(
            slot=slot,
            item_id=item_id.gather(1, slot[:, None])[:, 0],
            log_propensity=torch.where(explores_more, logs[0], logs[1]),
            batch_size=[len(slot)],
        )
