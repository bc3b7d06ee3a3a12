"""Q = utility of the frozen ranker + a residual that starts as zero.

    Q(s, a) = sum_h w_h p_h(s, a) + residual(s, a)

The residual's trunk starts as a copy of the ranker, its last layer at zero, so that at step 0 the
order of any candidates is the ranker's, exactly. Item vectors stay the ranker's: the policy's
cost and memory do not grow with the catalogue. Ours.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recomind.errors import ArtifactError
from recomind.policy.config import PolicyConfig
from recomind.ranker import SessionRanker, StateEncoding, utility
from recomind.simulation.environment import task_weights
from recomind.types import Catalogue, SessionState


@dataclass(slots=True)
class QEncoding:
    """What scoring needs of `B` states."""

    frozen: StateEncoding  # of the ranker
    trunk: StateEncoding  # of the residual


class QNetwork(nn.Module):
    """The policy's network, bootstrapped from a ranker.

    Args:
        ranker: the starting point; it is copied and frozen.
        reward_weights: task -> weight, the ones that define the reward.
        config: see `PolicyConfig`.
    """

    weights_H: Tensor

    def __init__(
        self, ranker: SessionRanker, reward_weights: Mapping[str, float], config: PolicyConfig
    ) -> None:
        super().__init__()
        self.config, self.tasks = config, ranker.tasks
        self.frozen = copy.deepcopy(ranker).requires_grad_(False).precompute_items()
        self.trunk = copy.deepcopy(self.frozen).requires_grad_(True)
        # Item vectors belong to the catalogue; heads and calibration are not used by the residual.
        for unused in (self.trunk.items, self.trunk.head):
            unused.requires_grad_(False)
        if not config.bootstrap:
            _reset_parameters(self.trunk)
        self.residual = nn.Linear(ranker.config.hidden, 1)
        nn.init.zeros_(self.residual.weight)
        nn.init.zeros_(self.residual.bias)
        self.register_buffer("weights_H", task_weights(ranker.tasks, reward_weights))

    def train(self, mode: bool = True) -> QNetwork:
        """Dropout stays off: a TD target must not depend on luck."""
        super().train(mode)
        self.frozen.eval()
        self.trunk.eval()
        return self

    def encode_state(self, state: SessionState) -> QEncoding:
        """Everything of `state` [B] that scoring needs; computed once per state."""
        with torch.no_grad():
            frozen = self.frozen.encode_state(state)
        return QEncoding(frozen=frozen, trunk=self.trunk.encode_state(state))

    def score_encoded(self, encoding: QEncoding, item_id: Tensor) -> tuple[Tensor, Tensor]:
        """Q [B, K] and the ranker's utility [B, K] of `item_id` [B, K]."""
        with torch.no_grad():
            utility_BK = utility(self.frozen.score(encoding.frozen, item_id), self.weights_H)
        features = self.trunk.features(encoding.trunk, self.trunk.item_vectors(item_id))
        residual_BK = self.residual(features)[..., 0] * self.config.residual_scale
        base_BK = utility_BK if self.config.bootstrap else torch.zeros_like(utility_BK)
        return base_BK + residual_BK, utility_BK

    def q_values(self, state: SessionState, item_id: Tensor) -> tuple[Tensor, Tensor]:
        """Q [B, K] and the ranker's utility [B, K] of `item_id` [B, K]."""
        return self.score_encoded(self.encode_state(state), item_id)

    def share_items(self, catalogue: Catalogue) -> QNetwork:
        """Use one catalogue and one table of item vectors, computed anew from the weights."""
        self.frozen.catalogue = self.trunk.catalogue = catalogue
        self.frozen.precompute_items()
        self.trunk._table = self.frozen._table
        return self

    def trainable_state(self) -> dict[str, Tensor]:
        """The tensors that training changes, by name; all that has to travel to runners."""
        return {n: p.detach() for n, p in self.named_parameters() if p.requires_grad}

    def load_trainable_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `trainable_state` returned.

        Raises:
            ArtifactError: names or shapes differ.
        """
        own = {n: p for n, p in self.named_parameters() if p.requires_grad}
        shapes = {n: tuple(t.shape) for n, t in tensors.items()}
        expected = {n: tuple(p.shape) for n, p in own.items()}
        if shapes != expected:
            differing = sorted(set(shapes.items()) ^ set(expected.items()))[:4]
            raise ArtifactError("policy weights do not fit this ranker", got=differing)
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(tensors[name])


def _reset_parameters(module: nn.Module) -> None:
    for part in module.modules():
        reset = getattr(part, "reset_parameters", None)
        if callable(reset) and not isinstance(part, nn.Embedding):
            reset()


def support_mask(utility_BK: Tensor, mask_BK: Tensor, support_ratio: float) -> Tensor:
    """Candidates [B, K] whose utility is at least `support_ratio` times the best one's.

    The best candidate is always in; with a best utility below 0 the bound is best / ratio, so
    that the constraint loosens as the ratio falls on either side of 0. Ours (design: support
    constraint).
    """
    if support_ratio <= 0.0:
        return mask_BK
    masked = utility_BK.masked_fill(~mask_BK, -torch.inf)
    best = masked.max(dim=1, keepdim=True).values
    bound = torch.where(best >= 0, best * support_ratio, best / support_ratio)
    return mask_BK & ((masked >= bound) | (masked == best))
