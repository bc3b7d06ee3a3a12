"""A TorchRec DLRM, trained a little here, with a five-line inputs function."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from torch import nn
from torchrec.models.dlrm import DLRM
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection

from recomind.adapters.dlrm import dlrm_inputs
from recomind.errors import SchemaError
from recomind.ranker import load_external
from recomind.ranker.config import ExternalConfig, ExternalKind, OutputKind
from tests.adapters.models import NUM_ITEMS, answers, auc, catalogue, rows, train


def make_dlrm() -> nn.Module:
    tables = [("item_table", NUM_ITEMS, ["item", "history"]), ("tag_table", 4, ["tag"])]
    bags = EmbeddingBagCollection(
        tables=[
            EmbeddingBagConfig(
                name=name, num_embeddings=num, embedding_dim=4, feature_names=features
            )
            for name, num, features in tables
        ]
    )
    return DLRM(
        embedding_bag_collection=bags,
        dense_in_features=5,
        dense_arch_layer_sizes=[8, 4],
        over_arch_layer_sizes=[8, 2],
    )


def inputs(batch):
    state = batch.state
    tag, history = batch.items.categorical[:, 0], (state.history_item_id, state.history_mask)
    return dlrm_inputs(
        dense=[state.user_features, batch.items.dense],
        sparse={"item": batch.item_id, "history": history, "tag": tag},
    )


def inputs_without_tag(batch):
    return dlrm_inputs(dense=[batch.state.user_features], sparse={"item": batch.item_id})


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return train(make_dlrm(), inputs).eval()


@pytest.fixture(scope="module")
def config(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("dlrm") / "dlrm.safetensors"
    safetensors.torch.save_model(model, str(path))
    return {
        "kind": ExternalKind.torch,
        "path": str(path),
        "factory": f"{__name__}.make_dlrm",
        "inputs": f"{__name__}.inputs",
        "tasks": ["watch_10s", "like"],
        "output": OutputKind.logits,
    }


def ask(config, batch, **changes):
    ranker = load_external(ExternalConfig(**config | changes), catalogue())
    return ranker.score(ranker.encode_state(batch.state), batch.item_id[:, None])[:, 0]


@pytest.mark.parametrize("chunk_rows", [7, 65_536])
def test_it_answers_as_the_dlrm(model, config, chunk_rows):
    batch = rows(30, seed=4)
    expected = model(*inputs(batch)).detach()
    torch.testing.assert_close(ask(config, batch, chunk_rows=chunk_rows), expected)


def test_it_knows_what_it_learned(config):
    batch = rows(1000, seed=5)
    assert auc(ask(config, batch)[:, 0], answers(batch, 6)[:, 0]) > 0.7


def test_a_history_is_a_bag_of_its_items():
    batch = rows(30)
    _, ids = inputs(batch)
    for row, bag in enumerate(ids["history"].to_dense()):
        state = batch.state[row]
        assert torch.equal(bag, state.history_item_id[state.history_mask])
    assert torch.equal(ids["item"].values(), batch.item_id)
    assert len(ids["history"].to_dense()[0]) == 0


def test_a_feature_of_the_model_that_is_not_given(config):
    with pytest.raises(SchemaError, match=r"torch ranker dlrm\.safetensors failed on"):
        ask(config, rows(3), inputs=f"{__name__}.inputs_without_tag")


@pytest.mark.parametrize(
    ("dense", "sparse"),
    [
        ([], {"item": torch.arange(3)}),
        ([torch.zeros(3)], {}),
        ([torch.zeros(3), torch.zeros(2, 4)], {"item": torch.arange(3)}),
        ([torch.zeros(3)], {"item": torch.arange(2)}),
    ],
)
def test_features_that_do_not_fit_together(dense, sparse):
    with pytest.raises(SchemaError, match="inputs of a DLRM do not fit together; got"):
        dlrm_inputs(dense=dense, sparse=sparse)
