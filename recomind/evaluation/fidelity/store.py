"""The artifact `fidelity/`: `fidelity.json` beside `fidelity.html`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recomind.artifacts import Manifest, read_json, read_manifest, write_artifact, write_json
from recomind.evaluation.fidelity.page import render_page

KIND = "fidelity"
FILE, PAGE = "fidelity.json", "fidelity.html"


def write_fidelity(folder: Path, fidelity: Mapping[str, Any], manifest: Manifest) -> None:
    """Write what `measure_fidelity` returned, and its page."""
    manifest.kind = KIND
    with write_artifact(folder, manifest) as staging:
        write_json(staging / FILE, fidelity)
        (staging / PAGE).write_text(render_page(fidelity), encoding="utf-8")


def read_fidelity(folder: Path) -> dict[str, Any]:
    """Read what `write_fidelity` wrote.

    Raises:
        ArtifactError: it is absent, damaged or of another kind.
    """
    read_manifest(folder, KIND)
    return read_json(Path(folder) / FILE, "fidelity")
