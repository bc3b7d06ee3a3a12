"""The loss of the actor-critic. `B` events, `K` candidates.

    policy  - mean of lambda(pi(a)) min(r A, clip(r, 1 - c, 1 + c) A),   r = pi(a) / behaviour(a)
    KL      + w mean of KL(pi || pi_0),   pi_0 = softmax(utility / tau), the initial policy
    value   + mean of (V - return)^2 / 2

The clipped surrogate is that of Schulman et al. ("Proximal Policy Optimization Algorithms",
arXiv:1707.06347, equation 7). `behaviour` is the exact probability with which the event's item was
drawn. `lambda` is the top-K correction of Chen et al. ("Top-K Off-Policy Correction for a
REINFORCE Recommender System", WSDM 2019, arXiv:1812.02353, section 4.3): where a user sees K items
of the policy at once, an item gains nothing once it is certain to be among them, and

    lambda(p) = K (1 - p)^(K - 1)

In a feed that shows one item after another K is 1 and lambda is 1. The KL term is ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recomind.training.actor_critic.acting import log_policy
from recomind.training.actor_critic.config import ActorCriticConfig
from recomind.training.actor_critic.critic import ValueHead, scored
from recomind.training.actor_critic.rollout import PolicyBatch
from recomind.types import QFunction

METRICS = ("loss", "policy_loss", "value_loss", "kl", "entropy", "clipped_share", "q_mean")


def top_k_weight(pi_B: Tensor, top_k: int) -> Tensor:
    """[B] `K (1 - p)^(K - 1)` of the probabilities `pi_B` [B], without a gradient."""
    return top_k * (1.0 - pi_B.detach()) ** (top_k - 1)


def surrogate(
    log_pi_B: Tensor, batch: PolicyBatch, config: ActorCriticConfig
) -> tuple[Tensor, Tensor]:
    """The clipped, top-K corrected surrogate [B], and whether each event is clipped [B]."""
    ratio_B = (log_pi_B - batch.log_propensity).exp()
    clipped_B = ratio_B.clamp(1.0 - config.clip_ratio, 1.0 + config.clip_ratio)
    raw_B, bound_B = ratio_B * batch.advantage, clipped_B * batch.advantage
    weight_B = top_k_weight(log_pi_B.exp(), config.top_k)
    return weight_B * torch.minimum(raw_B, bound_B), raw_B > bound_B


def kl_and_entropy(log_pi_BK: Tensor, log_initial_BK: Tensor) -> tuple[Tensor, Tensor]:
    """[B] KL(pi || pi_0) and [B] entropy of pi, exact sums over the candidates, in nats.

    The gradient of the KL is taken as that of `sum pi (log pi - log pi_0) log pi` with all but the
    last factor detached; it is the same, since `sum pi d(log pi)` is 0. In this form it is exactly
    0 at the initial policy. The usual form leaves a rounding residue, from which Adam makes full
    steps.
    """
    pi_BK = log_pi_BK.exp().detach()
    pull_BK = pi_BK * (log_pi_BK - log_initial_BK).detach()
    slope_B = (pull_BK * log_pi_BK).sum(1)
    kl_B = pull_BK.sum(1) + (slope_B - slope_B.detach())
    return kl_B, -(pi_BK * log_pi_BK.detach()).sum(1)


def actor_critic_loss(
    network: QFunction, head: ValueHead, batch: PolicyBatch, config: ActorCriticConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and detached scalars worth watching.

    Args:
        network: its two outputs, q and utility, define the policy and the initial policy.
        head: the critic.
        batch: [B].
        config: weights and bounds.
    """
    state_BM, q_BK, utility_BK = scored(network, batch.state, batch.item_id, batch.utility)
    log_pi_BK = log_policy(q_BK, batch.allowed, config.temperature)
    log_initial_BK = log_policy(utility_BK, batch.allowed, config.temperature)
    kl_B, entropy_B = kl_and_entropy(log_pi_BK, log_initial_BK)
    gain_B, clipped_B = surrogate(log_pi_BK.gather(1, batch.slot[:, None])[:, 0], batch, config)
    value_loss = 0.5 * (head(state_BM) - batch.value_target).square().mean()
    policy_loss = config.kl_coefficient * kl_B.mean() - gain_B.mean()
    loss = policy_loss + value_loss
    return loss, {
        "loss": loss.detach(),
        "policy_loss": policy_loss.detach(),
        "value_loss": value_loss.detach(),
        "kl": kl_B.detach().mean(),
        "entropy": entropy_B.detach().mean(),
        "clipped_share": clipped_B.float().mean(),
        "q_mean": q_BK.detach().gather(1, batch.slot[:, None]).mean(),
    }
