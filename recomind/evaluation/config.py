"""Settings of the evaluation stage and of the release gate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from recomind.errors import ConfigError, did_you_mean

RANDOM, LOGGING, RANKER = "random", "logging_policy", "ranker"
RANKER_ENSEMBLE, FIRST_RANKER, SERVED = "ranker_ensemble", "first_ranker", "served_policy"
RANDOM_IN_SUPPORT, RANKER_IN_SUPPORT, POLICY = "random_in_support", "ranker_in_support", "policy"
SEED_ARM = "policy_seed_{}"  # the same recipe's policy from another seed, from 2 on
# What a report may compare, see `recomind.evaluation.arms`: which of them a run has depends on it.
ARMS = (
    RANDOM,
    LOGGING,
    RANKER,
    RANKER_ENSEMBLE,
    FIRST_RANKER,
    SERVED,
    RANDOM_IN_SUPPORT,
    RANKER_IN_SUPPORT,
    POLICY,
)


def own_ranker(baseline: str) -> str:
    """The arm that a policy's support is compared with: its ranker where the baseline is none."""
    return RANKER if baseline == SERVED else baseline


# Metrics that every environment has; those of a task exist where the task does.
ALWAYS_MEASURED = ("coverage", "repeat_share", "session_depth", "session_depth_10plus")
_OF_A_TASK = ("_per_session", "_per_interaction")


@dataclass(kw_only=True, slots=True)
class GateConfig:
    """What must be proven before a policy is released."""

    target_metric: str = "watch_10s_per_session"  # its lift must be shown to be above min_lift
    min_lift: float = 0.0  # ratio: 0.02 asks for more than 2 %
    # added to min_lift where a simulator decides: its own error is in no interval over sessions
    simulator_margin: float = 0.02
    # metrics that must be shown not to fall by more than their tolerance
    must_not_fall: list[str] = field(default_factory=lambda: ["session_depth"])
    # and not to rise; one that an environment lacks is named as unmeasured
    must_not_rise: list[str] = field(default_factory=lambda: ["hide_per_session"])
    tolerance: float = 0.02  # ratio by which a guardrail may move the wrong way
    # the same of single metrics: a rare event, such as hiding, needs a wider one
    tolerances: dict[str, float] = field(default_factory=lambda: {"hide_per_session": 0.15})
    block_unshown: bool = True  # a guardrail whose interval leaves its tolerance blocks a release
    min_sessions: int = 30  # in a deciding environment: below it an interval means nothing
    # Policies trained with so many seeds are judged, and the first, which was named before any was
    # trained, is the one that is released; the lift must be shown over the spread of all of them
    seeds: int = 1
    # Warn where the two simulators give the baseline values further apart than this ratio.
    level_ratio: float = 2.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.min_lift) or self.min_lift <= -1.0:
            raise ConfigError("gate.min_lift is a ratio", got=self.min_lift, expected="> -1")
        ratios = {"tolerance": self.tolerance, "simulator_margin": self.simulator_margin}
        for name, value in {**ratios, **self.tolerances}.items():
            if not 0.0 <= value < 1.0:
                setting = name if name in ratios else f"tolerances.{name}"
                raise ConfigError(f"gate.{setting} is a ratio", got=value, expected="[0, 1)")
        if self.level_ratio < 1.0:
            raise ConfigError("gate.level_ratio", got=self.level_ratio, expected=">= 1")
        if self.seeds < 1 or self.seeds == 2:
            raise ConfigError(
                "gate.seeds",
                got=self.seeds,
                expected="1, or >= 3: the spread of two seeds says next to nothing",
            )
        if self.min_sessions < 2:
            raise ConfigError("gate.min_sessions", got=self.min_sessions, expected=">= 2")
        if self.target_metric == "coverage":
            raise ConfigError(
                "coverage cannot be the target of the gate",
                expected="a metric that each session has, so that its lift has an interval",
                mend="choose another gate.target_metric; coverage may be a guardrail",
            )
        both = sorted(set(self.must_not_fall) & set(self.must_not_rise))
        if both:
            raise ConfigError("a guardrail that may neither fall nor rise", got=both)
        guarded = (*self.must_not_fall, *self.must_not_rise, *self.tolerances)
        for metric in (self.target_metric, *guarded):
            if metric not in ALWAYS_MEASURED and not metric.endswith(_OF_A_TASK):
                raise ConfigError(
                    "unknown metric in the gate",
                    got=metric,
                    expected="<task>_per_session, <task>_per_interaction, or one that every "
                    "environment has",
                    mend=did_you_mean(metric, ALWAYS_MEASURED),
                )

    @property
    def further_seeds(self) -> range:
        """Numbers of the seeds beside the first, as people count: 2, 3, ..."""
        return range(2, self.seeds + 1)

    def least_lift(self, kind: str) -> float:
        """What the target's lift must lie above in an environment of this kind, as a ratio."""
        return self.min_lift + (self.simulator_margin if kind == "holdout_simulator" else 0.0)

    def tolerance_of(self, metric: str) -> float:
        """By how much a guardrail may move the wrong way, as a ratio."""
        return self.tolerances.get(metric, self.tolerance)


@dataclass(kw_only=True, slots=True)
class EvaluationConfig:
    """How the arms are compared."""

    num_sessions: int = 2000  # sessions per arm and environment, the same ones for every arm
    # sessions that policy and baseline may grow to where a guardrail is not shown; 0 is ten times
    # `num_sessions`, and `num_sessions` itself switches growing off
    max_sessions: int = 0
    rounds_sessions: int = 1000  # sessions that choose the round to keep; the report has others
    fidelity_sessions: int = 2000  # logged sessions that the fidelity report replays; 0: no report
    fidelity_steps: int = 250_000  # steps of its replay, and of its policies in one environment
    batch_size: int = 2048  # sessions that run in lock-step; changes memory, not what is measured
    seed: int = 20_000  # draws the sessions; keep it apart from the seed of training
    # Where the log has no propensities, estimate them by a model of who logged; it never vetoes
    behaviour_model: bool = False
    policy_arm: str = "policy"  # the arm on trial
    baseline_arm: str = "ranker"  # what it must beat
    confidence: float = 0.95  # level of every interval
    num_parity_states: int = 256  # states on which step-0 parity is measured
    calibration_bins: int = 10  # bins of equal count in a calibration curve

    def __post_init__(self) -> None:
        for name in (
            "num_sessions",
            "rounds_sessions",
            "fidelity_steps",
            "batch_size",
            "num_parity_states",
            "calibration_bins",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"evaluation.{name}", got=getattr(self, name), expected=">= 1")
        if self.fidelity_sessions < 0:
            raise ConfigError(
                "evaluation.fidelity_sessions",
                got=self.fidelity_sessions,
                expected=">= 0; 0 leaves the fidelity report out",
            )
        if self.max_sessions and self.max_sessions < self.num_sessions:
            raise ConfigError(
                "evaluation.max_sessions",
                got=self.max_sessions,
                expected=f"0, or >= evaluation.num_sessions, {self.num_sessions}",
            )
        if self.num_sessions < 2:
            raise ConfigError("an interval needs at least two sessions", got=self.num_sessions)
        if not 0.0 < self.confidence < 1.0:
            raise ConfigError("evaluation.confidence", got=self.confidence, expected="(0, 1)")
        check_arms(self, ARMS)
        if self.policy_arm == self.baseline_arm:
            raise ConfigError(
                "the policy arm and the baseline arm are the same", got=self.policy_arm
            )

    @property
    def sessions_limit(self) -> int:
        """Sessions that an arm may grow to."""
        return self.max_sessions or 10 * self.num_sessions


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
