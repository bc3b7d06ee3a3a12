"""Settings of the policy."""

from __future__ import annotations

from dataclasses import dataclass

from recomind.errors import ConfigError


@dataclass(kw_only=True, slots=True)
class PolicyConfig:
    """Q = frozen ranker utility + residual, under a support constraint."""

    support_ratio: float = 0.6  # rho: only items of at least this share of the best utility
    bootstrap: bool = True  # False: no ranker in Q and fresh weights, for ablations only
    residual_scale: float = 1.0  # units of reward per unit of the residual head

    def __post_init__(self) -> None:
        if not 0.0 <= self.support_ratio <= 1.0:
            raise ConfigError(
                "policy.support_ratio is a share of the best utility",
                got=self.support_ratio,
                expected="in [0, 1]; 0 switches the constraint off",
            )
        if self.residual_scale <= 0:
            raise ConfigError("policy.residual_scale", got=self.residual_scale, expected="> 0")
