"""Parity: the scorer on disk, in a process of its own, answers as the trained network did.

The scorer is first written and sealed inside a temporary folder, where a fresh process loads it
and answers the golden requests. Only if the answers agree does it move on into the artifact,
together with the requests and the report; otherwise nothing stays.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recomind.artifacts import MANIFEST, Manifest, write_artifact, write_json
from recomind.errors import ParityError
from recomind.export.comparing import compare as compare
from recomind.export.formats import ExportFormat, ExportJob, write_formats
from recomind.export.golden import GOLDEN, make_golden
from recomind.export.scorer import ExportRecord, PolicyScorer, export_policy
from recomind.policy import QNetwork
from recomind.streams import make_generator
from recomind.types import SessionState

if TYPE_CHECKING:
    from recomind.export.distilling import Lessons

PARITY = "parity.json"
FORBIDDEN = ("ray", "recomind.training", "recomind.evaluation")  # not in a process that serves
_ROOT = Path(__file__).parents[2]
_TIMEOUT_S = 1800


def forbidden_modules() -> list[str]:
    """Modules loaded here that a process which only serves must not need."""
    return sorted(
        name for name in sys.modules if any(f"{name}.".startswith(f"{f}.") for f in FORBIDDEN)
    )


def verify_in_fresh_process(scorer_folder: Path, golden_path: Path) -> dict[str, Any]:
    """Run `python -m recomind.export.verify` and return its report.

    Raises:
        ParityError: the answers differ, or the process could not give any.
    """
    paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(p for p in paths if p),
    }
    command = [sys.executable, "-m", "recomind.export.verify", scorer_folder, golden_path]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
    )
    try:
        report = json.loads(done.stdout)
    except ValueError:
        raise ParityError(
            "the exported scorer could not be checked",
            got=done.stderr.strip()[-2000:] or f"exit status {done.returncode}",
            expected="a report from a fresh process",
        ) from None
    if done.returncode != 0 or report.get("passed") is not True:
        raise ParityError(
            "the exported scorer does not answer as the trained network does",
            got=report,
            mend="export again from the network that was trained, with its own catalogue",
        )
    return report


def export_and_verify(
    folder: Path,
    network: QNetwork,
    record: ExportRecord,
    *,
    start: SessionState | None = None,
    num_states: int = 1000,
    num_candidates: int = 64,
    formats: Sequence[ExportFormat] = (),
    lessons: Callable[[], Lessons] | None = None,
) -> dict[str, Any]:
    """Export `network`, check it in a fresh process, and only then write the artifact.

    Args:
        folder: where the artifact goes.
        network: the trained Q network.
        record: facts about the run for the manifest.
        start: [any] start states from which the golden users are drawn; random ones where None.
        num_states: golden requests.
        num_candidates: candidates of each request.
        formats: further forms, each into a folder of its own below `folder` and checked by the
            same requests; see `recomind.export.formats`.
        lessons: makes what a format may distil the policy from; called once, if at all.

    Returns:
        The parity report, also in `parity.json`; that of a format is in `formats.<name>`.

    Raises:
        ConfigError: a format cannot be written for this policy, or not on this machine.
        ParityError: the exported scorer, or a format, answers differently; no artifact is left.
    """
    trained = PolicyScorer(network, record.user_feature_names)
    for each in formats:
        each.check_possible(trained)
    golden = make_golden(
        trained,
        make_generator(record.seed),
        num_states=num_states,
        num_candidates=num_candidates,
        start=start,
    )
    manifest = Manifest(kind="scorer")
    with write_artifact(folder, manifest) as staging:
        trial = staging / "trial"
        written = export_policy(trial, network, record)
        golden.save(staging / GOLDEN)
        report = verify_in_fresh_process(trial, staging / GOLDEN)
        if formats:
            job = ExportJob(scorer=trained, record=record, golden=golden, lessons=lessons)
            report["formats"] = write_formats(formats, job, staging)
        write_json(staging / PARITY, report)
        _promote(trial, staging, manifest, written)
        manifest.metrics = {"parity.max_abs_difference": report["max_abs_difference"]}
    return report


def _promote(trial: Path, staging: Path, manifest: Manifest, written: Manifest) -> None:
    """Move the sealed trial's files up, and copy its manifest into the outer one."""
    (trial / MANIFEST).unlink()
    for path in trial.iterdir():
        path.rename(staging / path.name)
    trial.rmdir()
    for name in ("kind", "seed", "config", "inputs", "extra"):
        setattr(manifest, name, getattr(written, name))
