"""The policy: Q network, bootstrap from the ranker, support constraint, acting."""

from recomind.policy.acting import (
    MixedExploration,
    QPolicy,
    RandomPolicy,
    RankerPolicy,
    decide,
)
from recomind.policy.config import PolicyConfig, Precision
from recomind.policy.finite import require_finite_logits, require_finite_q
from recomind.policy.item_values import SupportedValues
from recomind.policy.network import QNetwork, support_mask
from recomind.policy.running import RunningQ
from recomind.policy.score_parity import ScoreParity, score_parity

__all__ = [
    "MixedExploration",
    "PolicyConfig",
    "Precision",
    "QNetwork",
    "QPolicy",
    "RandomPolicy",
    "RankerPolicy",
    "RunningQ",
    "ScoreParity",
    "SupportedValues",
    "decide",
    "require_finite_logits",
    "require_finite_q",
    "score_parity",
    "support_mask",
]
