"""The parameters of the embedded world and its presets.

Fixed before any policy was trained (docs/adr/0003-video-feed-parameters.md gives the source of each
range), and never tuned in favour of a policy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from recomind.errors import ConfigError, did_you_mean


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldParameters:
    """Dynamics of `video_feed`. Logit units unless a unit is named."""

    num_topics: int = 16
    num_cohorts: int = 8
    cohort_share: float = 0.5  # share of the variance of taste; the rest is the user's own, hidden
    appeal_bias: float = -1.4
    taste_scale: float = 1.3
    quality_scale: float = 0.2
    age_penalty: float = 0.3  # per month of age
    quality_signal_correlation: float = 0.7  # between visible quality score and quality
    duration_median_s: float = 60.0
    duration_sigma: float = 1.0  # deviation of the log
    skip_dwell_median_s: float = 2.5
    skip_dwell_sigma: float = 0.7
    watch_share_median: float = 0.8  # share of the duration, when engaged
    watch_share_sigma: float = 0.5
    like_bias: float = -3.4
    hide_bias: float = -6.0
    fatigue_scale: float = 2.0  # logits lost at a topic fatigue of 1
    fatigue_gain: float = 0.3  # one video of the topic closes this share of the way to 1
    fatigue_recovery_steps: float = 15.0  # e-folding time while other topics are shown
    patience_start: tuple[float, float] = (2.5, 5.0)  # least, most active user
    patience_limit: float = 5.0
    patience_gain: float = 0.8  # largest gain from an engaging video
    patience_loss: float = 0.5  # per skipped video
    patience_per_minute: float = 0.35  # lost per minute of dwell time
    interruption_hazard: float = 0.02  # per step, independent of what was shown
    carry_over: bool = True  # False: no fatigue, no patience, a constant hazard
    steady_hazard: float = 0.08  # per step, without carry-over
    logging_policy_knows_taste: bool = False  # the logging policy reads the hidden taste
    num_days: int = 1  # days that sessions are spread over; 1: the world has no dates
    turn_per_day: float = 0.0  # radians by which tastes and the quality of items turn each day


PRESETS = {
    "fatigue": WorldParameters(),
    "steady": replace(WorldParameters(), carry_over=False),
    "confounded": replace(WorldParameters(), logging_policy_knows_taste=True),
    # The taste of a user of the last of 14 days has a correlation of cos(1.3) = .27 with what the
    # same user's would have been on the first.
    "drift": replace(WorldParameters(), num_days=14, turn_per_day=0.1),
}


def preset(name: str) -> WorldParameters:
    """The parameters of a preset.

    Raises:
        ConfigError: there is no such preset.
    """
    if name not in PRESETS:
        raise ConfigError(
            "unknown world preset",
            got=name,
            expected=sorted(PRESETS),
            mend=did_you_mean(name, PRESETS),
        )
    return PRESETS[name]
