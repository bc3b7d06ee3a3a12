"""The format `torch_export`: a program of torch alone gives the network's answers."""

from __future__ import annotations

import json

import pytest
import torch

from recomind.errors import ConfigError
from recomind.export import ExportJob, PolicyScorer
from recomind.export.golden import make_golden
from recomind.export.torch_export import FORMAT, asked
from recomind.plugins import VARIABLE
from recomind.policy import PolicyConfig, QNetwork
from recomind.ranker import ExternalKind
from recomind.streams import make_generator
from tests.export.tiny import NAMES, network, settings
from tests.parity.existing import ensemble, existing
from tests.simulation.tiny import WEIGHTS


@pytest.mark.slow  # a trace of some seconds
def test_the_program_read_back_answers_as_the_network_does(tmp_path):
    policy = PolicyConfig(support_ratio=0.5, support_density=0.3)
    trained = network(policy, effects=True)
    scorer = PolicyScorer(trained.share_items(trained.catalogue).eval(), NAMES)
    golden = make_golden(scorer, make_generator(2), num_states=130, num_candidates=12)
    FORMAT.check_possible(scorer)
    report = FORMAT.write(ExportJob(scorer=scorer, record=settings(), golden=golden), tmp_path)
    assert report["passed"], report
    assert report["max_log_density_difference"] <= 1e-5
    assert json.loads((tmp_path / "model.json").read_text())["parity"] == report
    program = torch.export.load(tmp_path / "policy.pt2").module()
    one = make_golden(scorer, make_generator(3), num_states=1, num_candidates=1)
    torch.testing.assert_close(asked(program, scorer, one).q, one.q, atol=1e-5, rtol=0)


def test_what_torch_cannot_trace_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "tests")
    ranker = ensemble(existing(ExternalKind.torchscript, tmp_path / "model"))[0]
    scorer = PolicyScorer(QNetwork(ranker, WEIGHTS, PolicyConfig()))
    with pytest.raises(ConfigError, match=r"of kind torchscript.*export.formats=\[onnx\]"):
        FORMAT.check_possible(scorer)
