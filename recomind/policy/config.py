"""Settings of the policy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from recomind.errors import ConfigError


class Precision(Enum):
    """The precision of products over candidates; lower case, since Hydra matches names."""

    float32 = "float32"
    bfloat16 = "bfloat16"


@dataclass(kw_only=True, slots=True)
class PolicyConfig:
    """Q = frozen ranker utility + residual, under a support constraint."""

    support_ratio: float = 0.6  # rho: only items of at least this share of the best utility
    support_density: float = 0.0  # tau: only items of at least this share of the largest density
    # with which the logs show items of the pool; 0 is off, above it logs need propensities
    bootstrap: bool = True  # False: no ranker in Q and fresh weights, for ablations only
    residual_scale: float = 1.0  # units of reward per unit of the residual head
    precision: Precision = Precision.float32  # of acting and serving; learning is in float32
    compile: bool = False  # have acting and serving compiled by torch.compile
    score_tolerance: float = 0.02  # largest difference of a score from float32, uncompiled, in
    # units of reward; where bfloat16 or the compiled network goes beyond it, neither is used
    chunk_candidates: int = 0  # candidates scored at once, over all states; 0 for all of them

    def __post_init__(self) -> None:
        if not 0.0 <= self.support_ratio <= 1.0:
            raise ConfigError(
                "policy.support_ratio is a share of the best utility",
                got=self.support_ratio,
                expected="in [0, 1]; 0 switches the constraint off",
            )
        if not 0.0 <= self.support_density <= 1.0:
            raise ConfigError(
                "policy.support_density is a share of the largest density in the pool",
                got=self.support_density,
                expected="in [0, 1]; 0 switches the constraint off",
            )
        if self.residual_scale <= 0:
            raise ConfigError("policy.residual_scale", got=self.residual_scale, expected="> 0")
        if self.score_tolerance <= 0:
            raise ConfigError("policy.score_tolerance", got=self.score_tolerance, expected="> 0")
        if self.chunk_candidates < 0:
            raise ConfigError(
                "policy.chunk_candidates",
                got=self.chunk_candidates,
                expected=">= 0; 0 scores all candidates at once",
            )
