"""Settings of the policy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from recomind.errors import ConfigError


class Precision(Enum):
    """Number format of the products over candidates; lower case, since Hydra matches names."""

    float32 = "float32"
    bfloat16 = "bfloat16"


@dataclass(kw_only=True, slots=True)
class PolicyConfig:
    """Q = frozen ranker utility + residual, under a support constraint."""

    # rho: only items with at least this share of the best utility among those that tau leaves
    support_ratio: float = 0.6
    # tau: only items with at least this share of the largest density with which the logging
    # policies showed the items of the pool; 0 is off, above 0 the logs need propensities.
    support_density: float = 0.0
    # The density constrains only where the logs know more than the ranker: what chance showed did
    # better than predicted where they favour it, by so many standard errors. Null: it always does,
    # as where random exposures are too few to tell (docs/adr/0017).
    support_evidence: float | None = 1.64
    # Allow the ranker's first choice of the whole pool, whatever its density (docs/adr/0014).
    support_keeps_ranker: bool = False
    bootstrap: bool = True  # False: no ranker in Q and fresh weights, for ablations only
    residual_scale: float = 1.0  # units of reward per unit of the residual head
    precision: Precision = Precision.float32  # for acting and serving; learning is in float32
    compile: bool = False  # compile acting and serving by torch.compile
    # Largest allowed difference of a score from uncompiled float32, in units of reward; beyond it
    # neither bfloat16 nor the compiled network is used.
    score_tolerance: float = 0.02
    chunk_candidates: int = 0  # candidates scored at once, over all states; 0 for all

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
        if self.support_evidence is not None and not math.isfinite(self.support_evidence):
            raise ConfigError(
                "policy.support_evidence is a number of standard errors",
                got=self.support_evidence,
                expected="a finite number, or null for a density that always constrains",
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
