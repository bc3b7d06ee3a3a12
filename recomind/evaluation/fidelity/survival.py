"""Leaving: how long the users of later days stayed, and how long the hazard says they would.

Symbols: `R` events, `T` positions in a session, `n_t` sessions at risk at position t.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recomind.evaluation.fidelity.absent import absent

HAZARD_BAR = 0.03  # largest difference of the survival curves that passes
MIN_AT_RISK = 50  # sessions at risk below which a curve is too noisy to be judged


def hazard_fidelity(
    position_R: Tensor, known_R: Tensor, left_R: Tensor, mean_R: Tensor, sampled_R: Tensor
) -> dict[str, Any]:
    """Observed against predicted survival over logged events of later days.

    Observed is the estimator of Kaplan and Meier (1958), S(t) = prod_{u <= t} (1 - d_u / n_u),
    with n_u the events at position u whose outcome is known and d_u the users who left there.
    Predicted has the sum of the hazards of the same n_u events in the place of d_u, so that both
    curves are about the same users after the same items, and a censored end counts in neither
    from where it is censored (ours).

    Args:
        position_R: [R] int64, 0-based places in the session.
        known_R: [R] bool, False where it is censored whether the user left.
        left_R: [R] bool, read where known.
        mean_R: [R] probabilities of leaving, without pessimism.
        sampled_R: [R] those that sessions are drawn from.

    Returns:
        `{at_risk, observed, predicted, sampled, standard_error, max_difference,
        max_difference_sampled, bar, passed}`, the curves up to where 50 sessions are still at
        risk; the standard error is that of the observed one (Greenwood 1926).
    """
    if not bool(known_R.any()):
        return absent("the end of every session of later days is censored")
    where, num = position_R[known_R], int(position_R.max()) + 1
    at_risk = torch.bincount(where, minlength=num).double()
    until = _until(position_R, where[left_R[known_R]], at_risk)
    if until == 0:
        return absent(f"fewer than {MIN_AT_RISK} sessions of later days have a known outcome")
    curves = [
        _survival(where, values[known_R], at_risk)[:until] for values in (left_R, mean_R, sampled_R)
    ]
    observed, predicted, sampled = curves
    difference = float((predicted - observed).abs().max())
    error = _greenwood(where, left_R[known_R], at_risk)[:until]
    return {
        "at_risk": [int(n) for n in at_risk[:until]],
        "observed": observed.tolist(),
        "predicted": predicted.tolist(),
        "sampled": sampled.tolist(),
        "max_difference": difference,
        "max_difference_sampled": float((sampled - observed).abs().max()),
        "standard_error": error.tolist(),
        "bar": HAZARD_BAR,
        "passed": difference <= HAZARD_BAR,
    }


def _until(position_R: Tensor, left: Tensor, at_risk_T: Tensor) -> int:
    """First position with too few at risk, or where only those who left are known to have.

    A horizon does the second: it hides the outcome of all who had not left by then.
    """
    total_T, left_T = (
        torch.bincount(where, minlength=len(at_risk_T)) for where in (position_R, left)
    )
    blind_T = (left_T == at_risk_T) & (at_risk_T < total_T)
    stop = ((at_risk_T < MIN_AT_RISK) | blind_T).nonzero()
    return int(stop[0, 0]) if len(stop) else len(at_risk_T)


def _survival(position_R: Tensor, leaving_R: Tensor, at_risk_T: Tensor) -> Tensor:
    """[T] share that stays beyond each position."""
    gone = torch.zeros_like(at_risk_T).index_add_(0, position_R, leaving_R.double())
    return (1.0 - gone / at_risk_T.clamp(min=1.0)).cumprod(0)


def _greenwood(position_R: Tensor, left_R: Tensor, at_risk_T: Tensor) -> Tensor:
    """[T] S(t) sqrt(sum_{u <= t} d_u / (n_u (n_u - d_u)))."""
    gone_T = torch.zeros_like(at_risk_T).index_add_(0, position_R, left_R.double())
    stay_T = (at_risk_T - gone_T).clamp(min=0.5)  # a curve at 0 has no error
    variance_T = (gone_T / (at_risk_T.clamp(min=1.0) * stay_T)).cumsum(0)
    return _survival(position_R, left_R, at_risk_T) * variance_T.sqrt()


def kaplan_meier(depth_S: Tensor, left_S: Tensor, horizon: int) -> Tensor:
    """[T] float64, T <= horizon: share of sessions longer than 1, 2, ... events.

    The estimator of Kaplan and Meier (1958) over sessions of `depth_S` [S] events, whose users
    left after the last of them where `left_S` [S] and are censored there otherwise; an event whose
    outcome is censored is not at risk. The curve ends where nothing more is known, as at a horizon
    that cuts all who have not left by then.
    """
    ends_T = torch.bincount(depth_S - 1, minlength=horizon)[:horizon].double()
    gone_T = torch.bincount(depth_S[left_S] - 1, minlength=horizon)[:horizon].double()
    beyond_T = len(depth_S) - ends_T.cumsum(0)
    at_risk_T = beyond_T + gone_T
    blind_T = (at_risk_T == 0) | ((beyond_T == 0) & (ends_T > gone_T))
    survival_T = (1.0 - gone_T / at_risk_T.clamp(min=1.0)).cumprod(0)
    blind = blind_T.nonzero()
    until = int(blind[0, 0]) if len(blind) else horizon
    if until and float(survival_T[until - 1]) == 0.0:
        return survival_T  # all have left, and stay away
    return survival_T[:until]
