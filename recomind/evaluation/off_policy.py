"""Off-policy estimates from logged propensities.

Symbols: `n` logged rounds, `S` sessions, `T` steps. Arrays are named as in Open Bandit Pipeline
(Saito et al., NeurIPS 2021 datasets track): `context`, `action`, `reward`, `pscore`.

These are the plain estimators, of one target probability a decision; `recomind.evaluation.ope` has
those that need whole candidate sets. The propensities are those that the logging policy recorded,
none is estimated. An estimate with a small effective sample size is the opinion of a few sessions:
read both numbers together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from recomind.errors import SchemaError
from recomind.evaluation.ope.weights import effective_size, normalised


@dataclass(kw_only=True, slots=True)
class LoggedBandit:
    """Rounds of a logging policy, one decision each."""

    context: Tensor  # [n, ...] what the policy saw
    action: Tensor  # [n] int64, what it chose
    reward: Tensor  # [n]
    pscore: Tensor  # [n] in (0, 1], with what probability it chose it


@dataclass(kw_only=True, slots=True)
class OffPolicyEstimate:
    """Estimated mean return of the target policy."""

    value: float
    standard_error: float
    n: int  # rounds or sessions
    effective_sample_size: float  # (sum w)^2 / sum w^2: n where both policies agree


def inverse_propensity(logs: LoggedBandit, target_pscore: Tensor) -> OffPolicyEstimate:
    """IPS: mean of w r, w = target_pscore / pscore (Horvitz and Thompson, 1952); unbiased.

    Args:
        logs: the logged rounds.
        target_pscore: [n] in [0, 1], the target policy's probability of the logged action.
    """
    return per_decision(*_as_sessions(logs, target_pscore))


def self_normalised(logs: LoggedBandit, target_pscore: Tensor) -> OffPolicyEstimate:
    """SNIPS: sum(w r) / sum(w) (Swaminathan and Joachims, NeurIPS 2015); biased, steadier."""
    return per_decision(*_as_sessions(logs, target_pscore), normalise=True)


def per_decision(
    reward: Tensor,
    pscore: Tensor,
    target_pscore: Tensor,
    mask: Tensor,
    *,
    gamma: float = 1.0,
    normalise: bool = False,
) -> OffPolicyEstimate:
    """Per-decision importance sampling over sessions (Precup, Sutton, Singh, ICML 2000).

    The value is the mean over sessions of sum_t gamma^t w_t r_t, with w_t the product of
    target_pscore / pscore up to step t. With `normalise`, step t divides by the mean of w_t instead
    of by 1; a session that has ended keeps its last weight. Weights are products of many ratios,
    kept as logarithms. Where one leaves the range of a float64 the plain form and its error are
    infinite; the normalised form is not affected.

    Args:
        reward: [S, T].
        pscore: [S, T] in (0, 1], the logging policy's probability of what it chose.
        target_pscore: [S, T] in [0, 1], the target policy's probability of the same.
        mask: [S, T] bool, False after the session's end.
        gamma: discount per step.
        normalise: the self-normalised form.

    Raises:
        SchemaError: shapes differ, a propensity is outside its range, or the target policy never
            does what was logged, so that nothing is known of it.
    """
    _check(reward, pscore, target_pscore, mask)
    reward_ST = torch.where(mask, reward, 0.0).double()
    ratio_ST = torch.where(mask, target_pscore.double().log() - pscore.double().log(), 0.0)
    log_weight_ST = ratio_ST.cumsum(1)
    discount_T = gamma ** torch.arange(reward.shape[1], dtype=torch.float64)
    if not normalise:
        session_S = (discount_T * log_weight_ST.exp() * reward_ST).sum(1)
        return _estimate(float(session_S.mean()), session_S, log_weight_ST[:, -1])
    if bool((log_weight_ST.max(0).values == -torch.inf).any()):
        raise SchemaError(
            "the target policy never does what was logged",
            mend="log with more exploration, or compare policies that are closer",
        )
    share_ST = normalised(log_weight_ST)
    mean_T = (share_ST * reward_ST).mean(0)
    effect_S = (discount_T * share_ST * (reward_ST - mean_T)).sum(1)
    return _estimate(float((discount_T * mean_T).sum()), effect_S, log_weight_ST[:, -1])


def effective_sample_size(weight: Tensor) -> float:
    """(sum w)^2 / sum w^2 of weights [n] (Kish, 1965); 0 where all are 0."""
    return effective_size(weight.double().log())


def _estimate(value: float, effect_S: Tensor, log_weight_S: Tensor) -> OffPolicyEstimate:
    error = float(effect_S.std()) / math.sqrt(len(effect_S)) if math.isfinite(value) else math.inf
    return OffPolicyEstimate(
        value=value,
        standard_error=error,
        n=len(effect_S),
        effective_sample_size=effective_size(log_weight_S),
    )


def _as_sessions(logs: LoggedBandit, target_pscore: Tensor) -> tuple[Tensor, ...]:
    lengths = {len(t) for t in (logs.context, logs.action, logs.reward, logs.pscore, target_pscore)}
    if len(lengths) != 1:
        raise SchemaError("logged arrays differ in length", got=sorted(lengths), expected="one n")
    columns = [t.reshape(-1, 1) for t in (logs.reward, logs.pscore, target_pscore)]
    return *columns, torch.ones_like(columns[0], dtype=torch.bool)


def _check(reward: Tensor, pscore: Tensor, target_pscore: Tensor, mask: Tensor) -> None:
    shapes = {tuple(t.shape) for t in (reward, pscore, target_pscore, mask)}
    if len(shapes) != 1 or reward.dim() != 2 or len(reward) < 2:
        raise SchemaError(
            "arrays of logged sessions", got=sorted(shapes), expected="all [S, T], S >= 2"
        )
    if not bool(torch.isfinite(reward[mask]).all()):
        raise SchemaError("a logged reward is not a finite number")
    if not bool(((pscore > 0) & (pscore <= 1))[mask].all()):
        raise SchemaError("logged propensities", expected="each in (0, 1]")
    if not bool(((target_pscore >= 0) & (target_pscore <= 1))[mask].all()):
        raise SchemaError("propensities of the target policy", expected="each in [0, 1]")
