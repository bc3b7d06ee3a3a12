"""A plain module of flat rows, from safetensors; and what is refused."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from torch import nn

from recomind.adapters import RowBatch
from recomind.errors import ArtifactError, ConfigError, SchemaError
from recomind.ranker import load_external
from recomind.ranker.config import ExternalConfig, ExternalKind, OutputKind
from tests.adapters.models import (
    HERE,
    Flat,
    answers,
    auc,
    candidates,
    catalogue,
    crossed,
    rows,
    states,
    train,
)


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return train(Flat(), crossed).eval()


@pytest.fixture(scope="module")
def config(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("flat") / "weights.safetensors"
    safetensors.torch.save_model(model, str(path))
    return {
        "kind": ExternalKind.torch,
        "path": str(path),
        "factory": f"{HERE}.make_flat",
        "inputs": f"{HERE}.crossed",
        "tasks": ["watch_10s", "like"],
        "output": OutputKind.logits,
    }


def naive(model, state, item_id, snapshot=None):
    """Row by row, as the owner of the model would score."""
    table, logits = catalogue(), torch.zeros(*item_id.shape, 2)
    for b, k in torch.cartesian_prod(*(torch.arange(n) for n in item_id.shape)).tolist():
        dated = None if snapshot is None else snapshot[b : b + 1]
        item = item_id[b, k : k + 1]
        row = RowBatch(
            state=state[b : b + 1],
            catalogue=table,
            snapshot=dated,
            item_id=item,
            items=table.features(item, dated),
        )
        logits[b, k] = model(crossed(row))[0]
    return logits.detach()


@pytest.mark.parametrize("chunk_rows", [1, 5, 12, 65_536])
def test_it_answers_as_its_owner_would(model, config, chunk_rows):
    ranker = load_external(ExternalConfig(**config, chunk_rows=chunk_rows), catalogue())
    state, item_id = states(4), candidates(4, 3)
    logits = ranker.score(ranker.encode_state(state), item_id)
    torch.testing.assert_close(logits, naive(model, state, item_id))
    assert not logits.requires_grad


def test_dated_content_reaches_candidates_and_history(model, config):
    ranker = load_external(ExternalConfig(**config), catalogue())
    state, item_id, snapshot = states(4), candidates(4, 3), torch.tensor([0, 1, 0, 1])
    dated = ranker.score(ranker.encode_state(state, snapshot), item_id, snapshot[:, None])
    torch.testing.assert_close(dated, naive(model, state, item_id, snapshot))
    assert not torch.allclose(dated, naive(model, state, item_id))


def test_it_knows_what_it_learned(config):
    ranker, batch = load_external(ExternalConfig(**config), catalogue()), rows(1000, seed=5)
    logits = ranker.score(ranker.encode_state(batch.state), batch.item_id[:, None])[:, 0]
    assert auc(logits[:, 0], answers(batch, 6)[:, 0]) > 0.75


def test_it_says_what_it_costs(config):
    ranker = load_external(ExternalConfig(**config), catalogue())
    assert "K candidates costs K forward passes" in ranker.cost


def test_no_candidates(config):
    ranker = load_external(ExternalConfig(**config), catalogue())
    encoding = ranker.encode_state(states(2))
    assert ranker.score(encoding, torch.zeros(2, 0, dtype=torch.int64)).shape == (2, 0, 2)


def test_loading_leaves_the_global_generator_alone(config):
    before = torch.get_rng_state()
    load_external(ExternalConfig(**config), catalogue())
    assert torch.equal(torch.get_rng_state(), before)


class Tied(nn.Module):
    """Two names for one tensor, which safetensors writes once."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8, bias=False)
        self.second = nn.Linear(8, 8, bias=False)
        self.second.weight = self.first.weight

    def forward(self, features):
        return self.second(self.first(features))[:, :2]


def make_tied():
    return Tied()


def test_tied_weights(config, tmp_path):
    tied = Tied()
    safetensors.torch.save_model(tied, str(tmp_path / "tied.safetensors"))
    changed = {
        "path": str(tmp_path / "tied.safetensors"),
        "factory": "tests.adapters.test_torch_module.make_tied",
    }
    ranker = load_external(ExternalConfig(**config | changed), catalogue())
    batch = rows(6)
    logits = ranker.score(ranker.encode_state(batch.state), batch.item_id[:, None])[:, 0]
    torch.testing.assert_close(logits, tied(crossed(batch)).detach())


def one_column_too_many(batch):
    return torch.cat([crossed(batch), crossed(batch)[:, :1]], dim=1)


def with_a_nan(batch):
    features = crossed(batch)
    features[2, 0] = torch.nan
    return features


def ask(config):
    ranker = load_external(config, catalogue())
    return ranker.score(ranker.encode_state(states(2)), candidates(2, 2))


ELSEWHERE = "tests.adapters.test_torch_module"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"path": "absent.safetensors"},
            ConfigError,
            "external.path does not exist; got: .*absent",
        ),
        ({"path": "/"}, ConfigError, "external.path; got: /; expected: a file"),
        ({"path": __file__}, ArtifactError, "holds no safetensors.*save_model"),
        ({"factory": "os.getcwd"}, ConfigError, "external.factory is outside the allowed"),
        ({"factory": f"{HERE}.absent"}, ConfigError, "external.factory cannot be imported"),
        ({"factory": f"{HERE}.make_number"}, ConfigError, "builds no module; got: .*gives int"),
        ({"factory": f"{HERE}.make_halves"}, ArtifactError, "weights do not fit the module"),
        ({"factory": ""}, ConfigError, "external.factory is not given"),
        ({"inputs": ""}, ConfigError, "external.inputs is not given.*from RowBatch"),
        ({"inputs": f"{HERE}.not_a_function"}, ConfigError, "inputs is no function; got: Thing"),
        (
            {"inputs": f"{ELSEWHERE}.one_column_too_many"},
            SchemaError,
            r"torch ranker weights.safetensors failed on what .*inputs returned; got: RuntimeError",
        ),
        (
            {"inputs": f"{ELSEWHERE}.with_a_nan"},
            SchemaError,
            "torch ranker weights.safetensors returned a value that is not finite; "
            r"got: nan for task 'watch_10s' in row 2 \(2 of 8 values\)",
        ),
        (
            {"tasks": ["watch_10s"]},
            SchemaError,
            r"another shape or type; got: \[4, 2\]; expected: floats \[4, 1\].*\['watch_10s'\]",
        ),
        ({"tasks": ["watch_10s", "like", "hide"]}, SchemaError, r"expected: floats \[4, 3\]"),
        ({"tasks": ["like", "like"]}, ConfigError, "names a task twice"),
        ({"tasks": []}, ConfigError, "external.tasks is not given"),
        (
            {"output": OutputKind.probabilities},
            SchemaError,
            r"value that is no probability; got: .* for task .*in \[0, 1\].*output=logits",
        ),
        ({"kind": ExternalKind.none}, ConfigError, "no external ranker"),
        ({"kind": ExternalKind.onnx}, ArtifactError, "no ONNX model"),
        ({"kind": ExternalKind.torchscript}, ArtifactError, "holds no TorchScript"),
        ({"kind": ExternalKind.lightgbm, "tasks": ["like"]}, ArtifactError, "not a LightGBM model"),
    ],
)
def test_what_is_refused(config, changes, error, message):
    with pytest.raises(error, match=message) as refused:
        ask(ExternalConfig(**config | changes))
    assert refused.type is error
