"""How much of what an arm does lies where the logs have never been.

A simulator is fitted to logs, and so is every other one: where an arm shows what the logging
policies hardly showed in such a state, all of them extrapolate, and alike. The share of such steps
says how far a simulated figure can be trusted, before anybody meets it. Ours.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from recomind.evaluation.arms import Arm
from recomind.evaluation.rollout import rollout
from recomind.policy import QNetwork, RunningQ, support_mask
from recomind.types import Candidates, Decision, Policy, SessionEnvironment, SessionState


class CountsOutside:
    """Acts as `policy` does, and counts its choices outside the density of the logs.

    Args:
        policy: whose choices are counted.
        network: has the density, and tau (`policy.support_density`).

    Attributes:
        num: choices so far.
        num_outside: those of a density below tau times the largest one in their pool.
    """

    def __init__(self, policy: Policy, network: QNetwork) -> None:
        self.policy, self._running = policy, RunningQ(network)
        self._tau = network.config.support_density
        self.num = self.num_outside = 0

    @torch.no_grad()
    def act(self, state: SessionState, candidates: Candidates, uniforms: Tensor) -> Decision:
        """The policy's own decision."""
        decision = self.policy.act(state, candidates, uniforms)
        encoding = self._running.encode_state(state)
        log_density_BK = self._running.log_density(encoding, candidates.item_id)
        nothing_BK = torch.zeros(candidates.item_id.shape)
        dense_BK = support_mask(nothing_BK, candidates.mask, 0.0, log_density_BK, self._tau)
        inside_B = dense_BK.gather(1, decision.slot[:, None])[:, 0]
        self.num += len(inside_B)
        self.num_outside += int((~inside_B).sum())
        return decision

    @property
    def share(self) -> float:
        """Share of the choices that lay outside."""
        return self.num_outside / max(1, self.num)


def outside_shares(
    environment: SessionEnvironment,
    arms: Mapping[str, Arm],
    network: QNetwork,
    seeds: Tensor,
    batch_size: int = 2048,
) -> dict[str, float]:
    """Arm -> share of its steps outside the logs' support; nothing where no density is known.

    Args:
        environment: where the arms act; only steps of sessions that go on count.
        arms: by name.
        network: the trained policy's.
        seeds: [S] int64, of the sessions.
        batch_size: sessions in lock-step.
    """
    if network.density is None:
        return {}
    shares = {}
    for name, arm in arms.items():
        counting = CountsOutside(arm.policy, network)
        rollout(environment, counting, arm.candidates, seeds, batch_size)
        shares[name] = counting.share
    return shares
