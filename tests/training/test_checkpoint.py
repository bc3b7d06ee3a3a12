import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recomind.errors import ArtifactError
from recomind.training.checkpoint import (
    flatten,
    keep_newest,
    load_checkpoint,
    load_newest,
    save_checkpoint,
    unflatten,
)

leaves = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(max_size=3))
keys = st.one_of(st.integers(0, 5), st.text(max_size=3))
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(keys, inner, max_size=3),
    ),
    max_leaves=8,
)


@given(trees)
@settings(max_examples=60, deadline=None)
def test_trees_come_back_through_json(tree):
    tensors: dict = {}
    assert unflatten(json.loads(json.dumps(flatten(tree, tensors))), tensors) == tree


def state(value: float) -> dict:
    return {
        "weights": np.full((2, 3), value, dtype=np.float32),
        "optimizer": {0: {"step": torch.tensor(4.0)}, "betas": (0.9, 0.999)},
        "replays": [{"valid": np.array([True, False])}],
        "num_updates": 3,
    }


def test_a_checkpoint_comes_back(tmp_path):
    path = save_checkpoint(tmp_path, 12, state(0.5), {"gamma": 0.9}, seed=4)
    manifest, got = load_checkpoint(path)
    assert (manifest.extra["iteration"], manifest.seed) == (12, 4)
    assert got["weights"].dtype == np.float32
    assert np.array_equal(got["weights"], np.full((2, 3), 0.5))
    assert got["optimizer"][0]["step"] == 4.0
    assert got["optimizer"]["betas"] == (0.9, 0.999)
    assert got["replays"][0]["valid"].tolist() == [True, False]
    assert sorted(p.name for p in path.iterdir()) == [
        "manifest.json",
        "tensors.safetensors",
        "tree.json",
    ]


def test_the_newest_whole_one_is_found(tmp_path, caplog):
    assert load_newest(tmp_path / "none") is None
    for iteration in (2, 10, 9):
        save_checkpoint(tmp_path, iteration, state(iteration), {}, seed=0)
    (tmp_path / "iteration-00000011").mkdir()  # half a checkpoint
    damaged = tmp_path / "iteration-00000010" / "tensors.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    found = load_newest(tmp_path)
    assert found is not None
    assert float(found[1]["weights"][0, 0]) == 9.0
    assert caplog.text.count("skipping a checkpoint") == 2
    with pytest.raises(ArtifactError, match="damaged"):
        load_checkpoint(tmp_path / "iteration-00000010")


def test_only_the_newest_are_kept(tmp_path):
    for iteration in range(4):
        save_checkpoint(tmp_path, iteration, state(0.0), {}, seed=0)
    keep_newest(tmp_path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "iteration-00000002",
        "iteration-00000003",
    ]
