"""What docs/export.md says is done here, on a scorer of forty items."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from recomind.export import export_and_verify, make_formats
from recomind.export.formats import FORMATS
from recomind.export.onnx import graph
from tests.export.tiny import network, settings

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.slow  # a process of its own verifies the scorer
def test_the_format_of_the_page_is_written(tmp_path, monkeypatch):
    (code,) = blocks("python")
    (tmp_path / "my_shop").mkdir()
    (tmp_path / "my_shop" / "formats.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("RECOMIND_ALLOWED_TARGETS", "my_shop")
    importlib.invalidate_caches()
    folder = tmp_path / "export"
    try:
        formats = make_formats(["my_shop.formats.FORMAT"])
        report = export_and_verify(
            folder, network(), settings(), num_states=30, num_candidates=5, formats=formats
        )
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "my_shop"]:
            del sys.modules[name]
    assert report["formats"]["best_items"] == {"passed": True, "num_items": 10}
    assert len(set(json.loads((folder / "best_items" / "best.json").read_text()))) == 10


@pytest.mark.parametrize("name", [*FORMATS, "safetensors"])
def test_every_format_is_on_the_page(name):
    assert f"| `{name}` |" in PAGE


def test_the_outputs_on_the_page_are_the_graphs():
    told = re.findall(r"^\| `(\w+)` \[B, K\]", PAGE, re.MULTILINE)
    assert told == [*graph.OUTPUTS, graph.DENSITY]
