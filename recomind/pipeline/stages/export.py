"""`recomind export`: the policy in the ranker's interface, checked in a fresh process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recomind.artifacts import Manifest, read_manifest, sign
from recomind.errors import ArtifactError
from recomind.evaluation.config import POLICY
from recomind.evaluation.report import read_report
from recomind.export import ExportRecord, export_and_verify, make_formats, read_raw_inputs
from recomind.pipeline.lessons import make_lessons
from recomind.pipeline.loading import load_policy
from recomind.pipeline.progress import StageLine
from recomind.pipeline.run import Round
from recomind.pipeline.stage import Stage


class Export(Stage):
    """The scorer; it says whether the gate released the policy, and why."""

    name, kind, artifact, groups = "export", "scorer", "export", ("policy", "ranker", "export")

    def path(self, round: Round) -> Path:
        """Beside the rounds."""
        return round.run.folder / self.artifact

    def inputs(self, round: Round) -> list[Path]:
        """The policy that the report is on, its ranker, and the report."""
        return [*_reported(round).paths("policy", "ranker"), _report_folder(round)]

    def manifest(self, round: Round) -> Manifest:
        """What the scorer will say of itself.

        Raises:
            ArtifactError: the report is about another arm, or about another policy.
        """
        folder, manifest = _report_folder(round), super().manifest(round)
        name = f"round_{_reported(round).index}/policy"
        judged = read_manifest(folder, "report").inputs.get(name)
        _check_verdict(read_report(folder)["gate"], judged, manifest.inputs[name], folder)
        return manifest

    def after(self, round: Round) -> None:
        """Sign the scorer where the config names a key."""
        if round.config.serving.key_file:
            sign(self.path(round), Path(round.config.serving.key_file))

    def build(self, round: Round, manifest: Manifest, line: StageLine) -> str:
        """Write the scorer, and let a fresh process answer the same requests with it."""
        gate, dataset = read_report(_report_folder(round))["gate"], round.dataset()
        record = ExportRecord(
            config=manifest.config,
            seed=manifest.seed,
            released=bool(gate["released"]),
            reasons=gate["reasons"],
            judged=gate.get("policy_identity") or "",
            user_feature_names=dataset.user_feature_names,
            inputs=manifest.inputs,
            raw=read_raw_inputs(round.first.path("sessions")),
        )
        formats = make_formats(round.config.export.all_formats, round.config.allowed_targets)
        start = dataset.state(dataset.session_starts())
        reported = _reported(round)
        network = load_policy(reported)
        parity = export_and_verify(
            self.path(round),
            network,
            record,
            start=start,
            formats=formats,
            lessons=lambda: make_lessons(reported, network),
        )
        return (
            f"released: {str(gate['released']).lower()}; largest difference of a score "
            f"{parity['max_abs_difference']:.1e} in a fresh process"
        )


def _check_verdict(
    gate: Mapping[str, Any], judged: str | None, identity: str, folder: Path
) -> None:
    """Raise an ArtifactError unless the verdict is about the policy that is exported."""
    arm = gate.get("policy_arm")
    if arm is not None and arm != POLICY:
        raise ArtifactError(
            "the report judges another arm than the policy",
            got=f"gate.policy_arm={arm} in {folder}",
            expected=f"gate.policy_arm={POLICY}",
            mend=f"run `recomind evaluate` with evaluation.policy_arm={POLICY}",
        )
    if judged != identity or gate.get("policy_identity") != identity:
        raise ArtifactError(
            "the report judges another policy", got=folder, mend="run `recomind evaluate`"
        )


def _report_folder(round: Round) -> Path:
    return round.run.folder / "report"


def _reported(round: Round) -> Round:
    """The round whose policy the report is on."""
    report = read_report(_report_folder(round))
    return round.run.round(report.get("rounds", {}).get("kept", round.index))
