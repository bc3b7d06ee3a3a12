"""The policy: Q network, bootstrap from the ranker, support constraint, acting."""

from typing import TYPE_CHECKING

from recomind.lazy import lazy

if TYPE_CHECKING:
    from recomind.policy.acting import (
        GREEDY,
        MixedExploration,
        QPolicy,
        RandomPolicy,
        RankerPolicy,
        ScoredPolicy,
        decide,
    )
    from recomind.policy.config import PolicyConfig, Precision
    from recomind.policy.density import LoggedDensity, load_density
    from recomind.policy.density_fitting import check_propensities, fit_density
    from recomind.policy.evidence import constrains, density_evidence
    from recomind.policy.finite import require_finite_logits, require_finite_q
    from recomind.policy.item_values import SupportedValues
    from recomind.policy.network import QNetwork, own_part
    from recomind.policy.parity import ScoreParity, score_parity
    from recomind.policy.running import RunningQ
    from recomind.policy.support import CoversLogs, has_density, support_mask, supported_values
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "GREEDY",
    "CoversLogs",
    "LoggedDensity",
    "MixedExploration",
    "PolicyConfig",
    "Precision",
    "QNetwork",
    "QPolicy",
    "RandomPolicy",
    "RankerPolicy",
    "RunningQ",
    "ScoreParity",
    "ScoredPolicy",
    "SupportedValues",
    "check_propensities",
    "constrains",
    "decide",
    "density_evidence",
    "fit_density",
    "has_density",
    "load_density",
    "own_part",
    "require_finite_logits",
    "require_finite_q",
    "score_parity",
    "support_mask",
    "supported_values",
]
