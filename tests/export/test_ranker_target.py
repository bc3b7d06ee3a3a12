"""The policy as a ranker of ours: equal before training, taught after, and good to train on."""

from __future__ import annotations

import dataclasses
from typing import cast

import pytest
import torch
from torch import nn

from recomind.artifacts import Manifest, read_manifest
from recomind.errors import ConfigError
from recomind.export import ExportConfig, ExportJob, PolicyScorer, make_formats
from recomind.export.config import ExportTarget
from recomind.export.distilling import Lessons, agreement, is_untrained
from recomind.export.golden import make_golden
from recomind.export.ranker import FORMAT, as_ranker
from recomind.plugins import VARIABLE
from recomind.policy import PolicyConfig, QNetwork
from recomind.ranker import ExternalKind, load_rankers, save_rankers, start_from, utility
from recomind.streams import make_generator
from tests.export.tiny import NAMES, TASKS, network, settings
from tests.parity.existing import ensemble, existing
from tests.simulation.tiny import WEIGHTS, tiny_ranker


def lessons_of(trained: QNetwork, num: int = 200) -> Lessons:
    scorer = PolicyScorer(trained, NAMES)
    train, held_out = (
        make_golden(scorer, make_generator(seed), num_states=n, num_candidates=16)
        for seed, n in ((1, num), (2, 60))
    )
    own = trained.frozen
    return Lessons(rankers=[own, own], train=train, held_out=held_out, num_epochs=6)


def at_step_0(*, effects: bool = False) -> QNetwork:
    """The network before its first update."""
    begun = network(effects=effects)
    nets = [begun.residual, *([begun.gain] if effects else [])]
    with torch.no_grad():
        for net in nets:
            net.weight.zero_()
    return begun


@pytest.fixture(scope="module")
def taught():
    """A policy with a support that binds, the lessons of it, the ranker and its report."""
    trained = network(PolicyConfig(support_ratio=0.9))
    lessons = lessons_of(trained)
    return trained, lessons, *as_ranker(trained, lessons)


@pytest.mark.parametrize("effects", [False, True])
def test_an_untrained_policy_is_its_ranker_to_the_item(effects):
    begun = at_step_0(effects=effects)
    assert is_untrained(begun)
    lessons = lessons_of(begun, num=10)
    ranker, report = as_ranker(begun, lessons)
    theirs = cast(nn.Module, begun.frozen).state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ranker.state_dict().items())
    held = lessons.held_out
    scored = utility(ranker.score(ranker.encode_state(held.state), held.item_id), begun.weights_H)
    assert torch.equal(scored.argsort(dim=1, stable=True), held.q.argsort(dim=1, stable=True))
    assert report["folded"]
    assert report["passed"]
    assert report["max_score_difference"] < 1e-6


def test_a_gain_alone_is_not_folded():
    begun = at_step_0(effects=True)
    with torch.no_grad():
        begun.gain.bias.add_(1.0)
    assert not is_untrained(begun)


def test_a_trained_policy_is_distilled_and_the_loss_measured(taught):
    _, _, _, report = taught
    assert report["passed"]
    assert not report["folded"]
    assert report["ndcg_at_10"] > max(0.9, report["ndcg_at_10_bound"])
    assert report["top1_agreement"] > 0.5
    assert report["share_in_support"] > 0.8
    assert report["max_score_difference"] > 0.0


def test_it_learns_more_of_the_support_than_the_policy_s_values_tell(taught):
    trained, lessons, ranker, report = taught
    held = lessons.held_out
    by_q = held.q.masked_fill(~held.mask, -torch.inf).argmax(1, keepdim=True)
    assert report["share_in_support"] > float(held.supported.gather(1, by_q).float().mean())
    changed = {n for n, t in ranker.named_parameters() if not torch.equal(t, _of(trained, n))}
    assert "head.weight" in changed
    assert not any(name.startswith(("items.", "next_action.")) for name in changed)


def _of(trained: QNetwork, name: str) -> torch.Tensor:
    return dict(cast(nn.Module, trained.frozen).named_parameters())[name]


def test_the_artifact_is_a_ranker_with_the_loss_in_its_manifest(taught, tmp_path, monkeypatch):
    trained, lessons, ranker, report = taught
    monkeypatch.setattr("recomind.export.ranker.as_ranker", lambda *_: (ranker, report))
    scorer = PolicyScorer(trained, NAMES)
    job = ExportJob(
        scorer=scorer, record=settings(), golden=lessons.held_out, lessons=lambda: lessons
    )
    FORMAT.check_possible(scorer)
    assert FORMAT.write(job, tmp_path / "ranker") == report
    loaded, other = load_rankers(tmp_path / "ranker")
    held = lessons.held_out
    found = agreement(lambda s, i: loaded.score(loaded.encode_state(s), i), trained.weights_H, held)
    assert found["ndcg_at_10"] == pytest.approx(report["ndcg_at_10"], abs=1e-6)
    assert torch.equal(
        cast(nn.Module, other).state_dict()["head.weight"], _of(trained, "head.weight")
    )
    metrics = read_manifest(tmp_path / "ranker", "ranker").metrics
    assert metrics["top1_agreement"] == pytest.approx(report["top1_agreement"])


def test_without_logs_nothing_is_distilled(trained, golden, tmp_path):
    job = ExportJob(scorer=PolicyScorer(trained, NAMES), record=settings(), golden=golden)
    with pytest.raises(ConfigError, match=r"'ranker' distils the policy.*`recomind export` brings"):
        FORMAT.write(job, tmp_path / "ranker")


def test_a_policy_on_an_adapted_ranker_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "tests")
    adapted = ensemble(existing(ExternalKind.torch, tmp_path / "model"))[0]
    scorer = PolicyScorer(QNetwork(adapted, WEIGHTS, PolicyConfig()))
    with pytest.raises(ConfigError, match=r"CompletedRanker.*export.formats=\[onnx\]"):
        FORMAT.check_possible(scorer)


def test_the_target_is_a_format_like_others():
    config = ExportConfig(formats=["triton"], target=ExportTarget.ranker)
    assert config.all_formats == ["triton", "ranker"]
    assert ExportConfig(formats=["ranker"], target=ExportTarget.ranker).all_formats == ["ranker"]
    assert ExportConfig().all_formats == []
    assert [each.name for each in make_formats(config.all_formats)] == ["triton", "ranker"]
    with pytest.raises(ConfigError, match=r"export.distil_states; got: 0"):
        ExportConfig(distil_states=0)


def test_a_ranker_starts_from_anothers_weights(tmp_path):
    own = tiny_ranker(0)
    save_rankers(tmp_path / "ranker", [own], own.catalogue, Manifest(kind=""))  # type: ignore[arg-type]
    for member in (0, 1):  # the second has none of its own there
        fresh = tiny_ranker(1).copied()
        start_from(fresh, tmp_path / "ranker", member)
        assert torch.equal(fresh.head.weight, own.head.weight)
    other = network().frozen
    with pytest.raises(ConfigError, match=r"has other tasks.*watch_10s"):
        start_from(other, tmp_path / "ranker", 0)  # type: ignore[arg-type]
    wider = type(own)(
        own.catalogue,
        own.tasks,
        own.num_user_features,
        dataclasses.replace(own.config, hidden=own.config.hidden + 1),
    )
    with pytest.raises(ConfigError, match=r"another shape; got: size mismatch"):
        start_from(wider, tmp_path / "ranker", 0)
    assert list(TASKS) != list(own.tasks)
