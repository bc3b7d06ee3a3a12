"""`recomind export`: the policy in the ranker's interface, checked in a fresh process."""

from __future__ import annotations

from recomind.artifacts import is_complete, read_manifest
from recomind.cli.collect_logs import load_policy
from recomind.cli.context import Run, is_current
from recomind.errors import ArtifactError
from recomind.evaluation.report import read_report
from recomind.export import ExportRecord, export_and_verify


def run(run: Run, round_index: int) -> None:
    """Write `export/`; it says whether the gate released the policy, and why."""
    report_folder, folder = run.folder / "report", run.folder / "export"
    judged = read_manifest(report_folder, "report").inputs
    report = read_report(report_folder)
    gate = report["gate"]
    kept = report.get("rounds", {}).get("kept", round_index)
    inputs = [run.path("policy", kept), run.path("ranker", kept), report_folder]
    manifest = run.manifest("scorer", "export", round_index, ["policy", "ranker"], inputs)
    name = f"round_{kept}/policy"
    if judged.get(name) != manifest.inputs[name]:
        raise ArtifactError(
            "the report judges another policy", got=report_folder, mend="run `recomind evaluate`"
        )
    line = run.line("export", round_index)
    if is_current(folder, manifest):
        return line.skipped()
    dataset = run.dataset(round_index)
    record = ExportRecord(
        config=manifest.config,
        seed=manifest.seed,
        released=bool(gate["released"]),
        reasons=gate["reasons"],
        judged=gate.get("policy_identity", ""),
        user_feature_names=dataset.user_feature_names,
        inputs=manifest.inputs,
    )
    start = dataset.state(dataset.session_starts())
    parity = export_and_verify(folder, load_policy(run, kept), record, start=start)
    line.done(
        f"(released: {str(gate['released']).lower()}; largest difference of a score "
        f"{parity['max_abs_difference']:.1e} in a fresh process)"
    )


def exported_round(run: Run, otherwise: int) -> int:
    """The round whose policy lies in `export/`; `otherwise` where none does."""
    folder = run.folder / "export"
    inputs = read_manifest(folder, verify=False).inputs if is_complete(folder) else {}
    found = [name for name in inputs if name.startswith("round_") and name.endswith("/policy")]
    return int(found[0].removeprefix("round_").removesuffix("/policy")) if found else otherwise
