"""The batched session environment: everything that worlds and learned simulators share.

Sessions run in lock-step on tensors. A subclass defines how users begin, respond and change;
history, horizon, reward, endings and auto-reset are implemented here, once.

Auto-reset is Gymnasium's NEXT_STEP mode: the step that ends a session returns its true last
state, and the step after it ignores the action (`valid` is False) and returns a fresh session.
"""

# Torch's stubs leave the types of some members open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from recomind.errors import ConfigError
from recomind.rewards import task_weights
from recomind.simulation.finite import require_finite_event
from recomind.simulation.states import (
    append_event,
    no_response,
    rows_of,
    spread,
    state_from,
    state_tensors,
    tensors_of,
)
from recomind.streams import SessionStreams, draw_seeds, hash_int64
from recomind.types import Catalogue, Policy, Response, SessionState, Step

Hidden = dict[str, Tensor]  # the unobserved state of the users, each [B, ...]


@dataclasses.dataclass(slots=True)
class Advance:
    """What one step of `B` sessions leads to, before endings and restarts."""

    response: Response  # [B]
    hidden: Hidden
    state: SessionState  # [B] after the event
    token: Any = None  # handed back with this state at the next step, to go on from


class BatchedSessions(ABC):
    """A `SessionEnvironment` but for how users begin and respond, which a subclass defines.

    Args:
        catalogue: the items that can be shown.
        tasks: names of the feedback tasks, in the order of `Response.feedback`.
        reward_weights: task -> weight; the reward is the weighted sum of the feedback. The same
            weights define the ranker's utility.
        horizon: steps after which a session is truncated.
        history_length: `L` of the states.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        tasks: tuple[str, ...],
        reward_weights: Mapping[str, float],
        horizon: int,
        history_length: int,
    ) -> None:
        check_horizon(horizon)
        self.catalogue, self.tasks = catalogue, tasks
        self.horizon, self.history_length = horizon, history_length
        self.reward_weights_H = task_weights(tasks, reward_weights)
        self.streams = SessionStreams(torch.zeros(0, dtype=torch.int64))
        self._auto_reset = False
        self._ended = torch.zeros(0, dtype=torch.bool)
        self._token: Any = None  # token of the step that led to the present state
        self._token_rows = torch.zeros(0, dtype=torch.int64)  # sessions that the token is about

    @abstractmethod
    def _begin(self, streams: SessionStreams) -> tuple[SessionState, Hidden]:
        """States [B] at step 0 and the hidden state, as functions of the sessions' seeds alone."""

    @abstractmethod
    def _respond(
        self, state: SessionState, hidden: Hidden, item_id: Tensor, streams: SessionStreams
    ) -> tuple[Response, Hidden]:
        """The users' responses to `item_id` [B], and the hidden state afterwards.

        `B` is the number of sessions that run: without auto-reset those that have ended are left
        out, so what a world keeps of its sessions belongs into `hidden`.
        """

    def _advance(
        self,
        state: SessionState,
        hidden: Hidden,
        item_id: Tensor,
        streams: SessionStreams,
        token: Any,
    ) -> Advance:
        """Respond, and append the event to the history.

        Override it where the state after the event is needed for the response. `token` is that of
        the step that led to `state`; None where something else did, such as a reset.
        """
        del token
        response, hidden = self._respond(state, hidden, item_id, streams)
        return Advance(response, hidden, append_event(state, item_id, response))

    def _kept_token(self, token: Any, state: SessionState, rows: Tensor) -> Any:
        """The token for `state`, the rows [r] of the state that `token` belongs to."""
        return None

    @property
    def cuts_early(self) -> bool:
        """Whether sessions may be truncated before the horizon."""
        return False

    def _cut(self, hidden: Hidden) -> Tensor:
        """[B] bool: sessions to truncate, given `hidden` after the event; used if `cuts_early`.

        The event counts, and a session whose user left at it is terminated all the same.
        """
        raise NotImplementedError("an environment with cuts_early defines _cut")

    def _features_now(self, state: SessionState, hidden: Hidden) -> Tensor:
        """[B, U] user features after an event; by default they stay the same in a session."""
        return state.user_features

    def reset(
        self, num_sessions: int, generator: torch.Generator, *, auto_reset: bool = False
    ) -> SessionState:
        """Start `num_sessions` sessions whose seeds come from `generator`."""
        if num_sessions < 1:
            raise ConfigError("there are no sessions to run", got=num_sessions, expected=">= 1")
        self.streams = SessionStreams(draw_seeds(num_sessions, generator))
        self._auto_reset = auto_reset
        self._ended = torch.zeros(num_sessions, dtype=torch.bool)
        self._state, self._hidden = self._begin(self.streams)
        self._token = None
        return self._state

    def reset_to(self, seeds: Tensor) -> SessionState:
        """Start one session for each of the given seeds [B] int64."""
        self.streams, self._auto_reset = SessionStreams(seeds), False
        self._ended = torch.zeros(len(seeds), dtype=torch.bool)
        self._state, self._hidden = self._begin(self.streams)
        self._token = None
        return self._state

    def step(self, item_id: Tensor) -> Step:
        """Show `item_id` [B] int64 and return what happened."""
        valid = ~self._ended
        response = self._go_on(item_id, valid)
        terminated = response.left & valid
        over = self._state.step >= self.horizon
        truncated = (
            valid & ~terminated & (over | self._cut(self._hidden) if self.cuts_early else over)
        )
        reward = (response.feedback.float() @ self.reward_weights_H) * valid
        expected, leave_rate = reward, terminated.float()
        if response.feedback_rate is not None:
            expected = (response.feedback_rate @ self.reward_weights_H) * valid
        if response.leave_rate is not None:
            leave_rate = response.leave_rate * valid
        if self._auto_reset and not bool(valid.all()):
            self._restart(~valid)
        self._ended = terminated | truncated | (self._ended & (not self._auto_reset))
        return Step(
            state=self._state,
            response=response,
            reward=reward,
            expected_reward=expected,
            leave_rate=leave_rate,
            terminated=terminated,
            truncated=truncated,
            valid=valid,
            batch_size=[len(item_id)],
        )

    def _go_on(self, item_id: Tensor, valid: Tensor) -> Response:
        """Advance the sessions that run (`valid` [B]); the others stay as they are, at no cost.

        With auto-reset all are advanced: those that had ended begin anew afterwards.
        """
        if self._auto_reset or bool(valid.all()):
            rows = torch.arange(len(valid))
            response, self._state, self._hidden = self._advance_rows(item_id, rows, valid)
            return response
        rows = valid.nonzero()[:, 0]
        if len(rows) == 0:
            return no_response(len(valid), len(self.tasks))
        response, state, hidden = self._advance_rows(item_id, rows, valid[rows])
        now, ours = tensors_of(self._state), tensors_of(state)
        self._state = state_from({k: v.index_copy(0, rows, ours[k]) for k, v in now.items()})
        self._hidden = {k: v.index_copy(0, rows, hidden[k]) for k, v in self._hidden.items()}
        return spread(response, rows, len(valid))

    def _advance_rows(
        self, item_id: Tensor, rows: Tensor, valid: Tensor
    ) -> tuple[Response, SessionState, Hidden]:
        """What comes of the sessions `rows` [r] (all or fewer), each [r]."""
        state, hidden, streams = self._state, self._hidden, self.streams
        if len(rows) < len(item_id):
            item_id, state = item_id[rows], rows_of(state, rows)
            hidden = {name: value[rows] for name, value in hidden.items()}
            streams = SessionStreams(streams.seeds[rows])
        token = self._token
        if token is not None and len(rows) < len(self._token_rows):
            token = self._kept_token(token, state, torch.searchsorted(self._token_rows, rows))
        came = self._advance(state, hidden, item_id, streams, token)
        require_finite_event(state, came.response, valid)
        came.state.user_features = self._features_now(came.state, came.hidden)
        self._token, self._token_rows = came.token, rows
        return came.response, came.state, came.hidden

    def _restart(self, where: Tensor) -> None:
        seeds = torch.where(where, hash_int64(self.streams.seeds, 99), self.streams.seeds)
        index = where.nonzero()[:, 0]
        fresh, hidden = self._begin(SessionStreams(seeds[index]))
        begun, now = tensors_of(fresh), tensors_of(self._state)
        self._state = state_from({k: v.index_copy(0, index, begun[k]) for k, v in now.items()})
        self._hidden = {k: v.index_copy(0, index, hidden[k]) for k, v in self._hidden.items()}
        self.streams, self._token = SessionStreams(seeds), None

    @property
    def hidden(self) -> Hidden:
        """The unobserved state of the users; for oracles and tests of a world only."""
        return self._hidden

    def get_state(self) -> dict[str, Tensor]:
        """Tensors from which `set_state` continues exactly, bit for bit."""
        tensors = {f"state.{k}": v for k, v in state_tensors(self._state).items()}
        tensors |= {f"hidden.{k}": v for k, v in self._hidden.items()}
        return tensors | {"seeds": self.streams.seeds, "ended": self._ended}

    def set_state(self, tensors: Mapping[str, Tensor], *, auto_reset: bool = True) -> SessionState:
        """Continue where `get_state` was taken."""
        self.streams, self._auto_reset = SessionStreams(tensors["seeds"]), auto_reset
        self._ended, self._token = tensors["ended"], None
        self._hidden = {k[7:]: v for k, v in tensors.items() if k.startswith("hidden.")}
        fields = {k[6:]: v for k, v in tensors.items() if k.startswith("state.")}
        self._state = state_from(fields)
        return self._state


class World(BatchedSessions):
    """An environment that stands for the truth, so that logs can be collected in it.

    Subclass it for a world of your own, and name the class in `world._target_`.
    """

    user_feature_names: list[str]  # names of the `SessionState.user_features`, in order

    @abstractmethod
    def logging_policy(self) -> Policy:
        """The policy that served before, with which the first round of logs is collected."""

    def begins_ms(self) -> Tensor | None:
        """[B] int64 Unix milliseconds at which the running sessions began; None without dates."""
        return None


def check_horizon(horizon: int) -> None:
    """Raise a ConfigError unless a session has at least one step."""
    if horizon < 1:
        raise ConfigError("a session needs at least one step", got=horizon, expected=">= 1")
