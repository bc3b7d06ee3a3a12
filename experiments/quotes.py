"""Figures that the documents quote: checked by `tests/test_docs.py`, written anew by this command.

A quoted figure is followed by a comment that names it, `@low`, `@high` or `@n` for its interval
and number of runs:

    +15.81 %<!-- experiments/presets/result.json#lift.fatigue.watch_10s_per_session -->

`python -m experiments.quotes` puts the recorded figures into every page, to the digits shown.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
MENTION = re.compile(r"<!--\s*(?P<path>\S+\.json)#(?P<name>[^\s@]+)(?:@(?P<part>\w+))?\s*-->")
NUMBER = re.compile(r"(?P<number>[+\-\u2212]?\d[\d,]*(?:\.\d+)?)\s?(?P<percent>%)?[*`]*$")
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def documents(root: Path) -> list[Path]:
    """Every page that a reader may open."""
    folders = ("docs", "experiments", "benchmarks", "simulators")
    nested = [path for name in folders for path in (root / name).rglob("*.md")]
    return sorted([*root.glob("*.md"), *nested])


def figure(mention: re.Match[str], root: Path) -> float | None:
    """What a comment names; None where there is no such figure, or it is null."""
    path = root / mention["path"]
    figures = json.loads(path.read_text())["figures"] if path.is_file() else {}
    return figures.get(mention["name"], {}).get(mention["part"] or "value")


def wrong_figures(text: str, root: Path) -> list[str]:
    """What is wrong with the figures that `text` quotes."""
    mentions = MENTION.finditer(FENCED.sub("", text))
    return [fault for mention in mentions if (fault := _fault(mention, root))]


def _fault(mention: re.Match[str], root: Path) -> str:
    quote = NUMBER.search(mention.string[: mention.start()])
    if quote is None:
        return f"no number stands before {mention[0]}"
    value = figure(mention, root)
    if value is None:
        return f"no such figure: {mention[0]}"
    if _is_right(quote, value):
        return ""
    return f"{quote[0].strip()} is quoted, {_exact(quote, value)} was measured: {mention[0]}"


def _is_right(quote: re.Match[str], value: float) -> bool:
    digits = _digits(quote)
    bound = 0.5 * 10 ** -_decimals(digits) * (1 + 1e-6)
    return abs(float(digits) - _exact(quote, value)) <= bound


def _exact(quote: re.Match[str], value: float) -> float:
    return value * 100 if quote["percent"] else value


def renewed(text: str, root: Path) -> str:
    """`text` with the recorded figures; what is right stays as it is, and what is nowhere too."""
    parts, begin = [], 0
    for mention in MENTION.finditer(text):
        before = text[begin : mention.start()]
        quote, value = NUMBER.search(before), figure(mention, root)
        if quote is not None and value is not None and not _is_right(quote, value):
            number = _formatted(quote, value)
            before = before[: quote.start("number")] + number + before[quote.end("number") :]
        parts += [before, mention[0]]
        begin = mention.end()
    return "".join([*parts, text[begin:]])


def _formatted(quote: re.Match[str], value: float) -> str:
    """As the number that stands there: digits, commas, and a sign where it has one."""
    old = quote["number"]
    sign, comma = "+" if old[0] in "+-\u2212" else "", "," if "," in old else ""
    return f"{_exact(quote, value):{sign}{comma}.{_decimals(_digits(quote))}f}"


def _digits(quote: re.Match[str]) -> str:
    return quote["number"].replace(",", "").replace("\u2212", "-")


def _decimals(digits: str) -> int:
    return len(digits.partition(".")[2])


def main() -> None:
    """Every page of the project."""
    for page in documents(ROOT):
        text = page.read_text()
        if (new := renewed(text, ROOT)) != text:
            page.write_text(new)
            print(page.relative_to(ROOT))


if __name__ == "__main__":
    main()
