"""A policy on a torch module comes back as that module: its own loader takes it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from recomind.adapters import OutputKind
from recomind.errors import ConfigError
from recomind.export import ExportJob, PolicyScorer
from recomind.export import torch_module as format
from recomind.export.distilling import Lessons, agreement
from recomind.export.golden import make_golden
from recomind.export.policy_module import PolicyModule, load
from recomind.plugins import VARIABLE
from recomind.policy import PolicyConfig, QNetwork
from recomind.ranker import ExternalKind
from recomind.ranker.numbers import PiecewiseLinear
from recomind.streams import make_generator
from tests.export.tiny import NAMES, network, settings
from tests.parity.existing import ensemble, existing, make_net, num_inputs
from tests.simulation.tiny import WEIGHTS, tiny_dataset


@pytest.fixture(scope="module", autouse=True)
def _allowed():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "tests")
        yield


def job_on(folder: Path, kind: ExternalKind = ExternalKind.torch, size: float = 0.0) -> ExportJob:
    """A job whose policy has a residual of `size`, 0 for an untrained one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trained = QNetwork(ensemble(existing(kind, folder))[0], WEIGHTS, PolicyConfig())
        with torch.no_grad():
            trained.residual.weight += size * torch.randn_like(trained.residual.weight)
    for part in trained.modules():
        if isinstance(part, PiecewiseLinear):  # fitted to so few rows, one of its steps is a wall
            part.inverse_width.clamp_(max=1e3)
    trained.share_items(trained.catalogue).eval()
    scorer = PolicyScorer(trained, tiny_dataset().user_feature_names)
    train, held_out = (
        make_golden(scorer, make_generator(seed), num_states=num, num_candidates=12)
        for seed, num in ((1, 250), (2, 60))
    )
    rankers = [trained.frozen]
    lessons = Lessons(rankers=rankers, train=train, held_out=held_out, num_epochs=6)
    record = settings(user_feature_names=list(scorer.user_feature_names))
    return ExportJob(scorer=scorer, record=record, golden=held_out, lessons=lambda: lessons)


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> ExportJob:
    return job_on(tmp_path_factory.mktemp("model"), size=0.1)


def held_out(job: ExportJob, module: torch.nn.Module) -> float:
    """NDCG@10 of the policy's order by the module."""
    trained, lessons = job.scorer.network, job.lessons_for("torch_module")
    student = format.module_logits(trained, module)
    return agreement(student, trained.weights_H, lessons.held_out)["ndcg_at_10"]


def test_an_untrained_policy_leaves_the_file_as_it_was(tmp_path):
    job = job_on(tmp_path / "model")
    report = format.FORMAT.write(job, tmp_path)
    assert report["how"] == "untouched"
    assert report["passed"]
    ours = (tmp_path / "model.safetensors").read_bytes()
    assert ours == (tmp_path / "model" / "net.safetensors").read_bytes()


def test_their_own_loader_takes_the_weights(job, tmp_path, monkeypatch):
    monkeypatch.setattr(format, "MIN_NDCG", 0.0)
    report = format.FORMAT.write(job, tmp_path)
    assert report["how"] == "weights"
    assert report["passed"]
    assert json.loads((tmp_path / "module.json").read_text()) == report
    net = make_net()
    net.load_state_dict(safetensors.torch.load_file(tmp_path / "model.safetensors"), strict=True)
    assert held_out(job, net.eval()) == pytest.approx(report["ndcg_at_10"], abs=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "module.json"]


def test_what_the_weights_cannot_hold_lies_beside_them(job, tmp_path, monkeypatch):
    monkeypatch.setattr(format, "MIN_NDCG", 1.1)
    report = format.FORMAT.write(job, tmp_path)
    assert report["how"] == "residual"
    assert report["passed"]
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__("policy_module").load(make_net(), tmp_path)
    del sys.modules["policy_module"]
    assert held_out(job, module) == pytest.approx(report["ndcg_at_10"], abs=1e-6)
    rows = torch.randn(5, num_inputs())
    assert module(rows).shape == make_net()(rows).shape == (5, 1)
    theirs = module.theirs.state_dict()
    before = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(theirs[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("output", list(OutputKind))
def test_before_anything_is_learned_the_module_answers_as_theirs(output):
    probabilities = output is OutputKind.probabilities
    theirs = torch.nn.Sequential(make_net(), torch.nn.Sigmoid()) if probabilities else make_net()
    module = PolicyModule(theirs, num_inputs(), 1, probabilities=probabilities)
    rows = torch.randn(5, num_inputs())
    torch.testing.assert_close(module(rows), theirs(rows), atol=1e-6, rtol=1e-5)
    with torch.no_grad():
        module.net[-1].bias += 2.0  # type: ignore[operator]
    assert bool((module(rows) > theirs(rows)).all())
    assert not probabilities or bool((module(rows) < 1).all())


def test_a_residual_of_another_module_is_refused(tmp_path):
    safetensors.torch.save_file(make_net().state_dict(), tmp_path / "model.safetensors")
    tensors = PolicyModule(make_net(), num_inputs(), 1).residual_state()
    tensors["net.9.bias"] = torch.zeros(1)
    safetensors.torch.save_file(tensors, tmp_path / "residual.safetensors")
    with pytest.raises(ValueError, match=r"not of this module.*net\.9\.bias"):
        load(make_net(), tmp_path)


def test_policies_on_other_rankers_are_refused(tmp_path):
    other = job_on(tmp_path / "model", ExternalKind.torchscript).scorer
    for scorer, kind in ((other, "torchscript"), (PolicyScorer(network(), NAMES), "a ranker of")):
        with pytest.raises(ConfigError, match=rf"a policy on {kind}.*ranker.external.kind=torch"):
            format.FORMAT.check_possible(scorer)
