"""Write requirements.hashes, from what pip says of the files that it would install.

    pip install --dry-run --ignore-installed --no-deps -r requirements.lock --report report.json
    python .ci/hashes.py report.json

Packages of several builds under one version are left out, and named.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WITHOUT = {
    "torch": "its builds for CPU and CUDA have one version, and the index decides which is served",
    "fbgemm_gpu-cpu": "it belongs to the build of torch",
}
HEAD = """# SHA-256 of the files of requirements.lock (Linux x86-64, CPython 3.11).
# .ci/hashes.py writes it.
# pip wants a hash for every package of a file or for none: what has several builds under one
# version is therefore not here, but in requirements.lock alone.
"""


def plain(name: str) -> str:
    """A package's name as indices compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def hashes(report: Path) -> dict[str, str]:
    """Plain name and version -> sha256 of the file."""
    found = {}
    for item in json.loads(report.read_text())["install"]:
        about, archive = item["metadata"], item["download_info"]["archive_info"]
        digest = archive.get("hashes", {}).get("sha256") or archive["hash"].partition("=")[2]
        found[f"{plain(about['name'])}=={about['version']}"] = digest
    return found


def main(reports: list[str]) -> None:
    """Write the file."""
    known = {k: v for report in reports for k, v in hashes(Path(report)).items()}
    lines = [f"# without: {name}: {why}\n" for name, why in WITHOUT.items()]
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        name, _, version = line.partition("==")
        if line and not line.startswith("#") and name not in WITHOUT:
            digest = known[f"{plain(name)}=={version}"]
            lines.append(f"{line} \\\n    --hash=sha256:{digest}\n")
    (ROOT / "requirements.hashes").write_text(HEAD + "".join(lines))


if __name__ == "__main__":
    main(sys.argv[1:])
