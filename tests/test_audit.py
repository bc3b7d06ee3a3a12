"""The audit: every locked package has a licence and a place in the SBOM."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def audit(folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess, dict]:
    command = [sys.executable, ROOT / ".ci/audit.py", "--sbom", folder / "sbom.json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    return done, json.loads((folder / "sbom.json").read_text())


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_licences_and_sbom_cover_the_lock(tmp_path: Path) -> None:
    done, sbom = audit(tmp_path, "--advisories", "")
    assert done.returncode == 0, done.stderr
    assert {c["name"]: c["version"] for c in sbom["components"]} == locked()
    assert sbom["specVersion"] == "1.5"
    assert all(re.fullmatch(r"pkg:pypi/[a-z0-9-]+@\S+", c["purl"]) for c in sbom["components"])
    assert "not installed" not in done.stdout
    assert "not said" not in done.stdout
    assert "decided: codespell (GPL-2.0-only)" in done.stdout


def test_a_source_of_advisories_that_is_not_there_is_said(tmp_path: Path) -> None:
    done, _ = audit(tmp_path, "--advisories", "http://127.0.0.1:9/")
    assert done.returncode == 0
    assert "cannot be reached" in done.stdout


def test_the_licence_is_named_and_whole() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_hashes_cover_the_lock_but_for_what_is_named() -> None:
    text = (ROOT / "requirements.hashes").read_text()
    entry = r"^([A-Za-z0-9._-]+)==(\S+)(?: \\\n +--hash=sha256:[0-9a-f]{64})+$"
    hashed = dict(re.findall(entry, text, re.MULTILINE))
    without = set(re.findall(r"^# without: ([A-Za-z0-9._-]+)", text, re.MULTILINE))
    assert hashed.items() <= locked().items()
    assert set(locked()) - set(hashed) == without
    assert without <= {"torch", "fbgemm_gpu-cpu"}
