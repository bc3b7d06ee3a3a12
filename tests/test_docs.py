"""Figures quoted in the documents are those of the runs; links lead somewhere."""

from __future__ import annotations

import datetime
import json
import math
import os
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from experiments.quotes import FENCED, documents, read_quotes, renewed, wrong_figures

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+\s+(?P<title>.+?)\s*$", re.MULTILINE)
INLINE_CODE = re.compile(r"`[^`\n]*`")
COMMAND = re.compile(
    r"^ +(?:\S*/)?recomind (?P<stage>[a-z-]+)(?P<overrides>( [\w./]+=\S+)+)$", re.MULTILINE
)


def recorded_folders(root: Path) -> list[Path]:
    """The folders that answer one question each, with their runs."""
    found = [*(root / "experiments").glob("*/"), *(root / "benchmarks").glob("*/")]
    return sorted(path for path in found if not path.name.startswith((".", "_")))


def broken_links(page: Path) -> list[str]:
    """Relative links of `page` whose file or heading does not exist."""
    broken = []
    for match in LINK.finditer(INLINE_CODE.sub("", FENCED.sub("", page.read_text()))):
        target, _, anchor = match["target"].partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        file = page.parent / target if target else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(match["target"])
    return broken


def anchors(page: Path) -> set[str]:
    """Names that the headings of a Markdown page can be linked by."""
    titles = HEADING.findall(page.read_text())
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def faults_of_folder(folder: Path) -> list[str]:
    """What an experiment or benchmark folder lacks."""
    faults = [f"no {name}" for name in ("run", "README.md") if not (folder / name).is_file()]
    if not faults and not os.access(folder / "run", os.X_OK):
        faults.append("run is not executable")
    if not (folder / "result.json").is_file():
        return [*faults, "no result.json"]
    return faults + faults_of_result(json.loads((folder / "result.json").read_text()))


def faults_of_result(result: dict) -> list[str]:
    """Where a `result.json` departs from format version 1."""
    types = {"command": str, "date": str, "commit": str, "machine": dict, "versions": dict}
    types |= {"format_version": int, "seeds": list, "figures": dict}
    faults = [key for key, kind in types.items() if not isinstance(result.get(key), kind)]
    if faults:
        return faults
    checks = {
        "format_version": result["format_version"] == 1,
        "command": bool(result["command"].strip()),
        "date": is_date(result["date"]),
        "commit": bool(result["commit"].strip()),
        "machine": {"cores", "memory_gib", "gpu"} <= set(result["machine"]),
        "versions": bool(result["versions"]),
        "seeds": all(isinstance(seed, int) for seed in result["seeds"]),
        "figures": bool(result["figures"]),
    }
    faults = [key for key, holds in checks.items() if not holds]
    return faults + [name for name, figure in result["figures"].items() if not is_figure(figure)]


def is_date(text: str) -> bool:
    try:
        return bool(datetime.date.fromisoformat(text))
    except ValueError:
        return False


def is_figure(figure: dict) -> bool:
    """A number with its unit (and interval), or the reason why there is none."""
    value = figure.get("value", "absent")
    if value is None:
        return bool(figure.get("reason"))
    numbers = [figure.get("low", value), value, figure.get("high", value)]
    if not all(type(x) in (int, float) and math.isfinite(x) for x in numbers):
        return False
    return numbers == sorted(numbers) and bool(figure.get("unit"))


def test_documents_quote_what_was_measured() -> None:
    quotes = read_quotes(ROOT)
    assert "README.md" in quotes
    faults = {page: wrong_figures((ROOT / page).read_text(), quotes[page], ROOT) for page in quotes}
    assert {page: fault for page, fault in faults.items() if fault} == {}


def test_documents_hold_nothing_but_their_text() -> None:
    hidden = {page.name for page in documents(ROOT) if "<!--" in page.read_text()}
    assert hidden == set()


def test_links_of_the_documents_resolve() -> None:
    broken = {page.relative_to(ROOT).as_posix(): broken_links(page) for page in documents(ROOT)}
    assert {page: links for page, links in broken.items() if links} == {}


def commands(root: Path) -> list[tuple[str, list[str]]]:
    """Stage and overrides of every command line that a document shows with `key=value`."""
    found = [match for page in documents(root) for match in COMMAND.finditer(page.read_text())]
    return [(match["stage"], match["overrides"].split()) for match in found]


def test_commands_of_the_documents_compose() -> None:
    from recomind import config  # only here: the other checks need no room to import

    config.register()
    shown = commands(ROOT)
    assert ("run", ["experiment=demo"]) in shown
    with initialize_config_dir(str(config.conf_dir().resolve()), version_base="1.3"):
        for _, overrides in shown:
            compose("base", overrides)


def test_every_page_that_is_carried_out_is_found_by_make() -> None:
    marked = [path for path in (ROOT / "tests").rglob("*.py") if "mark.page" in path.read_text()]
    assert len(marked) > 5
    found = " tests/test_*.py\n"  # elsewhere `make test-pages` would not collect it
    assert found in (ROOT / "Makefile").read_text()
    assert [path for path in marked if path.parent != ROOT / "tests"] == []


def test_every_experiment_and_benchmark_is_complete() -> None:
    faults = {folder.name: faults_of_folder(folder) for folder in recorded_folders(ROOT)}
    assert {name: fault for name, fault in faults.items() if fault} == {}


def result_json() -> dict:
    return {
        "format_version": 1,
        "command": "experiments/presets/run",
        "date": "2026-11-21",
        "commit": "0123abc",
        "machine": {"cores": 2, "memory_gib": 24, "gpu": None},
        "versions": {"torch": "2.13.0"},
        "seeds": [0, 1],
        "figures": {
            "lift": {"value": 0.1581, "low": 0.12, "high": 0.2, "n": 5, "unit": "ratio"},
            "loss": {"value": -0.05, "unit": "ratio"},
            "rows": {"value": 1234567, "unit": "rows"},
            "recall": {"value": None, "reason": "the run was stopped"},
        },
    }


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one complete experiment."""
    folder = tmp_path / "experiments/presets"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("# Presets\n\n## What would change our mind\n")
    (folder / "run").write_text("#!/bin/sh\n")
    (folder / "run").chmod(0o755)
    (folder / "result.json").write_text(json.dumps(result_json()))
    return tmp_path


SOURCE = "experiments/presets/result.json"


@pytest.mark.parametrize(
    ("quote", "figures", "fault"),
    [
        ("+15.81 %", "lift", None),
        ("+16%", "lift", None),
        ("12 % to 20 %", "lift@low lift@high", None),
        ("0.158 over 5 seeds", "lift lift@n", None),
        ("\u22125.0 %", "loss", None),
        ("1,234,567", "rows", None),
        ("+15.82 %", "lift", "+15.82 % is quoted"),
        ("+17 %", "lift", "+17 % is quoted"),
        ("15.81", "lift", "15.81 is quoted"),
        ("5 %", "loss", "5 % is quoted"),
        ("1 %", "elsewhere", "no such figure"),
        ("1 %", "recall", "no such figure"),
        ("much", "lift", "found 0 times"),
    ],
)
def test_the_checker_of_figures(project: Path, quote: str, figures: str, fault: str | None) -> None:
    piece = "The lift is {} to {}" if " to " in quote else "The lift is {}"
    piece = "The lift is {} over {} seeds" if " over " in quote else piece
    quotes = [{"text": piece, "figures": [f"{SOURCE}#{name}" for name in figures.split()]}]
    faults = wrong_figures(f"Well.\nThe\nlift is {quote}.", quotes, project)
    assert len(faults) == (fault is not None)
    assert fault is None or fault in faults[0]


def test_a_quote_that_stands_twice_is_ambiguous(project: Path) -> None:
    quotes = [{"text": "lift {}", "figures": [f"{SOURCE}#lift"]}]
    assert "found 2 times" in wrong_figures("lift 16 %, lift 16 %", quotes, project)[0]


def test_a_figure_of_an_absent_file_is_named(project: Path) -> None:
    quotes = [{"text": "lift {}", "figures": ["experiments/absent/result.json#lift"]}]
    assert "no such figure" in wrong_figures("lift 16 %", quotes, project)[0]


@pytest.mark.parametrize(
    ("quote", "new"),
    [
        ("+99.99 %", "+15.81 %"),
        ("-3 %", "+16 %"),
        ("**+20.0 %**", "**+15.8 %**"),
        ("0.2", "0.2"),
        ("0.211", "0.158"),
    ],
)
def test_quotes_are_rewritten_in_their_own_format(project: Path, quote: str, new: str) -> None:
    piece = "1 and **{}**, {} times" if "*" in quote else "1 and {}, {} times"
    quotes = [{"text": piece, "figures": [f"{SOURCE}#lift", f"{SOURCE}#elsewhere"]}]
    text = "1 and {}, 7 times"
    assert renewed(text.format(quote), quotes, project) == text.format(new)


@pytest.mark.parametrize(
    ("link", "works"),
    [
        ("experiments/presets/README.md", True),
        ("experiments/presets/README.md#what-would-change-our-mind", True),
        ("#here-it-is", True),
        ("https://example.org/absent", True),
        ("experiments/absent.md", False),
        ("experiments/presets/README.md#absent", False),
        ("#absent", False),
    ],
)
def test_the_checker_of_links(project: Path, link: str, works: bool) -> None:
    page = project / "README.md"
    page.write_text(f"# Here it is\n\n[text]({link}) and `[code](absent.md)`\n")
    assert broken_links(page) == ([] if works else [link])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, []),
        ({"format_version": 2}, ["format_version"]),
        ({"date": "yesterday"}, ["date"]),
        ({"machine": {"cores": 2}}, ["machine"]),
        ({"seeds": ["0"]}, ["seeds"]),
        ({"figures": {}}, ["figures"]),
        ({"commit": None}, ["commit"]),
        ({"figures": {"lift": {"value": 0.1}}}, ["lift"]),
        ({"figures": {"lift": {"value": None}}}, ["lift"]),
        ({"figures": {"lift": {"value": True, "unit": "ratio"}}}, ["lift"]),
        ({"figures": {"lift": {"value": 0.1, "low": 0.2, "unit": "ratio"}}}, ["lift"]),
    ],
)
def test_the_checker_of_results(change: dict, fault: list[str]) -> None:
    assert faults_of_result(result_json() | change) == fault


@pytest.mark.parametrize("name", ["run", "README.md", "result.json"])
def test_an_incomplete_folder_is_named(project: Path, name: str) -> None:
    (folder,) = recorded_folders(project)
    assert faults_of_folder(folder) == []
    (folder / name).unlink()
    assert faults_of_folder(folder) == [f"no {name}"]
