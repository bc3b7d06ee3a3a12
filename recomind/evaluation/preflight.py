"""What would make an evaluation worthless, said before its rollouts and not after them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recomind.errors import ConfigError, SchemaError, did_you_mean
from recomind.evaluation.config import EvaluationConfig, GateConfig, check_arms
from recomind.evaluation.gate import deciding_environments
from recomind.evaluation.metrics import ENV_REWARD, metric_names
from recomind.simulation import BatchedSessions

Named = tuple[str, str, BatchedSessions]  # name, kind, environment


def check_request(
    evaluation: EvaluationConfig,
    gate: GateConfig,
    arms: Iterable[str],
    environments: Sequence[Named],
) -> None:
    """Refuse a comparison that cannot be made.

    Raises:
        ConfigError: an arm that this run does not have, or a target that no session of a deciding
            environment can have.
    """
    check_arms(evaluation, arms)
    named = [{"name": name, "kind": kind, "it": it} for name, kind, it in environments]
    for entry in deciding_environments(named):
        known = metric_names(entry["it"].tasks)
        if gate.target_metric not in (*known, ENV_REWARD):
            raise ConfigError(
                f"gate.target_metric is no metric of {entry['name']}",
                got=gate.target_metric,
                expected=f"one of {known}",
                mend=did_you_mean(gate.target_metric, known),
            )


def require_target(environments: Sequence[Mapping[str, Any]], gate: GateConfig) -> None:
    """Raise a SchemaError where no deciding environment has a lift of the target.

    A refusal says that a policy was tried and not found better; without any lift nothing was tried.
    """
    deciding = deciding_environments(environments)
    lifts = [environment["lift"].get(gate.target_metric) for environment in deciding]
    if not deciding or any(lift is not None and lift["value"] is not None for lift in lifts):
        return
    reasons = [lift["reason"] for lift in lifts if lift is not None and lift.get("reason")]
    raise SchemaError(
        f"the target {gate.target_metric} has no lift in any environment that decides",
        got=reasons[0] if reasons else "it was not measured",
        expected="a mean of the baseline other than zero",
        mend="choose another gate.target_metric, or more sessions (evaluation.num_sessions)",
    )
