"""Settings of the evaluation stage and of the release gate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from recomind.errors import ConfigError, did_you_mean

RANDOM, LOGGING, RANKER = "random", "logging_policy", "ranker"
RANKER_ENSEMBLE, FIRST_RANKER = "ranker_ensemble", "first_ranker"
RANDOM_IN_SUPPORT, RANKER_IN_SUPPORT, POLICY = "random_in_support", "ranker_in_support", "policy"
# What a report may compare, see `recomind.evaluation.arms`: which of them a run has depends on it.
ARMS = (
    RANDOM,
    LOGGING,
    RANKER,
    RANKER_ENSEMBLE,
    FIRST_RANKER,
    RANDOM_IN_SUPPORT,
    RANKER_IN_SUPPORT,
    POLICY,
)

# Metrics that every environment has; `<task>_per_session` exists where the task does.
ALWAYS_MEASURED = ("coverage", "repeat_share", "session_depth", "session_depth_10plus")


@dataclass(kw_only=True, slots=True)
class GateConfig:
    """What must be proven before a policy is released."""

    target_metric: str = "watch_10s_per_session"  # its lift must be shown to be above min_lift
    min_lift: float = 0.0  # ratio: 0.02 asks for more than 2 %
    # metrics that may not fall significantly
    must_not_fall: list[str] = field(default_factory=lambda: ["session_depth"])
    # metrics that may not rise significantly; one that an environment lacks is named as unmeasured
    must_not_rise: list[str] = field(default_factory=lambda: ["hide_per_session"])
    tolerance: float = 0.0  # ratio by which a guardrail may move the wrong way

    def __post_init__(self) -> None:
        if not math.isfinite(self.min_lift) or self.min_lift <= -1.0:
            raise ConfigError("gate.min_lift is a ratio", got=self.min_lift, expected="> -1")
        if not 0.0 <= self.tolerance < 1.0:
            raise ConfigError("gate.tolerance is a ratio", got=self.tolerance, expected="[0, 1)")
        if self.target_metric == "coverage":
            raise ConfigError(
                "coverage cannot be the target of the gate",
                expected="a metric that each session has, so that its lift has an interval",
                mend="choose another gate.target_metric; coverage may be a guardrail",
            )
        both = sorted(set(self.must_not_fall) & set(self.must_not_rise))
        if both:
            raise ConfigError("a guardrail that may neither fall nor rise", got=both)
        for metric in (self.target_metric, *self.must_not_fall, *self.must_not_rise):
            if metric not in ALWAYS_MEASURED and not metric.endswith("_per_session"):
                raise ConfigError(
                    "unknown metric in the gate",
                    got=metric,
                    expected="<task>_per_session, or one that every environment has",
                    mend=did_you_mean(metric, ALWAYS_MEASURED),
                )


@dataclass(kw_only=True, slots=True)
class EvaluationConfig:
    """How the arms are compared."""

    num_sessions: int = 2000  # sessions per arm and environment, the same ones for every arm
    rounds_sessions: int = 1000  # sessions that choose the round to keep; the report has others
    fidelity_sessions: int = 2000  # logged sessions that the fidelity report replays
    batch_size: int = 512  # sessions that run in lock-step; changes memory, not what is measured
    seed: int = 20_000  # draws the sessions; keep it apart from the seed of training
    policy_arm: str = "policy"  # the arm on trial
    baseline_arm: str = "ranker"  # what it must beat
    confidence: float = 0.95  # of every interval
    num_parity_states: int = 256  # states on which step-0 parity is measured
    calibration_bins: int = 10  # bins of equal count in a calibration curve

    def __post_init__(self) -> None:
        for name in (
            "num_sessions",
            "rounds_sessions",
            "fidelity_sessions",
            "batch_size",
            "num_parity_states",
            "calibration_bins",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"evaluation.{name}", got=getattr(self, name), expected=">= 1")
        if self.num_sessions < 2:
            raise ConfigError("an interval needs at least two sessions", got=self.num_sessions)
        if not 0.0 < self.confidence < 1.0:
            raise ConfigError("evaluation.confidence", got=self.confidence, expected="(0, 1)")
        check_arms(self, ARMS)
        if self.policy_arm == self.baseline_arm:
            raise ConfigError(
                "the policy arm and the baseline arm are the same", got=self.policy_arm
            )


def check_arms(config: EvaluationConfig, known: Iterable[str]) -> None:
    """Raise a ConfigError unless both arms that are compared are among `known`."""
    known = list(known)
    for setting in ("policy_arm", "baseline_arm"):
        name = getattr(config, setting)
        if name not in known:
            raise ConfigError(
                f"evaluation.{setting} names no arm of this run",
                got=name,
                expected=f"one of {known}",
                mend=did_you_mean(name, known),
            )
