"""A ranker that existed already goes back into production with its policy, of whatever kind."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from recomind.errors import ConfigError
from recomind.export import ExportJob, PolicyScorer, make_formats
from recomind.export.golden import make_golden
from recomind.export.onnx import composed, graph
from recomind.export.onnx.theirs import Given, external_part
from recomind.plugins import VARIABLE
from recomind.policy import PolicyConfig, QNetwork
from recomind.ranker import ExternalKind
from recomind.ranker.numbers import PiecewiseLinear
from recomind.streams import make_generator
from tests.export import bare
from tests.export.tiny import settings
from tests.parity.existing import HERE, ensemble, existing
from tests.simulation.tiny import WEIGHTS, tiny_dataset

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("onnxscript") is None, reason="pip install onnxscript"
    ),
]
KINDS = (ExternalKind.onnx, ExternalKind.torchscript, ExternalKind.lightgbm, ExternalKind.torch)


@pytest.fixture(scope="module", autouse=True)
def _traced_once():
    """Our part is the same for every model that answers alike outside of it, and slow to trace."""
    kept = {}

    def trace(scorer: PolicyScorer, given: Given | None = None):
        if given is None:
            return graph.trace(scorer)
        external = external_part(scorer.network.frozen)
        assert external is not None
        output = external.config.output  # trees answer with probabilities, the others with logits
        if output not in kept:
            kept[output] = graph.trace(scorer, given)
        return kept[output]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, HERE.rpartition(".")[0])
        patch.setattr(composed, "trace", trace)
        yield


def scorer_on(kind: ExternalKind, folder: Path) -> PolicyScorer:
    """A policy whose residual is far from zero, on a model of `kind`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = QNetwork(ensemble(existing(kind, folder))[0], WEIGHTS, PolicyConfig())
        with torch.no_grad():
            network.residual.weight += 0.1 * torch.randn_like(network.residual.weight)
    for part in network.modules():
        if isinstance(part, PiecewiseLinear):  # fitted to so few rows, one of its steps is a wall
            part.inverse_width.clamp_(max=1e3)
    network.share_items(network.catalogue).eval()
    return PolicyScorer(network, tiny_dataset().user_feature_names)


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.value)
def exported(request, tmp_path_factory):
    """The kind, a folder that holds `onnx/` alone, and what the export said."""
    folder = tmp_path_factory.mktemp(request.param.value)
    scorer = scorer_on(request.param, folder / "model")
    (written := make_formats(["onnx"])[0]).check_possible(scorer)
    golden = make_golden(scorer, make_generator(1), num_states=40, num_candidates=8)
    record = settings(user_feature_names=list(scorer.user_feature_names))
    (folder / "onnx").mkdir()
    report = written.write(ExportJob(scorer=scorer, record=record, golden=golden), folder / "onnx")
    return request.param, folder / "onnx", report


def test_the_graph_answers_as_the_policy_does(exported):
    _, _, report = exported
    assert report["max_abs_difference"] <= 1e-5
    assert report["passed"], report


def test_a_bare_environment_ranks_raw_requests(exported):
    kind, folder, _ = exported
    allowed = ["lightgbm"] if kind is ExternalKind.lightgbm else []
    command = [sys.executable, "-I", bare.__file__, folder / "example.py", folder / "requests.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    with np.load(folder / "golden.npz") as file:
        golden = dict(file)
    assert len(answers) == len(golden["output.q"]) == 40
    for row, answer in enumerate(answers):
        mask, order = golden["input.mask"][row], golden["output.order"][row]
        ranked = order[mask[order]]
        assert answer["item_ids"] == golden["input.item_id"][row][ranked].tolist()
        np.testing.assert_allclose(answer["scores"], golden["output.q"][row][ranked], atol=1e-5)
    assert json.loads((folder / "model.json").read_text())["takes_user_id"]
    assert [path.parent.name for path in folder.rglob("*.txt")] == ["boosters"] * len(allowed)


def test_their_model_is_in_the_graph(exported):
    kind, folder, _ = exported
    model = onnx.load(folder / "model.onnx")
    inputs = [each.name for each in model.graph.input]
    onnx.checker.check_model(model)
    names = {node.name for node in model.graph.node} | {t.name for t in model.graph.initializer}
    theirs = any(name.startswith("theirs/") for name in names)
    assert theirs is (kind in (ExternalKind.onnx, ExternalKind.torchscript))
    assert ("theirs" in inputs) is (kind is ExternalKind.lightgbm)
    assert "user_id" in inputs


def test_triton_takes_no_trees(tmp_path):
    scorer = scorer_on(ExternalKind.lightgbm, tmp_path / "model")
    with pytest.raises(ConfigError, match="LightGBM stays outside"):
        make_formats(["triton"])[0].check_possible(scorer)


def test_a_function_that_branches_on_values_is_refused(tmp_path, monkeypatch):
    scorer = scorer_on(ExternalKind.onnx, tmp_path / "model")
    external = external_part(scorer.network.frozen)
    assert external is not None

    def branching(rows):
        return rows.items.dense if rows.items.dense.sum() > 0 else -rows.items.dense

    monkeypatch.setattr("recomind.export.onnx.theirs.inputs_function", lambda _: branching)
    with pytest.raises(ConfigError, match=r"(?s)torch cannot trace .* free of branches on values"):
        composed._rows(scorer)
