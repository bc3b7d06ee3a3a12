"""`report.json`: what was measured, as a public interface (see docs/formats.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recomind.artifacts import is_complete, read_json, read_manifest, write_json
from recomind.errors import ArtifactError, SchemaError
from recomind.evaluation.config import (
    RANDOM,
    RANKER_IN_SUPPORT,
    EvaluationConfig,
    GateConfig,
    own_ranker,
)
from recomind.evaluation.gate import decide
from recomind.evaluation.metrics import summarise
from recomind.evaluation.rollout import SessionOutcomes
from recomind.evaluation.schema import KINDS, REPORT_FORMAT_VERSION, validate_report
from recomind.evaluation.seeds import seed_lifts
from recomind.evaluation.segments import segment_lifts
from recomind.evaluation.statistics import lifts

REPORT = "report.json"


def environment_entry(
    name: str,
    kind: str,
    outcomes: Mapping[str, SessionOutcomes],
    config: EvaluationConfig,
    further_baselines: Sequence[str] = (),
    *,
    target_metric: str | None = None,
    feature_names: Sequence[str] = (),
) -> dict[str, Any]:
    """One entry of `environments`.

    Args:
        name: of the environment, as a person would call it.
        kind: simulator (the policy trained in it), world, holdout_simulator or logs.
        outcomes: arm -> its rollout, all on the same seeds.
        config: which arm is on trial, which is the baseline, and the confidence.
        further_baselines: arms that the one on trial is compared with beside the baseline.
        target_metric: that is also compared by segment of users; None for no segments.
        feature_names: of the user features that segments are cut by.

    Raises:
        SchemaError: an unknown kind, no arms, or arms that are not paired.
    """
    if kind not in KINDS:
        raise SchemaError("kind of an environment", got=kind, expected=list(KINDS))
    if not outcomes:
        raise SchemaError(f"environment {name} has no arms", expected="at least one rollout")
    policy, baseline, confidence = config.policy_arm, config.baseline_arm, config.confidence
    found = {
        arm: _lifts(outcomes, policy, arm, confidence) for arm in (baseline, *further_baselines)
    }
    table = found.pop(baseline)
    return {
        "name": name,
        "kind": kind,
        "num_sessions": len(next(iter(outcomes.values())).depth),
        "arms": {arm: summarise(outcome) for arm, outcome in outcomes.items()},
        "lift": table,
        "lift_over": found,
        "rl_lift": _lifts(outcomes, policy, RANKER_IN_SUPPORT, confidence),
        "chance_lift": _lifts(outcomes, policy, RANDOM, confidence),
        "support_lift": _lifts(outcomes, RANKER_IN_SUPPORT, own_ranker(baseline), confidence),
        "segments": _segments(outcomes, config, target_metric, feature_names),
        "survival": {arm: outcome.survival() for arm, outcome in outcomes.items()},
    } | seed_lifts(outcomes, baseline, confidence)


def _lifts(
    outcomes: Mapping[str, SessionOutcomes], arm: str, baseline: str, confidence: float
) -> dict[str, Any]:
    """Metric -> lift of one arm over another; nothing where one did not run or both are one."""
    if arm == baseline or arm not in outcomes or baseline not in outcomes:
        return {}
    table = lifts(outcomes[arm], outcomes[baseline], confidence)
    return {metric: lift.to_dict() for metric, lift in table.items()}


def _segments(
    outcomes: Mapping[str, SessionOutcomes],
    config: EvaluationConfig,
    metric: str | None,
    feature_names: Sequence[str],
) -> list[dict[str, Any]]:
    policy, baseline = outcomes.get(config.policy_arm), outcomes.get(config.baseline_arm)
    if metric is None or policy is None or baseline is None:
        return []
    return segment_lifts(policy, baseline, metric, config.confidence, feature_names)


def build_report(
    *,
    seed: int,
    environments: Sequence[Mapping[str, Any]],
    evaluation: EvaluationConfig,
    gate: GateConfig,
    step0_parity: Mapping[str, float | int] | None = None,
    learning_curve: Sequence[Mapping[str, Any]] = (),
    calibration: Mapping[str, Mapping[str, Any]] | None = None,
    ranker: Mapping[str, Any] | None = None,
    fidelity: Mapping[str, Any] | None = None,
    rounds: Mapping[str, Any] | None = None,
    policy_identity: str | None = None,
    power: Mapping[str, str] | None = None,
    data: Mapping[str, Any] | None = None,
    pool: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """The report, with the gate's verdict, validated.

    Args:
        seed: of the training that is reported.
        environments: from `environment_entry`.
        evaluation: names of the arms that are compared.
        gate: what a release asks for.
        step0_parity: from `step0_parity`; None where it was not measured.
        learning_curve: `{env_steps, round, simulator_return, world_return}` in order; a return
            that was not measured is None.
        calibration: task -> `calibration_curve`.
        ranker: quality of the ranker, such as `{task: {auc, log_loss}}`.
        fidelity: how close the simulator is to what it stands for.
        rounds: which round's policy this is, and what each was judged by.
        policy_identity: of the artifact that the verdict is about, which an export checks; None
            where the arm on trial is no trained policy.
        power: deciding environment -> what its sessions can find, said before they ran.
        data: of `log_facts`: what the run was made from.
        pool: size of the catalogue and slots of a pool, by what fills them.

    Raises:
        SchemaError: something in it is not as `report.json` must be.
    """
    verdict = decide(
        environments,
        gate,
        policy_arm=evaluation.policy_arm,
        baseline_arm=evaluation.baseline_arm,
        confidence=evaluation.confidence,
    ) | {"policy_identity": policy_identity}
    report = {
        "format_version": REPORT_FORMAT_VERSION,
        "seed": seed,
        "arms": _arm_names(environments),
        "policy_arm": evaluation.policy_arm,
        "baseline_arm": evaluation.baseline_arm,
        "confidence": evaluation.confidence,
        "environments": [dict(environment) for environment in environments],
        "step0_parity": None if step0_parity is None else dict(step0_parity),
        "gate": verdict,
        "learning_curve": [dict(point) for point in learning_curve],
        "calibration": {task: dict(curve) for task, curve in (calibration or {}).items()},
        "ranker": dict(ranker or {}),
        "fidelity": dict(fidelity or {}),
        "rounds": dict(rounds or {}),
        "power": dict(power or {}),
    }
    facts = {"data": data, "pool": pool}
    return validate_report(report | {name: dict(it) for name, it in facts.items() if it})


def write_report(folder: Path, report: Mapping[str, Any]) -> Path:
    """Write `report.json` into `folder` and return its path."""
    path = Path(folder) / REPORT
    write_json(path, validate_report(dict(report)))
    return path


def read_report(path: Path) -> dict[str, Any]:
    """Read and check a report; `path` is the file or the folder that holds it.

    Raises:
        ArtifactError: it is absent or is not JSON.
        SchemaError: it is not a report.
    """
    path = Path(path) / REPORT if Path(path).is_dir() else Path(path)
    if not path.is_file():
        raise ArtifactError(
            "no report here", got=path, expected=REPORT, mend="run `recomind evaluate` first"
        )
    if is_complete(path.parent):  # a report that was copied out of its artifact has no manifest
        read_manifest(path.parent, "report")
    return validate_report(read_json(path, "report", "run `recomind evaluate` again"))


def _arm_names(environments: Sequence[Mapping[str, Any]]) -> list[str]:
    """Arms in the order in which they first appear."""
    return list(dict.fromkeys(arm for environment in environments for arm in environment["arms"]))
