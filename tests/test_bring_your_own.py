"""docs/bring-your-own-ranker.md works: its blocks are carried out in order, as a reader would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.flow.commands import TIMEOUT_S
from tests.preloaded.launching import commands

PAGE = Path(__file__).parents[1] / "docs" / "bring-your-own-ranker.md"
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# (?P<path>[\w/]+\.(py|yaml))\n")
# A page is carried out to see that it works: half the time of its runs went into simulated
# sessions whose number only makes figures steadier.
FEW_SESSIONS = (
    "curve_sessions=20",
    "evaluation.num_sessions=40",
    "evaluation.rounds_sessions=30",
    "evaluation.fidelity_sessions=30",
)


@dataclass(slots=True)
class Block:
    """A fenced block: a file to be written where it has a path, else commands."""

    path: str
    text: str
    line: int


def blocks(page: str) -> list[Block]:
    found = []
    for match in BLOCK.finditer(page):
        text, line = match["text"], page.count("\n", 0, match.start()) + 2
        named = FILE.match(text)
        if match["language"] == "sh":
            found.append(Block("", text, line))
        else:
            assert named is not None, f"line {line}: a block of no file and no shell"
            # A Hydra package directive must stay the first comment.
            found.append(Block(named["path"], text[named.end() :], line))
    return found


def carry_out(page: str, folder: Path) -> str:
    """Write the files and run the commands of `page` in `folder`; returns what they said.

    One shell for all of them, so that an `export` lasts.
    """
    script = ["set -e"]
    for index, block in enumerate(blocks(page)):
        if block.path:
            stored = folder / f".block_{index}"
            stored.write_text(block.text)
            script.append(f"mkdir -p {Path(block.path).parent} && cp {stored} {block.path}")
        else:
            script += [f'echo "line {block.line}" >&2', block.text]
    preloaded = commands(folder / ".preloaded", FEW_SESSIONS)
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PATH": f"{preloaded}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONWARNINGS": "",
    }
    done = subprocess.run(
        ["bash"],
        input="\n".join(script),
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=4 * TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.mark.page
@pytest.mark.slow
def test_the_page_leads_from_a_model_to_a_policy(tmp_path: Path) -> None:
    said = carry_out(PAGE.read_text(), tmp_path)
    assert "'max_rank_difference': 0" in said
    assert "best of 50: [" in said
    checks = [line for line in said.splitlines() if ", on logged states" in line]
    assert len(checks) == 6
    assert said.count("encodes the state once for a decision") == 1
    assert said.count("scores flat rows: a decision among K candidates costs K forward passes") == 5
    assert "  error " not in said
    given = (tmp_path / "my_ranker/model.safetensors").read_bytes()
    for artifact in ("round_0/ranker", "export"):  # whole by themselves
        files = (tmp_path / "runs/mine" / artifact).rglob("*.safetensors")
        assert any(file.read_bytes() == given for file in files), (
            f"no copy of the model: {artifact}"
        )


def test_a_page_that_does_not_work_is_noticed(tmp_path: Path) -> None:
    page = "```python\n# one/two.py\nprint(3 * 14)\n```\n\n```sh\npython one/two.py\n```\n"
    assert "42" in carry_out(page, tmp_path)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        carry_out(page.replace("3 * 14", "1 / 0"), tmp_path)
    with pytest.raises(AssertionError, match="of no file"):
        carry_out(page.replace("# one/two.py\n", ""), tmp_path)
