"""Q = utility of the frozen ranker + a residual that starts as zero.

    Q(s, a) = sum_h w_h p_h(s, a) + residual(s, a) + gain(s) . effects(a)

The frozen part is any ranker, even one without gradients. The residual's trunk starts as a copy of
a `SessionRanker`, with its last layer at zero, so that at step 0 candidates are ordered exactly as
by the frozen ranker. Item vectors stay those of the ranker, so the policy's cost and memory do not
grow with the catalogue. They were learned to predict what a user likes next, and need not know what
an item does to the rest of a session; where the simulator knows these effects
(`recomind.simulation.effects`), they are added under a gain that also starts at zero. Ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recomind.errors import ArtifactError, ConfigError
from recomind.policy.config import PolicyConfig
from recomind.policy.density import LoggedDensity, seen_of
from recomind.ranker import HasOwnRanker, SessionRanker, StateEncoding, frozen_copy, utility
from recomind.ranker.capabilities import own_part as own_part
from recomind.rewards import task_weights
from recomind.types import Catalogue, Ranker, SessionState


@dataclass(slots=True)
class QEncoding:
    """What scoring needs of `B` states."""

    frozen: Any  # by the frozen ranker
    trunk: StateEncoding  # by the residual's trunk
    logging_BM: Tensor | None = None  # input of the density of the logs; None without one


class QNetwork(nn.Module):
    """The policy's network, bootstrapped from a ranker.

    Args:
        ranker: the starting point. It is copied if it offers `frozen_copy`; any other ranker is
            used as it is and must not be trained further.
        reward_weights: task -> weight, the ones that define the reward.
        config: see `PolicyConfig`.
        trunk: the `SessionRanker` that the residual's trunk copies; that of `ranker` where None.
        density: density of the logs, fitted on the same ranker; used, and required, where
            `support_density` is above 0. It is frozen and part of the network's state.
        effects_NE: standardised effects of items on the rest of a session, part of the network's
            state; items added later have none. None where no effects are known.

    Raises:
        ConfigError: neither `ranker` nor `trunk` offers a trunk; or a density is required and
            absent, or `ranker` cannot encode states for it.
    """

    weights_H: Tensor
    effects_NE: Tensor | None  # with a row of zeros for items added later

    def __init__(
        self,
        ranker: Ranker,
        reward_weights: Mapping[str, float],
        config: PolicyConfig,
        trunk: SessionRanker | None = None,
        density: LoggedDensity | None = None,
        effects_NE: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.config, self.tasks = config, ranker.tasks
        source = own_part(ranker) if trunk is None else trunk
        if source is None:
            raise ConfigError(
                "the residual needs a trunk",
                got=type(ranker).__name__,
                expected="a ranker of ours, or trunk=... beside another one",
            )
        self.frozen = _frozen(ranker)
        own = own_part(self.frozen) if source is own_part(ranker) else None
        self.trunk = (own or source).copied().requires_grad_(True)
        self.trunk.table_is_whole = False
        # Item vectors belong to the catalogue; heads and calibration are not used by the residual.
        trunk = self.trunk
        for unused in (
            trunk.items,
            trunk.head,
            trunk.wide_user,
            trunk.wide_item,
            trunk.next_action,
        ):
            unused.requires_grad_(False)
        if not config.bootstrap:
            _reset_parameters(self.trunk)
        self.residual = nn.Linear(source.config.hidden, 1)
        nn.init.zeros_(self.residual.weight)
        nn.init.zeros_(self.residual.bias)
        self.register_buffer("weights_H", task_weights(ranker.tasks, reward_weights))
        self.density = _frozen_density(density, config, ranker)
        self.register_buffer("effects_NE", None)
        if effects_NE is not None:
            self.effects_NE = nn.functional.pad(effects_NE, (0, 0, 0, 1))
            self.gain = nn.Linear(source.config.hidden, effects_NE.shape[1])
            nn.init.zeros_(self.gain.weight)
            nn.init.zeros_(self.gain.bias)

    @property
    def catalogue(self) -> Catalogue:
        """The item catalogue, shared by all parts."""
        return self.trunk.catalogue

    def train(self, mode: bool = True) -> QNetwork:
        """Dropout stays off: a TD target must not be random."""
        super().train(mode)
        for ranker in (self.frozen, self.trunk):
            if isinstance(ranker, nn.Module):
                ranker.eval()
        return self

    def encode_state(self, state: SessionState, snapshot: Tensor | None = None) -> QEncoding:
        """Everything of `state` [B] that scoring needs; computed once per state."""
        with torch.no_grad():
            frozen = self.frozen.encode_state(state, snapshot)
            logging_BM = self.logging_state(state, frozen, snapshot)
        trunk = self.trunk.encode_state(state, snapshot)
        return QEncoding(frozen=frozen, trunk=trunk, logging_BM=logging_BM)

    def logging_state(
        self, state: SessionState, frozen: Any, snapshot: Tensor | None = None
    ) -> Tensor | None:
        """The input of the density for `state` [B], given the frozen ranker's encoding.

        Where that encoding does not hold it, the trunk's ranker encodes the state for this alone.
        """
        if self.density is None or not isinstance(self.frozen, HasOwnRanker):
            return None
        encoding = self.frozen.own_encoding(frozen)
        if encoding is None:
            encoding = self.frozen.own_ranker.encode_state(state, snapshot)
        return seen_of(state, encoding)

    def log_density(self, encoding: QEncoding, item_id: Tensor) -> Tensor | None:
        """Log-density of the logs [B, K], up to a constant for each state; None without one."""
        own = own_part(self.frozen)
        if self.density is None or own is None or encoding.logging_BM is None:
            return None
        return self.density.log_density(encoding.logging_BM, own, item_id)

    def score_encoded(
        self, encoding: QEncoding, item_id: Tensor, snapshot: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Q [B, K] and the ranker's utility [B, K] of `item_id` [B, K]."""
        with torch.no_grad():
            logits_BKH = self.frozen.score(encoding.frozen, item_id, snapshot)
            utility_BK = utility(logits_BKH, self.weights_H)
        return self.q_of_items(encoding.trunk, item_id, utility_BK, snapshot), utility_BK

    def q_of(
        self, features_BKM: Tensor, utility_BK: Tensor, trunk: StateEncoding, item_id: Tensor
    ) -> Tensor:
        """Q [B, K] of `item_id` [B, K], given the trunk's last hidden layer."""
        residual_BK = self.residual(features_BKM)[..., 0]
        if self.effects_NE is not None:
            gain_BE = self.gain(trunk.hidden_BM.relu())
            known = item_id.clamp(max=len(self.effects_NE) - 1)
            effects_BKE = nn.functional.embedding(known, self.effects_NE)
            residual_BK = residual_BK + (effects_BKE @ gain_BE[:, :, None])[..., 0]
        base_BK = utility_BK if self.config.bootstrap else torch.zeros_like(utility_BK)
        return base_BK + residual_BK * self.config.residual_scale

    def q_values(self, state: SessionState, item_id: Tensor) -> tuple[Tensor, Tensor]:
        """Q [B, K] and the ranker's utility [B, K] of `item_id` [B, K]."""
        return self.score_encoded(self.encode_state(state), item_id)

    def q_given_utility(self, state: SessionState, item_id: Tensor, utility_BK: Tensor) -> Tensor:
        """Q [B, K] of `item_id` [B, K], whose utility [B, K] is known: only the trunk is asked."""
        return self.q_of_items(self.trunk.encode_state(state), item_id, utility_BK)

    def q_of_items(
        self,
        trunk: StateEncoding,
        item_id: Tensor,
        utility_BK: Tensor,
        snapshot: Tensor | None = None,
    ) -> Tensor:
        """Q [B, K] of `item_id` [B, K], given the trunk's encoding and the utility [B, K]."""
        features = self.trunk.features(trunk, self.trunk.item_vectors(item_id, snapshot))
        return self.q_of(features, utility_BK, trunk, item_id)

    def share_items(self, catalogue: Catalogue) -> QNetwork:
        """Share `catalogue` between the parts and recompute the tables of item vectors.

        The trunk uses the frozen ranker's table where their item encoders are equal.
        """
        for part in (self.frozen, self.trunk):
            if hasattr(part, "catalogue"):
                part.catalogue = catalogue  # type: ignore[attr-defined]
        own = own_part(self.frozen)
        if own is not None:
            own.precompute_items()
        if own is not None and _same_tensors(own.items, self.trunk.items):
            self.trunk.table = own.table
        else:
            self.trunk.precompute_items()
        return self

    def trainable_state(self) -> dict[str, Tensor]:
        """The tensors that training changes, by name; nothing else is sent to runners."""
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


def _frozen_density(
    density: LoggedDensity | None, config: PolicyConfig, ranker: Ranker
) -> LoggedDensity | None:
    if config.support_density == 0.0:
        return None
    if density is None or own_part(ranker) is None:
        raise ConfigError(
            "policy.support_density needs the density of the logs on a ranker of ours",
            got="no density" if density is None else type(ranker).__name__,
            expected="density=... of recomind.policy.fit_density",
            mend="fit one, or set policy.support_density=0",
        )
    return density.eval().requires_grad_(False)


def _frozen(ranker: Ranker) -> Ranker:
    """A copy where the ranker offers one, else the ranker itself; nothing in it learns."""
    ranker = frozen_copy(ranker)
    if isinstance(ranker, nn.Module):
        ranker.eval().requires_grad_(False)
    return ranker


def _same_tensors(one: nn.Module, two: nn.Module) -> bool:
    ours, theirs = one.state_dict(), two.state_dict()
    return ours.keys() == theirs.keys() and all(
        ours[name].shape == theirs[name].shape and torch.equal(ours[name], theirs[name])
        for name in ours
    )


def _reset_parameters(trunk: SessionRanker) -> None:
    """Fresh weights, but for the item vectors, which stay the ranker's."""
    for name, child in trunk.named_children():
        for part in child.modules() if name != "items" else ():
            reset = getattr(part, "reset_parameters", None)
            if callable(reset):
                reset()
