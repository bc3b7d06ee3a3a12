"""Logged sessions as transitions, gathered when a batch is drawn.

`B` transitions, `n` steps, `K` candidates. Nothing is copied: beside the events, memory does not
grow with the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from recomind.candidates.around import around
from recomind.data import SessionDataset
from recomind.errors import ConfigError
from recomind.rewards import task_weights
from recomind.streams import SessionStreams, draw_seeds
from recomind.types import Candidates, CandidateSource, SessionState, Transition

_FEWEST = 2  # events to learn from


@dataclass(kw_only=True, slots=True)
class TrainingLogs:
    """What a policy learns from where no simulator is opened."""

    dataset: SessionDataset
    reward_weights: Mapping[str, float]  # task -> weight

    @property
    def rows(self) -> Tensor:
        """[R] events of the training days, without hold-out users.

        Raises:
            ConfigError: fewer than two.
        """
        rows = self.dataset.rows("train", holdout=False)
        if len(rows) < _FEWEST:
            raise ConfigError(
                "there are too few logged events to learn from",
                got=f"{len(rows)} on training days",
                expected=f">= {_FEWEST}",
            )
        return rows


@dataclass(kw_only=True, slots=True)
class LoggedBatch:
    """Logged decisions: where, among what, and what came of it."""

    transition: Transition  # [B]; its next candidates are a fresh pool
    candidates: Candidates  # [B, K], the shown item in slot 0


class LoggedTransitions:
    """Draws batches of logged decisions with fresh pools around what was shown.

    Args:
        logs: events and reward.
        pool: the pools that the policy will choose from.
        n_step: rewards summed before bootstrapping; fewer where a session ends.
        gamma: discount per event.

    Raises:
        ConfigError: too few events, or weights of tasks that they do not have.
    """

    def __init__(
        self, logs: TrainingLogs, pool: CandidateSource, *, n_step: int, gamma: float
    ) -> None:
        self.dataset, self._pool = logs.dataset, pool
        self._rows, self._n_step, self._gamma = logs.rows, n_step, gamma
        self._weights_H = task_weights(self.dataset.tasks, logs.reward_weights)

    def __len__(self) -> int:
        """Number of decisions."""
        return len(self._rows)

    def sample(self, num: int, generator: torch.Generator) -> LoggedBatch:
        """`num` decisions with replacement."""
        rows = self._rows[torch.randint(len(self._rows), (num,), generator=generator)]
        return self.gather(rows, generator)

    def gather(self, rows: Tensor, generator: torch.Generator) -> LoggedBatch:
        """The decisions `rows` [B]; the generator draws their pools."""
        data, (window_Bn, inside_Bn) = self.dataset, self._window(rows)
        state, item_id = data.state(rows), data.item_id(rows)
        num_B = inside_Bn.sum(1)
        last = rows + num_B - 1
        gone_B = data.left(last) & data.left_known(last)
        transition = Transition(
            state=state,
            item_id=item_id,
            log_propensity=data.propensity(rows).log().float(),
            reward=self._return(window_Bn, inside_Bn),
            discount=self._gamma**num_B * (~gone_B).float(),
            next_state=(following := self._state_after(last)),
            next_candidates=self._drawn(following, generator),
            batch_size=[len(rows)],
        )
        return LoggedBatch(
            transition=transition, candidates=around(self._drawn(state, generator), item_id)
        )

    def _window(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [B, n] of the next n events, and which are of the same session."""
        at_Bn = rows[:, None] + torch.arange(self._n_step)
        window_Bn = at_Bn.clamp(max=len(self.dataset) - 1)
        session_B1 = self.dataset.session_index(rows)[:, None]
        same_Bn = self.dataset.session_index(window_Bn) == session_B1
        return window_Bn, (same_Bn & (at_Bn == window_Bn)).cumprod(1).bool()

    def _return(self, window_Bn: Tensor, inside_Bn: Tensor) -> Tensor:
        """[B] discounted sum of the rewards inside."""
        reward_Bn = self.dataset.labels(window_Bn) @ self._weights_H
        return (reward_Bn * inside_Bn * self._gamma ** torch.arange(self._n_step)).sum(1)

    def _state_after(self, last: Tensor) -> SessionState:
        """The state [B] after events; as the next decision saw it where the session went on."""
        state = self.dataset.next_state(last)
        following = (last + 1).clamp(max=len(self.dataset) - 1)
        of = self.dataset.session_index
        on_B = (of(following) == of(last)) & (following > last)
        seen = self.dataset.state(following)
        state.user_features = torch.where(on_B[:, None], seen.user_features, state.user_features)
        state.gap_s = torch.where(on_B, seen.gap_s, state.gap_s)
        return state

    def _drawn(self, state: SessionState, generator: torch.Generator) -> Candidates:
        return self._pool.candidates(state, SessionStreams(draw_seeds(len(state), generator)))
