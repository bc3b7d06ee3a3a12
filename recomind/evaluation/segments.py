"""The target by kinds of user, so that a mean cannot hide a loser.

Segments are cut by what is known before a session begins, which both arms share: how much history
the user has, and each user feature at its median. A policy that loses in one of them, and is shown
to (Holm over all segments), is not released, whatever its mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from recomind.evaluation.metrics import SessionRatio, session_ratios
from recomind.evaluation.multiple import holm, one_sided_p
from recomind.evaluation.rollout import SessionOutcomes
from recomind.evaluation.statistics import Lift, paired_lift, student_quantile

MIN_SESSIONS = 30  # in a segment: below it an interval means nothing
_MAX_FEATURES = 16  # user features that are cut
_CUT, _FLAG = ("low", "high"), ("no", "yes")


def segment_lifts(
    policy: SessionOutcomes,
    baseline: SessionOutcomes,
    metric: str,
    confidence: float,
    feature_names: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """A row a segment: `{name, num_sessions, policy, baseline, lift, p_fall}`.

    `p_fall` is the one-sided p-value of a fall, adjusted over the segments; None without an
    interval.
    """
    ours, theirs = (session_ratios(arm).get(metric) for arm in (policy, baseline))
    if ours is None or theirs is None:
        return []
    rows, p_values = [], {}
    for name, within_S in segments(baseline, feature_names):
        mine, other = _part(ours, within_S), _part(theirs, within_S)
        users = None if policy.user_id is None else policy.user_id[within_S]
        lift = paired_lift(mine, other, confidence, users)
        if (p := _p_fall(lift, confidence)) is not None:
            p_values[name] = p
        rows.append(
            {
                "name": name,
                "num_sessions": int(within_S.sum()),
                "policy": mine.value,
                "baseline": other.value,
                "lift": lift.to_dict(),
            }
        )
    adjusted = holm(p_values)
    return [row | {"p_fall": adjusted.get(row["name"])} for row in rows]


def segments(
    outcomes: SessionOutcomes, feature_names: Sequence[str] = ()
) -> Iterator[tuple[str, Tensor]]:
    """Name and sessions [S] bool of every segment that has enough of them."""
    for name, values_S in _columns(outcomes, feature_names):
        middle = float(values_S.median())
        low_S = values_S <= middle
        if bool(low_S.all()):  # at least half of the sessions have the largest value
            low_S = values_S < middle
        if not bool(low_S.any()):  # all have one value: they are no segment
            continue
        is_flag = bool(((values_S == 0) | (values_S == 1)).all())
        for label, within_S in zip(_FLAG if is_flag else _CUT, (low_S, ~low_S), strict=True):
            if int(within_S.sum()) >= MIN_SESSIONS:
                yield f"{name}: {label}", within_S


def losers(environment: Mapping[str, Any], tolerance: float, confidence: float) -> list[str]:
    """Sentences on the segments in which the policy is shown to lose more than the tolerance."""
    return [
        f"The policy loses in a segment of {environment['name']}, {row['name']}: "
        f"{100 * row['lift']['value']:+.1f} % over {row['num_sessions']:,} sessions "
        f"(p {row['p_fall']:.2g} over all segments)."
        for row in environment.get("segments", [])
        if row["p_fall"] is not None
        and row["p_fall"] < (1.0 - confidence) / 2
        and row["lift"]["value"] < -tolerance
    ]


def _columns(
    outcomes: SessionOutcomes, feature_names: Sequence[str]
) -> Iterator[tuple[str, Tensor]]:
    if outcomes.num_events_before is not None:
        yield "events before the session", outcomes.num_events_before.double()
    features_SU = outcomes.user_features
    if features_SU is None:
        return
    for u in range(min(features_SU.shape[1], _MAX_FEATURES)):
        name = feature_names[u] if u < len(feature_names) else f"user feature {u}"
        yield name, features_SU[:, u]


def _part(ratio: SessionRatio, within_S: Tensor) -> SessionRatio:
    return SessionRatio(
        numerator=ratio.numerator[within_S], denominator=ratio.denominator[within_S]
    )


def _p_fall(lift: Lift, confidence: float) -> float | None:
    if lift.value is None or lift.low is None or lift.high is None:
        return None
    degrees = max(1, lift.n - 1)
    error = (lift.high - lift.low) / 2 / student_quantile(confidence, degrees)
    return one_sided_p(lift.value, error, degrees)
