"""Which candidates of a pool a policy may choose: the support constraint.

Symbols: `B` states, `K` candidates.

    dense(a)   = g(a | s) >= tau max g
    allowed(a) = dense(a)  and  utility(a) >= rho max over the dense of utility

The first condition relies on the logs: g is the density with which the logging policies showed the
items that they could show (`recomind.policy.density`), and tau is the threshold of discrete BCQ
(Fujimoto, Conti, Ghavamzadeh, Pineau: "Benchmarking Batch Deep Reinforcement Learning Algorithms",
arXiv:1910.01708, section 3). The second (ours) relies on the frozen ranker, among what is left: a
utility that the logs say nothing about sets no bound. The densest candidate is always dense and the
best dense one always allowed, so that nobody is left without a choice, and at step 0 the policy is
the ranker greedy inside the density; without a density it is the ranker itself.

`keeps_ranker` allows the ranker's first choice of the whole pool too, whatever its density. That is
where a ranker extrapolates most: it costs the policy what the density brings (docs/adr/0014).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor, nn

from recomind.policy.config import PolicyConfig
from recomind.types import QFunction, SessionState


@runtime_checkable
class CoversLogs(QFunction, Protocol):
    """A Q function that knows how densely the logs cover an item: `QNetwork`, `RunningQ`."""

    @property
    def density(self) -> nn.Module | None:
        """The model of it; None where the support does not ask for it."""
        ...

    @property
    def config(self) -> PolicyConfig:
        """Whose `support_density` is tau, and whether the ranker's first choice is kept."""
        ...

    def encode_state(self, state: SessionState) -> Any:
        """Everything of `state` [B] that scoring needs, computed once."""
        ...

    def score_encoded(self, encoding: Any, item_id: Tensor) -> tuple[Tensor, Tensor]:
        """As `q_values`, for states that are encoded already."""
        ...

    def log_density(self, encoding: Any, item_id: Tensor) -> Tensor | None:
        """Log-density of the logs [B, K], up to a constant for each state."""
        ...


def has_density(network: QFunction) -> TypeGuard[CoversLogs]:
    """Whether the support of `network` asks for the density of the logs."""
    return isinstance(network, CoversLogs) and network.density is not None


def support_mask(
    utility_BK: Tensor,
    mask_BK: Tensor,
    support_ratio: float,
    log_density_BK: Tensor | None = None,
    support_density: float = 0.0,
    *,
    keeps_ranker: bool = False,
) -> Tensor:
    """Candidates [B, K] that may be chosen; at least one in each row with a candidate.

    Where the best utility is negative, the bound is best / ratio: a smaller ratio loosens the
    constraint on either side of 0.

    Args:
        utility_BK: utility by the frozen ranker.
        mask_BK: False where the slot is padding.
        support_ratio: rho; 0 disables the second condition.
        log_density_BK: log g, up to a constant for each row; unused where tau is 0.
        support_density: tau; 0 disables the first condition.
        keeps_ranker: allow the candidate of the largest utility whatever its density, and measure
            rho by it.
    """
    if log_density_BK is None or support_density <= 0.0:
        return _good(utility_BK, mask_BK, support_ratio)
    dense_BK = mask_BK & _is_dense(log_density_BK, mask_BK, support_density)
    if not keeps_ranker:
        return _good(utility_BK, dense_BK, support_ratio)
    masked = utility_BK.masked_fill(~mask_BK, -torch.inf)
    best_BK = masked == masked.max(dim=1, keepdim=True).values
    return _good(utility_BK, mask_BK, support_ratio) & (dense_BK | best_BK)


def _good(utility_BK: Tensor, mask_BK: Tensor, support_ratio: float) -> Tensor:
    """Candidates of the mask with at least `support_ratio` of its best utility."""
    if support_ratio <= 0.0:
        return mask_BK
    masked = utility_BK.masked_fill(~mask_BK, -torch.inf)
    best = masked.max(dim=1, keepdim=True).values
    bound = torch.where(best >= 0, best * support_ratio, best / support_ratio)
    return mask_BK & ((masked >= bound) | (masked == best))


def _is_dense(log_density_BK: Tensor, mask_BK: Tensor, support_density: float) -> Tensor:
    masked = log_density_BK.masked_fill(~mask_BK, -torch.inf)
    return masked >= masked.max(dim=1, keepdim=True).values + math.log(support_density)


class Supported(NamedTuple):
    """Values of the candidates of `B` states."""

    q_BK: Tensor
    utility_BK: Tensor  # by the frozen ranker
    allowed_BK: Tensor  # bool, False for padding


def supported_values(
    network: QFunction, state: SessionState, item_id: Tensor, mask_BK: Tensor, support_ratio: float
) -> Supported:
    """Q, utility and support of `item_id` [B, K]; each state is encoded once.

    Args:
        network: a `QNetwork`, a `RunningQ`, or another Q function; the density counts where
            `has_density`.
        state: [B].
        item_id: [B, K] int64.
        mask_BK: False where the slot is padding.
        support_ratio: rho; tau is the setting of the network.
    """
    if not has_density(network):
        q_BK, utility_BK = network.q_values(state, item_id)
        return Supported(q_BK, utility_BK, support_mask(utility_BK, mask_BK, support_ratio))
    encoding = network.encode_state(state)
    q_BK, utility_BK = network.score_encoded(encoding, item_id)
    allowed_BK = support_mask(
        utility_BK,
        mask_BK,
        support_ratio,
        network.log_density(encoding, item_id),
        network.config.support_density,
        keeps_ranker=network.config.support_keeps_ranker,
    )
    return Supported(q_BK, utility_BK, allowed_BK)
