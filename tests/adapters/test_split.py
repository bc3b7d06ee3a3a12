"""A split module: its state part runs once, and its answers are those of flat rows."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch

from recomind.adapters import SplitModule
from recomind.errors import SchemaError
from recomind.ranker import load_external
from recomind.ranker.config import ExternalConfig, ExternalKind, OutputKind
from tests.adapters.models import (
    HERE,
    Halves,
    answers,
    auc,
    candidates,
    catalogue,
    rows,
    states,
    train,
    whole,
)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = train(Halves(), whole)
    path = tmp_path_factory.mktemp("halves") / "halves.safetensors"
    safetensors.torch.save_model(model, str(path))
    return {
        "kind": ExternalKind.torch,
        "path": str(path),
        "factory": f"{HERE}.make_halves",
        "tasks": ["watch_10s", "like"],
        "output": OutputKind.logits,
    }


def load(config, **changes):
    return load_external(ExternalConfig(**config | changes), catalogue())


@pytest.mark.parametrize("chunk_rows", [1, 12, 65_536])
@pytest.mark.parametrize("dated", [False, True])
def test_equals_flat_scoring(config, chunk_rows, dated):
    split = load(config, chunk_rows=chunk_rows)
    flat = load(config, inputs=f"{HERE}.whole")
    state, item_id = states(6), candidates(6, 7)
    snapshot = torch.arange(6) % 2 if dated else None
    dated_BK = None if snapshot is None else snapshot[:, None]
    torch.testing.assert_close(
        split.score(split.encode_state(state, snapshot), item_id, dated_BK),
        flat.score(flat.encode_state(state, snapshot), item_id, dated_BK),
    )


def test_the_state_half_runs_once_a_state(config):
    split, flat = load(config, chunk_rows=8), load(config, inputs=f"{HERE}.whole")
    state, item_id = states(6), candidates(6, 7)
    split.score(split.encode_state(state), item_id)
    flat.score(flat.encode_state(state), item_id)
    assert isinstance(split._scorer, SplitModule)
    assert split._scorer.module.num_states == 6
    assert "encodes the state once" in split.cost
    assert "K forward passes" in flat.cost


def test_it_knows_what_it_learned(config):
    ranker, batch = load(config), rows(1000, seed=5)
    logits = ranker.score(ranker.encode_state(batch.state), batch.item_id[:, None])[:, 0]
    assert auc(logits[:, 0], answers(batch, 6)[:, 0]) > 0.75


def test_no_candidates(config):
    ranker = load(config)
    encoding = ranker.encode_state(states(2))
    assert ranker.score(encoding, torch.zeros(2, 0, dtype=torch.int64)).shape == (2, 0, 2)


def test_a_wrong_number_of_tasks(config):
    ranker = load(config, tasks=["like"])
    with pytest.raises(SchemaError, match=r"got: \[3, 2, 2\]; expected: floats \[3, 2, 1\]"):
        ranker.score(ranker.encode_state(states(3)), candidates(3, 2))
