"""The estimators, each in one place: `ESTIMATORS` maps its name to a function.

Symbols: as in `logs`; rho_t is the ratio of both policies at step t, w_t the product of the ratios
up to t, and a session that has ended keeps its last weight. With G the discounted return, q and
v = sum_k pi(k) q(k) the model's values of the target policy:

| name | value of a session | source |
|---|---|---|
| `dm` | v(s_0) | |
| `ips` | w_T G, w_T cut at `clip` | Horvitz, Thompson 1952; Ionides 2008 |
| `snips` | w_T G over the mean of w_T | Swaminathan, Joachims, NeurIPS 2015 |
| `per_decision` | sum_t gamma^t w_t r_t | Precup, Sutton, Singh, ICML 2000 |
| `per_decision_snips` | the same, w_t over its mean at step t | Thomas 2015 |
| `marginalised` | sum_t gamma^t (d_pi / d_mu)(s_t) rho_t r_t | Xie, Ma, Wang, NeurIPS 2019 |
| `dr` | v(s_0) + w_T G - rho_0 q(s_0, a_0) | Dudik, Langford, Li, ICML 2011, on sessions |
| `per_decision_dr` | sum_t gamma^t (w_t (r_t - q) + w_{t-1} v) | Jiang, Li, ICML 2016 |
| `switch_dr` | the same; from w_t > `switch` on, the model's v alone | Wang et al., ICML 2017 |
| `fqe` | v(s_0) of a q that was fitted to the logs | Le, Voloshin, Yue, ICML 2019 |

For a horizon of one they are the estimators of the same names of a contextual bandit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recomind.errors import SchemaError
from recomind.evaluation.ope.logs import LoggedSessions, Settings, Target
from recomind.evaluation.ope.weights import log_ratio, marginal_weights, normalised, weight


@dataclass(kw_only=True, slots=True)
class Values:
    """An estimate as a mean over sessions."""

    value: float
    effect_S: Tensor  # [S] float64: first-order effect of each session, times S, up to a constant


@dataclass(kw_only=True, slots=True)
class Estimator:
    """A function of logs and target, and what it rests on."""

    estimate: Callable[[LoggedSessions, Target, Settings], Values]
    by_session: bool = True  # rests on weights of whole sessions, else on those of decisions
    needs_q: bool = False  # needs `Target.q`


def _direct(logs: LoggedSessions, target: Target, settings: Settings) -> Values:
    return _mean(_state_values(target)[:, 0])


def _clipped(logs: LoggedSessions, target: Target, settings: Settings) -> Values:
    weight_S = weight(log_ratio(logs, target).sum(1)).clamp(max=settings.clip)
    return _mean(weight_S * _returns(logs, settings))


def _self_normalised(logs: LoggedSessions, target: Target, settings: Settings) -> Values:
    share_S = normalised(_covered(log_ratio(logs, target).sum(1)))
    return_S = _returns(logs, settings)
    value = float((share_S * return_S).mean())
    return Values(value=value, effect_S=share_S * (return_S - value))


def _per_decision(logs: LoggedSessions, target: Target, settings: Settings) -> Values:
    weight_ST = weight(log_ratio(logs, target).cumsum(1))
    return _mean((weight_ST * _discounted(logs, settings)).sum(1))


def _per_decision_normalised(logs: LoggedSessions, target: Target, settings: Settings) -> Values:
    share_ST = normalised(_covered(log_ratio(logs, target).cumsum(1)))
    reward_ST = _discounted(logs, settings)
    mean_T = (share_ST * reward_ST).mean(0)
    return Values(value=float(mean_T.sum()), effect_S=(share_ST * (reward_ST - mean_T)).sum(1))


def _marginalised(logs: LoggedSessions, target: Target, settings: Settings) -> Values:
    if logs.state_id is None:
        raise SchemaError("marginalised weights need states that sessions meet in", got="none")
    # The shares of states are estimated from the same sessions: a session's effect is the
    # derivative by how often it counts (the infinitesimal jackknife; Jaeckel 1972).
    with torch.enable_grad():
        count_S = torch.ones(len(logs.reward), dtype=torch.float64, requires_grad=True)
        weight_ST = marginal_weights(logs, log_ratio(logs, target), count_S)
        session_S = (weight_ST * _discounted(logs, settings)).sum(1)
        value = (count_S * session_S).sum() / count_S.sum()
        (slope_S,) = torch.autograd.grad(value, count_S)
    return Values(value=float(value.detach()), effect_S=slope_S * len(slope_S))


def _doubly_robust(logs: LoggedSessions, target: Target, settings: Settings) -> Values:
    ratio_ST = log_ratio(logs, target)
    model_S = weight(ratio_ST[:, 0]) * _chosen(logs, target)[:, 0]
    earned_S = weight(ratio_ST.sum(1)) * _returns(logs, settings)
    return _mean(_state_values(target)[:, 0] + earned_S - model_S)


def _per_decision_robust(logs: LoggedSessions, target: Target, settings: Settings) -> Values:
    return _mean(_corrected(logs, target, settings, switch=torch.inf))


def _switched(logs: LoggedSessions, target: Target, settings: Settings) -> Values:
    return _mean(_corrected(logs, target, settings, switch=settings.switch))


def _corrected(logs: LoggedSessions, target: Target, settings: Settings, switch: float) -> Tensor:
    """[S] v(s_0) + sum_t gamma^t w_t (r_t + gamma v(s_{t+1}) - q(s_t, a_t)), while w_t <= switch.

    The sum is that of Jiang and Li with its terms gathered by step: what the model got wrong.
    """
    weight_ST = weight(log_ratio(logs, target).cumsum(1))
    within_ST = (weight_ST <= switch).cumprod(1).bool()
    state_ST = torch.where(logs.mask, _state_values(target), 0.0)
    next_ST = torch.cat([state_ST[:, 1:], torch.zeros_like(state_ST[:, :1])], 1)
    reward_ST = torch.where(logs.mask, logs.reward.double(), 0.0)
    wrong_ST = reward_ST + settings.gamma * next_ST - _chosen(logs, target)
    counts_ST = logs.mask & within_ST
    discount_T = _discounts(logs, settings)
    terms_ST = torch.where(counts_ST, discount_T * weight_ST * wrong_ST, 0.0)
    return state_ST[:, 0] + terms_ST.sum(1)


ESTIMATORS: dict[str, Estimator] = {
    "dm": Estimator(estimate=_direct, by_session=False, needs_q=True),
    "ips": Estimator(estimate=_clipped),
    "snips": Estimator(estimate=_self_normalised),
    "per_decision": Estimator(estimate=_per_decision),
    "per_decision_snips": Estimator(estimate=_per_decision_normalised),
    "marginalised": Estimator(estimate=_marginalised, by_session=False),
    "dr": Estimator(estimate=_doubly_robust, needs_q=True),
    "per_decision_dr": Estimator(estimate=_per_decision_robust, needs_q=True),
    "switch_dr": Estimator(estimate=_switched, needs_q=True),
    "fqe": Estimator(estimate=_direct, by_session=False, needs_q=True),
}


def _mean(session_S: Tensor) -> Values:
    return Values(value=float(session_S.mean()), effect_S=session_S)


def _discounts(logs: LoggedSessions, settings: Settings) -> Tensor:
    return settings.gamma ** torch.arange(logs.num_steps, dtype=torch.float64)


def _discounted(logs: LoggedSessions, settings: Settings) -> Tensor:
    return torch.where(logs.mask, logs.reward.double(), 0.0) * _discounts(logs, settings)


def _returns(logs: LoggedSessions, settings: Settings) -> Tensor:
    return _discounted(logs, settings).sum(1)


def _state_values(target: Target) -> Tensor:
    """[S, T] v; a candidate that is never chosen counts for nothing, whatever its q."""
    assert target.q is not None  # the caller has looked
    prob = target.prob.double()
    return torch.where(prob > 0, prob * target.q.double(), 0.0).sum(2)


def _chosen(logs: LoggedSessions, target: Target) -> Tensor:
    """[S, T] q of what was logged; 0 where the target never does it, and after the end."""
    assert target.q is not None
    slot = logs.slot.clamp(min=0)[..., None]
    q_ST, prob_ST = (t.double().gather(2, slot)[..., 0] for t in (target.q, target.prob))
    return torch.where(logs.mask & (prob_ST > 0), q_ST, 0.0)


def _covered(log_weight: Tensor) -> Tensor:
    """The same, if some session has a weight at every step."""
    if bool((log_weight.reshape(len(log_weight), -1).max(0).values == -torch.inf).any()):
        raise SchemaError(
            "the target policy never does what was logged",
            mend="log with more exploration, or compare policies that are closer",
        )
    return log_weight
