"""Simulation of the network's policy: sessions in lock-step, with one batch of decisions a step.

`B` sessions, `K` candidates of a pool, `S` candidates kept for the maximum at s'.
"""

# Torch's stubs leave the types of some members open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import torch
from torch import Tensor

from recomind.candidates import Exploration, ExplorationKind, make_exploration
from recomind.errors import ConfigError
from recomind.policy import (
    QNetwork,
    RankerPolicy,
    RunningQ,
    decide,
    has_density,
    require_finite_q,
    supported_values,
)
from recomind.streams import LANE_ACT
from recomind.training.config import TrainingConfig
from recomind.training.problem import SessionProblem
from recomind.training.rows import KeptPool, SessionRows, pack_step
from recomind.training.seeding import LANE_SESSIONS, run_generator
from recomind.training.target import load_trainable
from recomind.types import QFunction, SessionState, TrainableQFunction


class SessionSampler:
    """Sessions that continue from one call to the next; RLlib's runner derives from it.

    Args:
        problem: provides environment, candidates and network.
        settings: settings of the training run.
        seed: seed of the run.
        index: of the runner, 0 in the learning process; runners get different sessions.

    Raises:
        ConfigError: exploration by an ensemble, with a problem that has none.
    """

    explores: ClassVar[bool] = True  # by `settings.exploration`; False where a policy has its own

    def __init__(
        self, problem: SessionProblem, settings: TrainingConfig, *, seed: int, index: int = 0
    ) -> None:
        self._problem, self._settings, self._seed, self._index = problem, settings, seed, index
        self.environment = problem.environment()
        self._source = problem.candidates()
        self._members = _members(problem, settings) if self.explores else None
        self._network: TrainableQFunction | None = None
        self._weights: dict[str, Any] | None = None  # waiting for the network to be built
        self._shared = False
        self._running: RunningQ | None = None
        self.weights_seq_no = -1
        self._env_steps = 0  # events of all samplers, as last reported by the algorithm
        self._state: SessionState | None = None
        self._returns_B = torch.zeros(0)
        self._follows = False

    @property
    def network(self) -> TrainableQFunction:
        """Built on first use, so that a runner beside the learner never builds its own."""
        if self._network is None:
            self._network = self._problem.network().eval()
        if self._weights is not None:
            load_trainable(self._network, self._weights)
            self._weights = None
        return self._network

    def share_network(self, network: TrainableQFunction) -> None:
        """Act with the learner's own network, which is always the newest."""
        self._network, self._weights, self._shared = network, None, True

    def set_env_steps(self, num: int) -> None:
        """Set the events of all samplers so far, which determine the exploration rate."""
        self._env_steps = num

    @torch.no_grad()
    def simulate(self, *, force_reset: bool = False) -> SessionRows:
        """`rollout_length` steps of every session."""
        if self._state is None or force_reset:
            self._begin()
        exploration = make_exploration(self._settings.exploring(self._env_steps))
        returns: list[float] = []
        steps = [self._step(exploration, returns) for _ in range(self._settings.rollout_length)]
        columns = {name: torch.stack([step[name] for step in steps]) for name in steps[0]}
        follows, self._follows = self._follows, True
        return SessionRows(
            columns=columns,
            num_tasks=len(self.environment.tasks),
            runner=self._index,
            follows=follows,
            num_valid=int(columns["valid"].sum()),
            returns=returns,
            weights_seq_no=self.weights_seq_no,
            weights_env_steps=self._env_steps,
        )

    def _begin(self) -> None:
        # A runner that replaces a dead one must not repeat the sessions of its predecessor.
        generator = run_generator(self._seed, LANE_SESSIONS, self._index, self._env_steps)
        num = self._settings.num_sessions
        self._state = self.environment.reset(num, generator, auto_reset=True)
        self._returns_B, self._follows = torch.zeros(num), False

    def _step(self, exploration: Exploration, returns: list[float]) -> dict[str, Tensor]:
        state, streams = self._state, self.environment.streams
        assert state is not None
        pool = self._source.candidates(state, streams)
        q_BK, utility_BK, allowed_BK = supported_values(
            self._acting(), state, pool.item_id, pool.mask, self._settings.support_ratio
        )
        require_finite_q(q_BK, utility_BK, pool.mask, state.step)
        uniforms_BU = streams.uniform(state.step, 4 + pool.item_id.shape[1], LANE_ACT)
        scores = q_BK
        if self._members is not None:
            # Replace the first member's utility by each member's own, under one residual. Ours.
            scores = q_BK - utility_BK + self._members.member_scores(state, pool)
        decision = decide(scores, allowed_BK, pool, uniforms_BU[:, :4], exploration)
        step = self.environment.step(decision.item_id)
        self._state = step.state
        self._count_returns(step.reward, step.terminated | step.truncated, returns)
        chosen_B = utility_BK.gather(1, decision.slot[:, None])[:, 0]
        whole = KeptPool(item_id=pool.item_id, mask=pool.mask, utility=utility_BK)
        kept = self._kept(whole, allowed_BK, uniforms_BU[:, 4:])
        return pack_step(state, kept, chosen_B, decision, step)

    def _acting(self) -> QFunction:
        """The network, with cached encodings of the sessions where it is a `QNetwork`."""
        network = self.network
        if type(network) is not QNetwork:
            return network
        if self._running is None or self._running.network is not network:
            self._running = RunningQ(network)
        return self._running

    def clear_cache(self) -> None:
        """Drop everything of the sessions but their states, which is all that a resumed run has."""
        if self._running is not None:
            self._running.clear_cache()
        if self._members is not None:
            self._members.clear_cache()

    def _kept(self, pool: KeptPool, allowed_BK: Tensor, uniforms_BK: Tensor) -> KeptPool:
        """Candidates [B, S] for the maximum at this state: allowed ones first, then others.

        If at most S candidates are allowed, the maximum over them equals that over the pool. Where
        the density of the logs decides who is allowed, the others are masked: utility and density
        are frozen, so the learner need not compute them again.
        """
        num, kept = self._settings.target_subset_size, pool
        if has_density(self.network):
            kept = dataclasses.replace(pool, mask=allowed_BK)
        if num == 0 or num >= pool.item_id.shape[1]:
            return kept
        order_BK = uniforms_BK + pool.mask.float() + 2.0 * allowed_BK.float()
        return kept.taken(order_BK.topk(num, dim=1).indices)

    def _count_returns(self, reward_B: Tensor, ended_B: Tensor, returns: list[float]) -> None:
        self._returns_B = self._returns_B + reward_B
        if bool(ended_B.any()):
            returns.extend(self._returns_B[ended_B].tolist())
            self._returns_B = self._returns_B.masked_fill(ended_B, 0.0)


def _members(problem: SessionProblem, settings: TrainingConfig) -> RankerPolicy | None:
    if settings.exploration is not ExplorationKind.ensemble:
        return None
    if problem.members is None:
        raise ConfigError(
            "exploration by an ensemble needs one",
            got="a SessionProblem without members",
            mend="pass members=..., or set training.exploration=subset",
        )
    return problem.members()
