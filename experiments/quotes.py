"""Figures that the documents quote: checked by `tests/test_docs.py`, rewritten by this command.

`docs/quotes.json` ties the pages to the runs, so that a page holds nothing but its text. It lists,
for each page, pieces of its text in which `{}` stands for a number, and the figure behind each:

    {"README.md": [{"text": "the policy is worth {} more than the ranker",
                    "figures": ["experiments/sim_to_real/result.json#lift.fatigue.one_round"]}]}

A piece must occur in its page exactly once; line breaks and spaces are equal. `@low`, `@high` or
`@n` after a figure's name quote its interval or the number of runs. A number followed by `%` is the
value times 100.

`python -m experiments.quotes` writes the recorded figures into every page, to the digits shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SIDE_FILE = "docs/quotes.json"
REFERENCE = re.compile(r"(?P<path>\S+\.json)#(?P<name>[^\s@]+)(?:@(?P<part>\w+))?")
NUMBER = r"([+\-\u2212]?\d[\d,]*(?:\.\d+)?(?:\s?%)?)"
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)

Quotes = Mapping[str, list[dict[str, Any]]]  # page -> its pieces of text with their figures


def documents(root: Path) -> list[Path]:
    """Every page that a reader may open."""
    folders = ("docs", "experiments", "benchmarks", "simulators")
    nested = [path for name in folders for path in (root / name).rglob("*.md")]
    return sorted([*root.glob("*.md"), *nested])


def read_quotes(root: Path) -> Quotes:
    """The side file, page by page."""
    return json.loads((root / SIDE_FILE).read_text())


def wrong_figures(text: str, quotes: list[dict[str, Any]], root: Path) -> list[str]:
    """Faults of the figures that `text` quotes, one line each."""
    faults = []
    for quote in quotes:
        found = list(pattern(quote["text"]).finditer(text))
        if len(found) != 1:
            faults.append(f"found {len(found)} times, expected once: {quote['text']!r}")
            continue
        numbers = zip(found[0].groups(), quote["figures"], strict=True)
        faults += [fault for number, name in numbers if (fault := _fault(number, name, root))]
    return faults


def pattern(text: str) -> re.Pattern[str]:
    """Finds `text` in a page: `{}` is any number, and any white space equals any other."""
    parts = [r"\s+".join(map(re.escape, re.split(r"\s+", part))) for part in text.split("{}")]
    return re.compile(NUMBER.join(parts))


def figure(name: str, root: Path) -> float | None:
    """The recorded value that `name` stands for; None where it is absent or null."""
    reference = REFERENCE.fullmatch(name)
    if reference is None or not (root / reference["path"]).is_file():
        return None
    figures = json.loads((root / reference["path"]).read_text())["figures"]
    return figures.get(reference["name"], {}).get(reference["part"] or "value")


def renewed(text: str, quotes: list[dict[str, Any]], root: Path) -> str:
    """`text` with the recorded figures; numbers that are right stay as they are."""
    for quote in quotes:
        found = pattern(quote["text"]).search(text)
        if found is None:
            continue
        for begin, end, number in reversed(list(_corrections(found, quote["figures"], root))):
            text = text[:begin] + number + text[end:]
    return text


def _corrections(
    found: re.Match[str], names: list[str], root: Path
) -> Iterator[tuple[int, int, str]]:
    """Begin, end and new text of each number that is wrong."""
    for index, name in enumerate(names, start=1):
        value, number = figure(name, root), found[index]
        if value is not None and not _is_right(number, value):
            yield (*found.span(index), _formatted(number, value))


def _fault(number: str, name: str, root: Path) -> str:
    value = figure(name, root)
    if value is None:
        return f"no such figure: {name}"
    if _is_right(number, value):
        return ""
    return f"{number} is quoted, {_exact(number, value)} was measured: {name}"


def _is_right(number: str, value: float) -> bool:
    bound = 0.5 * 10 ** -_decimals(number) * (1 + 1e-6)
    return abs(float(_digits(number)) - _exact(number, value)) <= bound


def _exact(number: str, value: float) -> float:
    return value * 100 if number.endswith("%") else value


def _formatted(number: str, value: float) -> str:
    """`value` in the format of `number`: its digits, commas, sign and percent sign."""
    sign, comma = "+" if number[0] in "+-\u2212" else "", "," if "," in number else ""
    unit = re.search(r"\s?%$", number)
    digits = f"{_exact(number, value):{sign}{comma}.{_decimals(number)}f}"
    return digits + (unit[0] if unit else "")


def _digits(number: str) -> str:
    return number.rstrip("% \n").replace(",", "").replace("\u2212", "-")


def _decimals(number: str) -> int:
    return len(_digits(number).partition(".")[2])


def main() -> None:
    """Rewrite every page that quotes a figure."""
    for name, quotes in read_quotes(ROOT).items():
        page = ROOT / name
        text = page.read_text()
        if (new := renewed(text, quotes, ROOT)) != text:
            page.write_text(new)
            print(name)


if __name__ == "__main__":
    main()
