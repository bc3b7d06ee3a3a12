"""The batches that cross rooms.

Symbols: `B` sessions, `L` history length, `K` candidates, `H` feedback tasks, `U` user features.

A state with L = 4 of a session in its third step (two events in this session, one before it):

    history_item_id   [ 0, 17,  4,  9]     oldest first; the last column is the latest event
    history_mask      [ F,  T,  T,  T]     padding is on the left, its ids are 0
    history_gap_s     [ 0,  0, 90, 12]     item 9 came 12 s after item 4; before 17: unknown
    gap_s             5                    this decision comes 5 s after item 9 was shown
    step              2                    columns L-2 and L-1 belong to this session
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from recomind.compiler import without_compiler
from recomind.streams import SessionStreams

with without_compiler():
    from tensordict import TensorClass


class SessionState(TensorClass["nocast"]):
    """What is known of `B` sessions before their next recommendation.

    The history holds the last `L` events of the user, earlier sessions included.
    """

    user_id: Tensor  # [B] int64
    user_features: Tensor  # [B, U] float32: user and context at this step, standardised
    history_item_id: Tensor  # [B, L] int64, oldest first; 0 where the mask is False
    history_feedback: Tensor  # [B, L, H] bool, tasks in the environment's order
    history_dwell_s: Tensor  # [B, L] float32, seconds; 0.0 where the mask is False
    history_gap_s: Tensor  # [B, L] float32, seconds between the starts of the event before and
    # this one; 0.0 where the mask is False or it is unknown (the oldest event of a timeline)
    history_mask: Tensor  # [B, L] bool
    gap_s: Tensor  # [B] float32, seconds from the start of the latest event to this decision;
    # 0.0 where there is no history or it is unknown
    step: Tensor  # [B] int64, events of this session so far

    @property
    def in_session(self) -> Tensor:
        """[B, L] bool: which history events belong to the present session."""
        length = self.history_mask.shape[-1]
        age = torch.arange(length, 0, -1, device=self.step.device)
        return self.history_mask & (age <= self.step[..., None])


class Candidates(TensorClass["nocast"]):
    """A pool of `K` candidates for each of `B` decisions."""

    item_id: Tensor  # [B, K] int64
    mask: Tensor  # [B, K] bool, False where the slot is padding
    log_propensity: Tensor  # [B, K] float32, log-probability of being in the pool


class Decision(TensorClass["nocast"]):
    """What a policy chose for each of `B` sessions."""

    slot: Tensor  # [B] int64, index into the candidates
    item_id: Tensor  # [B] int64
    log_propensity: Tensor  # [B] float32, exact log-probability of this choice given the pool


class Response(TensorClass["nocast"]):
    """What the users did with one item each."""

    feedback: Tensor  # [B, H] bool
    dwell_s: Tensor  # [B] float32, seconds
    left: Tensor  # [B] bool: the user left after this event
    # What the three were drawn with, where the environment knows it, as a simulator does:
    feedback_rate: Tensor | None = None  # [B, H] in [0, 1], of each feedback
    leave_rate: Tensor | None = None  # [B] in [0, 1], of leaving, given feedback and dwell time
    # [B] float32: what the environment itself pays for the event, where that is another number
    # than the weighted feedback; it is measured, and nothing learns from it
    env_reward: Tensor | None = None


class Step(TensorClass["nocast"]):
    """What an environment returns for one step of `B` sessions."""

    state: SessionState  # [B] after the event
    response: Response  # [B]
    reward: Tensor  # [B] float32, weighted sum of the feedback; 0.0 where not valid
    expected_reward: Tensor  # [B] float32, the same of `feedback_rate`; `reward` where unknown
    leave_rate: Tensor  # [B] float32, of the response; 0.0 or 1.0, `terminated`, where unknown
    terminated: Tensor  # [B] bool: the user left
    truncated: Tensor  # [B] bool: cut (by the horizon, or early); the user had not left
    valid: Tensor  # [B] bool: False where the session had ended before this step


class Transition(TensorClass["nocast"]):
    """One learning sample; `next_*` are `n` steps later (n-step return)."""

    state: SessionState  # [B]
    item_id: Tensor  # [B] int64, the item shown
    log_propensity: Tensor  # [B] float32, of choosing it from the pool
    reward: Tensor  # [B] float32, discounted sum of expected rewards over the n steps
    discount: Tensor  # [B] float32, gamma^n times the chance of staying through the n steps
    next_state: SessionState  # [B]
    next_candidates: Candidates  # [B, K]
    # The frozen ranker's utilities, as the acting network computed them; None where nobody did.
    utility: Tensor | None = None  # [B] float32, of the item shown
    next_utility: Tensor | None = None  # [B, K] float32, of `next_candidates`


@dataclass(kw_only=True, slots=True)
class ItemFeatures:
    """Content of items, gathered for any leading shape `[...]`."""

    dense: Tensor  # [..., F] float32, standardised
    categorical: Tensor  # [..., C] int64, each in [0, vocab_sizes[c])


@runtime_checkable
class Catalogue(Protocol):
    """Items known by content. Ids are 0 .. num_items - 1."""

    num_items: int
    dense_names: tuple[str, ...]
    categorical_names: tuple[str, ...]
    vocab_sizes: tuple[int, ...]  # per categorical feature

    def features(self, item_id: Tensor, snapshot: Tensor | None = None) -> ItemFeatures:
        """Content of `item_id` [...] as of `snapshot` [...] (the latest where None)."""
        ...


@runtime_checkable
class Ranker(Protocol):
    """A supervised model of the next response.

    `snapshot` is the dated content of the catalogue that a logged decision saw; without one the
    latest content is meant, as in serving.
    """

    tasks: tuple[str, ...]

    def encode_state(self, state: SessionState, snapshot: Tensor | None = None) -> Any:
        """Everything of `state` [B] that scoring needs, computed once; `snapshot` is [B]."""
        ...

    def score(self, encoding: Any, item_id: Tensor, snapshot: Tensor | None = None) -> Tensor:
        """Calibrated logits [B, K, H] of `item_id` [B, K]; `snapshot` is [B, 1] or [B, K]."""
        ...


@runtime_checkable
class Policy(Protocol):
    """Chooses one item a session from its candidates."""

    def act(self, state: SessionState, candidates: Candidates, uniforms: Tensor) -> Decision:
        """One candidate a session; `uniforms` [B, 4] is all the randomness it may use."""
        ...


@runtime_checkable
class CandidateSource(Protocol):
    """Finds the pool of candidates for a decision."""

    def candidates(self, state: SessionState, streams: SessionStreams) -> Candidates:
        """Pools [B, K]; all randomness is drawn from the sessions' streams at `state.step`."""
        ...


@runtime_checkable
class QFunction(Protocol):
    """Values items by what follows from showing them; the policy chooses the largest."""

    def q_values(self, state: SessionState, item_id: Tensor) -> tuple[Tensor, Tensor]:
        """Q [B, K] and the frozen ranker's utility [B, K] of `item_id` [B, K], units of reward."""
        ...


@runtime_checkable
class ReusesUtility(QFunction, Protocol):
    """A Q function that leaves its frozen ranker alone where the utility is known: `QNetwork`."""

    def q_given_utility(self, state: SessionState, item_id: Tensor, utility_BK: Tensor) -> Tensor:
        """Q [B, K] of `item_id` [B, K], whose utility [B, K] was computed when it was acted on."""
        ...


class TrainableQFunction(QFunction, Protocol):
    """A Q function that is a `torch.nn.Module`; its parameters with `requires_grad` are trained.

    `recomind.policy.QNetwork` is one. It says nothing of how the parts that do not learn came
    about: those never travel between processes and are in no checkpoint.
    """

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """As of `torch.nn.Module`."""
        ...

    def eval(self) -> Self:
        """As of `torch.nn.Module`."""
        ...

    def cpu(self) -> Self:
        """As of `torch.nn.Module`."""
        ...


@runtime_checkable
class SessionEnvironment(Protocol):
    """A world (the truth) or a simulator (learned); nobody downstream can tell them apart.

    `recomind.simulation.BatchedSessions` implements all of it but how users begin and respond;
    `recomind.simulation.check_environment` checks an implementation.
    """

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the feedback tasks, in the order of `Response.feedback`."""
        ...

    @property
    def reward_weights_H(self) -> Tensor:
        """[H] float32: the reward is the feedback's sum under these weights."""
        ...

    @property
    def catalogue(self) -> Catalogue:
        """The items that can be shown."""
        ...

    @property
    def horizon(self) -> int:
        """Steps after which a session is truncated."""
        ...

    @property
    def history_length(self) -> int:
        """`L` of the states."""
        ...

    @property
    def streams(self) -> SessionStreams:
        """Random streams of the running sessions."""
        ...

    def reset(
        self, num_sessions: int, generator: torch.Generator, *, auto_reset: bool = False
    ) -> SessionState:
        """Start sessions; with `auto_reset` an ended one begins anew at its next step."""
        ...

    def reset_to(self, seeds: Tensor) -> SessionState:
        """Start one session for each of `seeds` [B] int64; equal seeds are equal users and luck."""
        ...

    def step(self, item_id: Tensor) -> Step:
        """Show `item_id` [B]; sessions that have ended ignore theirs (`valid` is False)."""
        ...

    def get_state(self) -> dict[str, Tensor]:
        """Tensors from which `set_state` continues exactly, here or in another process."""
        ...

    def set_state(self, tensors: Mapping[str, Tensor], *, auto_reset: bool = True) -> SessionState:
        """Continue where `get_state` was taken."""
        ...
