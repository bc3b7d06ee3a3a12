"""The ONNX file answers as the network does, for any number of states and candidates."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch

from recomind.errors import ConfigError, ParityError
from recomind.export import PolicyScorer, export_and_verify
from recomind.export import onnx as room
from recomind.export.golden import Golden, make_golden
from recomind.streams import make_generator
from tests.export.tiny import NAMES, network, settings

needs_exporter = pytest.mark.skipif(
    importlib.util.find_spec("onnxscript") is None, reason="pip install onnxscript"
)


@pytest.fixture(scope="module")
def scorer():
    return PolicyScorer(network(), NAMES)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx") / "scorer"
    report = export_and_verify(
        folder, network(), settings(), num_states=60, num_candidates=6, with_onnx=True
    )
    return folder / "model.onnx", report


@needs_exporter
@pytest.mark.slow
@pytest.mark.parametrize(("num_states", "num_candidates"), [(1, 1), (1, 30), (40, 3)])
def test_any_number_of_states_and_candidates(scorer, file, num_states, num_candidates):
    path, report = file
    assert report["onnx"]["max_abs_difference"] <= 1e-5
    assert report["onnx"]["num_states"] == 60
    asked = make_golden(
        scorer, make_generator(9), num_states=num_states, num_candidates=num_candidates
    )
    q, utility = room.run_onnx(path, asked)
    torch.testing.assert_close(torch.from_numpy(q), asked.q, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.from_numpy(utility), asked.utility, atol=1e-5, rtol=0)


@needs_exporter
@pytest.mark.slow
def test_a_file_that_answers_otherwise_is_removed(scorer, file, tmp_path):
    golden = make_golden(scorer, make_generator(9), num_states=5, num_candidates=4)
    path = tmp_path / "copy.onnx"
    path.write_bytes(file[0].read_bytes())
    fields: dict[str, Any] = {name: getattr(golden, name) for name in Golden.__slots__}
    fields["utility"] = golden.utility + 1e-3
    with pytest.raises(ParityError, match="the ONNX file does not answer"):
        room._checked(path, Golden(**fields))
    assert not path.exists()


def test_it_needs_a_table_of_item_vectors(golden, tmp_path):
    large = PolicyScorer(network(max_table_items=1), NAMES)
    with pytest.raises(ConfigError, match="ONNX needs the table of item vectors; got: 40 items"):
        room.export_onnx(large, tmp_path / "model.onnx", golden)


def test_absent_packages_are_named(scorer, golden, tmp_path, monkeypatch):
    monkeypatch.setattr(room.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install onnx onnxscript onnxruntime"):
        room.export_onnx(scorer, tmp_path / "model.onnx", golden)
