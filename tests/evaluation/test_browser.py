"""The pages in a real browser: no error, every picture drawn, nothing beyond the edge.

A frame of the width asked for holds the page, since a window is never as narrow as a telephone.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from recomind.evaluation.backtest.page import render_page
from recomind.evaluation.html import render_html

ABOUT = {"run": "demo", "date": "2026-11-30", "versions": "recomind 0.1.0, torch 2.13.0+cpu"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((found for name in BROWSERS if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is here")

MEASURE = """
<script>onload = () => {
  const page = document.querySelector("iframe").contentDocument;
  const all = (what) => [...page.querySelectorAll(what)];
  const size = (it) => { const b = it.getBoundingClientRect(); return [b.width, b.height]; };
  const colour = (it) => getComputedStyle(it).backgroundColor;
  const edge = page.documentElement.clientWidth + 1;
  const wide = all("body *").filter((it) => !it.closest(".scroll"))
    .filter((it) => it.getBoundingClientRect().right > edge);
  const bars = all(".scroll").filter((it) => it.scrollWidth > it.clientWidth + 1);
  document.querySelector("pre").textContent = JSON.stringify({
    facts: all(".about dd, h1").filter((it) => size(it)[1] > 10).length,
    width: page.documentElement.clientWidth, scroll: page.documentElement.scrollWidth,
    pictures: all("svg").map(size), boxes: all(".strip i").map(size), bars: bars.length,
    wide: wide.map((it) => it.tagName + "." + it.className),
    untested: all(".box.untested").map(colour), holds: all(".box.yes").map(colour) });
}</script>
"""


def opened(page: str, width: int, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """What the browser measured, and what it complained of."""
    assert BROWSER is not None
    file = folder / "framed.html"
    style = f"border:0;width:{width}px;height:3000px"
    frame = f'<iframe scrolling="no" style="{style}" srcdoc="{html.escape(page)}"></iframe>'
    file.write_text(f"<!doctype html><meta charset=utf-8>{frame}<pre></pre>{MEASURE}")
    done = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--enable-logging=stderr", "--virtual-time-budget=2000", "--window-size=1400,900"),
            *(f"--user-data-dir={folder / 'profile'}", "--dump-dom", file.as_uri()),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    said = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    (found,) = re.findall(r"<pre>(.*?)</pre>", done.stdout, re.S)
    return json.loads(html.unescape(found)), said


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1200])
def test_the_report_is_drawn_whole_at_any_width(report, width: int, tmp_path: Path) -> None:
    report["gate"]["guardrails"][0] |= {"status": "not shown", "sessions_needed": 12345}
    report["gate"]["guardrails"][1] |= {"status": "holds"}
    found, said = opened(render_html(report, ABOUT), width, tmp_path)
    assert said == []
    assert found["width"] == width
    assert found["scroll"] <= width, found["wide"]
    assert found["wide"] == []
    assert found["facts"] == 5  # run and date, versions, data and pool, each on the page
    assert found["bars"] == 0  # nothing that one has to scroll sideways for
    assert len(found["pictures"]) == 7
    assert all(w > 100 and h > 50 for w, h in found["pictures"])
    assert found["boxes"]
    assert all(w > 5 and h > 5 for w, h in found["boxes"])
    # What was not tested does not look like what holds.
    assert (len(found["untested"]), len(found["holds"])) == (1, 1)
    assert set(found["untested"]).isdisjoint(found["holds"])


@pytest.mark.slow
def test_a_heat_map_is_tinted_and_fits_a_telephone(tmp_path: Path) -> None:
    cells = [
        {"day": 3 + day, "age_days": 1 + day, "n": 200, "auc.click": 0.7 - 0.05 * day}
        for day in range(5)
    ]
    ages = [{"age_days": c["age_days"], "value": c["auc.click"], "num_windows": 1} for c in cells]
    backtest = {
        "days": [f"2026-11-0{day + 1}" for day in range(8)],
        "dated": True,
        "window_days": 3,
        "windows": [{"first": 0, "last": 2, "cells": cells}],
        "decay": {"auc.click": ages},
    }
    found, said = opened(render_page(backtest, ["click"]), 400, tmp_path)
    assert said == []
    assert found["scroll"] <= 400, found["wide"]
    assert len(found["pictures"]) == 1
