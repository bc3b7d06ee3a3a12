"""`check_ranker` accepts what is right, and names what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from recomind.artifacts import Manifest
from recomind.checks import Level, check_ranker, require_ranker
from recomind.checks.labels import auc_standard_error, ece_noise
from recomind.errors import SchemaError
from recomind.ranker import save_rankers
from tests.contracts.rankers import Fair, FlatModel, labelled, write_labelled
from tests.flow.in_process import Command
from tests.simulation import tiny


@pytest.fixture(autouse=True)
def no_targets_allowed(monkeypatch):
    """What the command allows ends with the test."""
    monkeypatch.setenv("RECOMIND_ALLOWED_TARGETS", "")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return labelled(tmp_path_factory.mktemp("labelled"))


def found(ranker, level, **given) -> list[str]:
    findings = check_ranker(ranker, tiny.tiny_catalogue(), **given)
    return [str(f) for f in findings if f.level is level]


def test_a_fair_ranker_passes_and_is_told_what_was_seen(dataset):
    assert found(Fair(), Level.error, dataset=dataset) == []
    warnings = found(Fair(), Level.warning, dataset=dataset)
    assert [w.split(";")[0] for w in warnings] == [
        "warning: 'like' is ranked no better than by chance"
    ]
    notes = " ".join(found(Fair(), Level.note, dataset=dataset))
    assert "'watch_10s' is ranked; got: AUC 0.8" in notes
    assert "'long_view' was not checked: its labels are all the same on later days" in notes
    assert "ms a decision among 100" in notes


@pytest.mark.parametrize("seed", [0, 1])
def test_our_own_ranker_passes(seed):
    ranker, catalogue = tiny.tiny_ranker(seed), tiny.tiny_catalogue()
    require_ranker(ranker, catalogue, dataset=tiny.tiny_dataset(), seed=seed)
    require_ranker(ranker, catalogue, state=tiny.tiny_dataset().state(torch.arange(5)))
    require_ranker(ranker, catalogue, seed=seed)
    assert not ranker.training


class Transposed(Fair):
    def score(self, encoding, item_id, snapshot=None):
        return super().score(encoding, item_id).mT


class Whole(Fair):
    def score(self, encoding, item_id, snapshot=None):
        return (100 * super().score(encoding, item_id)).long()


class Listed(Fair):
    def score(self, encoding, item_id, snapshot=None):
        return super().score(encoding, item_id).tolist()


class Diverged(Fair):
    def score(self, encoding, item_id, snapshot=None):
        return super().score(encoding, item_id).log()


class Graph(Fair):
    def score(self, encoding, item_id, snapshot=None):
        with torch.enable_grad():
            return super().score(encoding, item_id) * torch.ones(4, requires_grad=True)


class NeedsGradient(Fair):
    def score(self, encoding, item_id, snapshot=None):
        weight = torch.ones(4, requires_grad=True)
        logits = super().score(encoding, item_id) * weight
        return logits + torch.autograd.grad(logits.sum(), weight)[0]


class Noisy(Fair):
    def score(self, encoding, item_id, snapshot=None):
        return super().score(encoding, item_id) + 0.01 * torch.rand(*item_id.shape, 1)


class Drawing(Fair):
    def encode_state(self, state, snapshot=None):
        torch.rand(1)
        return super().encode_state(state)


class Normalised(Fair):
    def encode_state(self, state, snapshot=None):
        encoding = super().encode_state(state)
        return encoding - encoding.mean(0)


class TrainMode(Fair, torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(4)

    def encode_state(self, state, snapshot=None):
        return self.norm(super().encode_state(state))


class Softmax(Fair):
    def score(self, encoding, item_id, snapshot=None):
        return super().score(encoding, item_id).log_softmax(dim=1)


class PlaceBias(Fair):
    def score(self, encoding, item_id, snapshot=None):
        return super().score(encoding, item_id) - torch.arange(item_id.shape[1])[:, None]


class FirstChunk(Fair):
    def score(self, encoding, item_id, snapshot=None):
        return super().score(encoding, item_id) - (item_id.shape[1] > 100) * 1.0


class InPlace(Fair):
    def encode_state(self, state, snapshot=None):
        state.history_feedback[:] = state.history_feedback & state.history_feedback.roll(1, 0)
        return super().encode_state(state)


class Renumbered(Fair):
    def score(self, encoding, item_id, snapshot=None):
        return super().score(encoding, item_id.add_(1) - 1)


class Consumed(Fair):
    def score(self, encoding, item_id, snapshot=None):
        return super().score(encoding.add_(0.5), item_id)


class Squeezed(Fair):
    def score(self, encoding, item_id, snapshot=None):
        return super().score(encoding, item_id).squeeze(1)


class SqueezedState(Fair):
    def score(self, encoding, item_id, snapshot=None):
        return super().score(encoding, item_id).squeeze(0)


class NoSnapshot(Fair):
    def encode_state(self, state):  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().encode_state(state)


class OneSnapshot(Fair):
    def score(self, encoding, item_id, snapshot=None):
        logits = super().score(encoding, item_id)
        return logits if snapshot is None else logits + (snapshot.shape[1] > 1) * 1.0


class Latest(Fair):
    """The latest event's feedback, which an empty history does not have."""

    def encode_state(self, state, snapshot=None):
        if not bool(state.history_mask[:, -1].all()):
            raise IndexError("index -1 is out of bounds")
        return super().encode_state(state)


class MeanOverNothing(Fair):
    def encode_state(self, state, snapshot=None):
        events = state.history_feedback.float().sum(1)
        return super().encode_state(state) + events / state.history_mask.sum(1)[:, None]


class CrowdedPadding(Fair):
    """Cuts histories to the shortest of the batch."""

    def encode_state(self, state, snapshot=None):
        shortest = int(state.history_mask.sum(1).min())
        latest = state.history_feedback[:, state.history_mask.shape[1] - max(shortest, 1) :]
        return super().encode_state(state) + latest.sum(1)


class MeanOverPadding(Fair):
    def encode_state(self, state, snapshot=None):
        return super().encode_state(state) + state.history_feedback.float().mean(1)


class AtStep0(Fair):
    def encode_state(self, state, snapshot=None):
        rate = 1.0 / state.step.float()
        return super().encode_state(state) + rate.where(state.step != 0, torch.nan)[:, None]


class SeenOnly(Fair):
    def score(self, encoding, item_id, snapshot=None):
        data = tiny.tiny_dataset()
        known = data.item_id(data.rows("train"))
        if not bool(torch.isin(item_id, known).all()):
            raise KeyError("an item has no embedding")
        return super().score(encoding, item_id)


CALLS = "the same input give other scores"
BROKEN = [
    (Transposed, r"score\(\) returns the wrong shape; got: \(30, 4, 12\); expected: \[B, K, H\]"),
    (Whole, r"no floating-point logits; got: torch.int64"),
    (Listed, r"score\(\) returns no tensor; got: list"),
    (Diverged, r"logits that are not finite; got: \d+ of 1440"),
    (Graph, r"returns a graph under no_grad"),
    (NeedsGradient, r"score\(\) fails; got: RuntimeError: .*does not require grad"),
    (Noisy, CALLS),
    (Drawing, r"scoring draws from torch's global generator"),
    (Normalised, r"a state's scores depend on the others of its batch; got: logits that differ"),
    (TrainMode, r"depend on the others of its batch; .*; it is in training mode: call .eval\(\)$"),
    (Softmax, r"a candidate's score depends on the others of its list"),
    (PlaceBias, r"a candidate's score depends on its place in the list"),
    (FirstChunk, r"depends on the number of candidates \(12 or 257\)"),
    (InPlace, r"scoring changes what it is given; got: \['history_feedback'\]"),
    (Renumbered, r"scoring changes what it is given; got: \['item_id'\]"),
    (Consumed, r"score\(\) changes the encoding: the same candidates score otherwise"),
    (Squeezed, r"wrong shape on 1 of 12 candidates; got: \(30, 4\)"),
    (SqueezedState, r"wrong shape on a batch of 1; got: \(12, 4\)"),
    (NoSnapshot, r"encode_state\(\) fails with snapshots, as training calls it; got: TypeError"),
    (OneSnapshot, r"snapshots \[B, 1\] and \[B, K\] of the same value give other scores"),
    (Latest, r"encode_state\(\) fails on an empty history; got: IndexError: index -1"),
    (MeanOverNothing, r"not finite on an empty history"),
    (CrowdedPadding, r"depend on the others of its batch"),
    (MeanOverPadding, r"padding on the left of a history changes the scores"),
    (SeenOnly, r"score\(\) fails on items that training never saw; got: KeyError: .*no embedding"),
]


@pytest.mark.parametrize(("kind", "message"), BROKEN)
def test_broken_promises_are_named(kind, message, dataset):
    with pytest.raises(SchemaError, match=message):
        require_ranker(kind(), tiny.tiny_catalogue(), dataset=dataset)


def test_the_first_step_is_tried_where_no_state_is_at_it():
    data = tiny.tiny_dataset()
    state = data.state(data.rows("test"))
    later = state[state.step > 2][:9]
    with pytest.raises(SchemaError, match=r"logits that are not finite at step 0"):
        require_ranker(AtStep0(), tiny.tiny_catalogue(), state=later)


def named(tasks: Any) -> Fair:
    ranker = Fair()
    ranker.tasks = tasks
    return ranker


@pytest.mark.parametrize(
    ("ranker", "message"),
    [
        (object(), r"not a ranker, it lacks; got: \['tasks', 'encode_state', 'score'\]"),
        (named(()), "a ranker without tasks"),
        (named(["watch_10s"]), r"tasks must be a tuple of names; got: \['watch_10s'\]"),
        (named(("watch_10s", "")), "tasks must be a tuple of names"),
        (named(("a", "b", "a", "c")), "tasks of the same name"),
        (
            named(("watch_10s", "long_view", "like", "share")),
            r"log does not have; got: \['share'\]",
        ),
    ],
)
def test_wrong_names_are_refused(ranker, message, dataset):
    with pytest.raises(SchemaError, match=message):
        require_ranker(ranker, tiny.tiny_catalogue(), dataset=dataset)


class Changed(Fair):
    """Logits times `scale` plus `shift`."""

    def __init__(self, scale: float, shift: float) -> None:
        self.scale, self.shift = scale, shift

    def score(self, encoding, item_id, snapshot=None):
        return self.scale * super().score(encoding, item_id) + self.shift


def test_inverted_probabilities_are_an_error(dataset):
    errors = found(Changed(-1.0, 0.0), Level.error, dataset=dataset)
    assert [e.split(";")[0] for e in errors] == [
        "error: probabilities of 'watch_10s' look inverted",
        "error: probabilities of 'hide' look inverted",
    ]


def test_a_bias_is_a_warning(dataset):
    warnings = found(Changed(1.0, 1.5), Level.warning, dataset=dataset)
    assert "probabilities of 'watch_10s' are not calibrated; got: an expected" in warnings[0]
    assert found(Changed(1.0, 1.5), Level.error, dataset=dataset) == []


class OneForUnseen(Fair):
    """An item without an embedding of its own gets the average one."""

    def score(self, encoding, item_id, snapshot=None):
        data = tiny.tiny_dataset()
        known = torch.isin(item_id, data.item_id(data.rows("train")))
        return super().score(encoding, item_id * known)


def test_one_score_for_all_unseen_items_is_a_warning(dataset):
    warnings = found(OneForUnseen(), Level.warning, dataset=dataset)
    assert "items that training never saw all score the same; got: one score a state" in warnings[0]
    assert not any("never saw" in w for w in found(Fair(), Level.warning, dataset=dataset))


def test_several_errors_are_all_found(dataset):
    class Both(PlaceBias, MeanOverPadding):
        pass

    errors = " ".join(found(Both(), Level.error, dataset=dataset))
    assert "its place in the list" in errors
    assert "padding on the left" in errors


def test_an_error_of_an_adapter_is_passed_on(dataset):
    class Refusing(Fair):
        def score(self, encoding, item_id, snapshot=None):
            raise SchemaError("no probability", got=1.5, expected="in [0, 1]", mend="use logits")

    (error,) = found(Refusing(), Level.error, dataset=dataset)
    assert error == (
        "error: score() fails: no probability; got: 1.5; expected: in [0, 1]; to mend: use logits"
    )


def test_one_state_is_not_enough():
    (error,) = found(Fair(), Level.error, state=tiny.tiny_dataset().state(torch.arange(1)))
    assert "too few states to check with; got: 1" in error


def test_the_standard_error_of_an_auc_is_that_of_a_simulation():
    generator = torch.Generator().manual_seed(0)
    positive = torch.randn(2000, 60, generator=generator) + 1.0
    negative = torch.randn(2000, 90, generator=generator)
    auc = (positive[:, :, None] > negative[:, None]).float().mean((1, 2))
    assert auc_standard_error(float(auc.mean()), 60, 90) == pytest.approx(float(auc.std()), rel=0.1)


def test_the_noise_of_the_calibration_error_is_that_of_a_simulation():
    generator = torch.Generator().manual_seed(0)
    probability = torch.rand(300, generator=generator).double().sort().values
    draws = (torch.rand(2000, 300, generator=generator) < probability).double()
    errors = (draws - probability).reshape(2000, 10, 30).mean(2).abs().mean(1)
    assert ece_noise(probability, 10) == pytest.approx(float(errors.mean()), rel=0.1)


HERE, ROUND = "hydra.run.dir=runs/here", Path("runs/here/round_0")
WORLD = (
    HERE,
    "world=fatigue",
    f"world.num_items={tiny.NUM_ITEMS}",
    f"world.horizon={tiny.HORIZON}",
    f"world.history_length={tiny.LENGTH}",
    f"ranker.history_length={tiny.LENGTH}",
)
EXTERNAL = (
    "allowed_targets=[tests.]",
    "ranker.external.kind=torch",
    "ranker.external.path=model",
    "ranker.external.factory=tests.contracts.rankers.FlatModel",
    "ranker.external.inputs=tests.contracts.rankers.inputs",
    "ranker.external.tasks=[watch_10s,hide]",
)


def test_the_command_without_a_ranker(command: Command):
    outcome = command("check-ranker", *WORLD)
    assert outcome.status == 2
    assert "error: no ranker to check; got: no ranker artifact in " in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_the_command_on_a_ranker_artifact(command: Command):
    rankers = [tiny.tiny_ranker(0), tiny.tiny_ranker(1)]
    save_rankers(ROUND / "ranker", rankers, tiny.tiny_catalogue(), Manifest(kind=""))
    outcome = command("check-ranker", *WORLD)
    assert outcome.status == 0, outcome.out + outcome.err
    lines = outcome.out.splitlines()
    assert "ranker, member 0 (SessionRanker), on states of the world" in lines[0]
    assert sum("member" in line for line in lines) == 2
    assert sum("no log, so probabilities were not checked" in line for line in lines) == 2


@pytest.mark.parametrize(("sign", "status"), [(1.0, 0), (-1.0, 2)])
def test_the_command_on_an_external_ranker(command: Command, sign: float, status: int):
    safetensors.torch.save_model(FlatModel(sign), "model")
    write_labelled(ROUND / "sessions")
    outcome = command("check-ranker", *WORLD, *EXTERNAL)
    assert outcome.status == status, outcome.out + outcome.err
    assert "torch model, on logged states" in outcome.out
    assert ("'watch_10s' look inverted" in outcome.out) == (status == 2)
    said = "error: the contract of a ranker is broken; got: 2 errors, 0 warnings; to mend: "
    assert outcome.err == ("" if status == 0 else said + "see the lines above\n")


def test_the_command_on_an_external_ranker_without_logs(command: Command):
    safetensors.torch.save_model(FlatModel(), "model")
    outcome = command("check-ranker", *WORLD, *EXTERNAL)
    assert outcome.status == 0, outcome.out + outcome.err
    assert "torch model, on states of the world" in outcome.out


def test_the_command_without_items(command: Command):
    nothing = (HERE, "data=kuairand", "data.root=raw", *EXTERNAL)
    outcome = command("check-ranker", *nothing)
    assert outcome.status == 2
    assert outcome.err.startswith("error: no items to check the ranker on")
