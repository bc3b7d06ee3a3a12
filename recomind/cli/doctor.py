"""`recomind doctor`: does what is installed fit together, and if not, which pair does not?"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.version import Version

IMPORTS = ("torch", "torchrec", "faiss", "ray", "lightgbm", "onnxruntime", "polars")
_EXPECTED_ABSENT = "fbgemm-gpu"  # torchrec names it; fbgemm-gpu-cpu is the same module without CUDA


@dataclass(kw_only=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    fine: bool
    detail: str


Lookup = Callable[[str], str | None]


def installed_version(name: str) -> str | None:
    """Version of a distribution, None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_requirements(
    requirements: Iterable[str], version_of: Lookup = installed_version
) -> list[Finding]:
    """Each requirement against what is installed; extras are left out."""
    parsed = [Requirement(text) for text in requirements]
    plain = [one for one in parsed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return [_check_requirement(requirement, version_of(requirement.name)) for requirement in plain]


def _check_requirement(requirement: Requirement, version: str | None) -> Finding:
    fine = version is not None and requirement.specifier.contains(version, prereleases=True)
    wanted = "" if fine else f", expected {requirement.specifier}"
    return Finding(subject=requirement.name, fine=fine, detail=f"{version or 'absent'}{wanted}")


def check_fbgemm(version_of: Lookup = installed_version) -> Finding:
    """The kernels come in two builds, of which one fits, at torchrec's own minor version."""
    builds = {name: version_of(name) for name in (_EXPECTED_ABSENT, "fbgemm-gpu-cpu")}
    found = {name: version for name, version in builds.items() if version is not None}
    torchrec = version_of("torchrec")
    detail = ", ".join(f"{name} {version}" for name, version in found.items()) or "absent"
    if len(found) != 1:
        return Finding(
            subject="fbgemm",
            fine=False,
            detail=f"{detail}; expected exactly one of {', '.join(builds)}: see docs/install.md",
        )
    (version,) = found.values()
    fine = torchrec is not None and Version(version).release[:2] == Version(torchrec).release[:2]
    against = "" if fine else f" does not fit torchrec {torchrec}: install the same minor version"
    return Finding(subject="fbgemm", fine=fine, detail=detail + against)


def check_import(module: str) -> Finding:
    """Whether a module loads; a wrong pair of builds shows here, as any kind of error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(module)
    except Exception as error:
        return Finding(subject=f"import {module}", fine=False, detail=f"{error}".strip())
    return Finding(subject=f"import {module}", fine=True, detail="loads")


def diagnose() -> list[Finding]:
    """Everything that the doctor looks at, in order."""
    python = ".".join(map(str, sys.version_info[:3]))
    first = Finding(subject="python", fine=sys.version_info >= (3, 11), detail=python)
    requirements = importlib.metadata.requires("recomind") or []
    imports = [check_import(module) for module in IMPORTS]
    return [first, *check_requirements(requirements), check_fbgemm(), *imports]


def main() -> int:
    """Print the findings; 0 where all is well, 2 where something is to mend."""
    findings = diagnose()
    for finding in findings:
        mark = "ok   " if finding.fine else "WRONG"
        print(f"{mark}  {finding.subject}: {finding.detail}")
    return 0 if all(finding.fine for finding in findings) else 2
