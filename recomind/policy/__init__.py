"""The policy: Q network, bootstrap from the ranker, support constraint, acting."""

from recomind.policy.acting import (
    MixedExploration,
    QPolicy,
    RandomPolicy,
    RankerPolicy,
    decide,
)
from recomind.policy.config import PolicyConfig
from recomind.policy.finite import require_finite_logits, require_finite_q
from recomind.policy.network import QNetwork, support_mask

__all__ = [
    "MixedExploration",
    "PolicyConfig",
    "QNetwork",
    "QPolicy",
    "RandomPolicy",
    "RankerPolicy",
    "decide",
    "require_finite_logits",
    "require_finite_q",
    "support_mask",
]
