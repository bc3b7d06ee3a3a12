"""What logging policies and references ask of a world of the suite."""

from __future__ import annotations

from typing import ClassVar, Protocol

from torch import Tensor

from recomind.simulation import Hidden


class Mechanism(Protocol):
    """A world whose expected reward and consequences can be asked for.

    `B` sessions, `K` candidates, `T` topics.
    """

    logging: str  # a name of `simulators.suite.logs.LOGS`
    price: ClassVar[float]  # rewards that a unit of `consequence` is worth, for look-ahead

    @property
    def hidden(self) -> Hidden:
        """The unobserved state of the running sessions, each [B, ...]."""
        ...

    @property
    def present_users(self) -> Tensor:
        """[B] int64: whose sessions are running."""
        ...

    def cohort_taste(self, user_B: Tensor) -> Tensor:
        """[B, T]: what the visible cohort tells of a user's taste."""
        ...

    def start(self, taste_BT: Tensor, draws_BD: Tensor) -> Hidden:
        """The hidden state at step 0 of users with this taste."""
        ...

    def expected_reward(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """[B, K]: the reward of the next step."""
        ...

    def consequence(self, hidden: Hidden, item_BK: Tensor) -> Tensor:
        """[B, K]: what showing the item changes for later."""
        ...
