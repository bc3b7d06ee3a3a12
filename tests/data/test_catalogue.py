from __future__ import annotations

import pytest
import torch

from recomind.data import TableCatalogue, materialise
from recomind.data.catalogue import NAMES
from recomind.errors import ArtifactError, ConfigError, SchemaError
from recomind.types import Catalogue, ItemFeatures
from tests.data.conftest import small_catalogue


def test_features_take_any_shape_and_the_last_snapshot_by_default():
    catalogue = small_catalogue()
    ids = torch.tensor([[3, 1, 4], [1, 5, 9]])
    latest = catalogue.features(ids)
    assert torch.equal(latest.dense, catalogue.dense_DNF[2][ids])
    assert latest.categorical.shape == (2, 3, 1)
    dated = catalogue.features(ids, torch.tensor([[0, 1, 2], [2, 1, 0]]))
    assert torch.equal(dated.dense[0, 1], catalogue.dense_DNF[1, 1])
    assert torch.equal(dated.dense[1, 2], catalogue.dense_DNF[0, 9])
    assert isinstance(catalogue, Catalogue)


def test_what_is_saved_is_what_is_loaded(tmp_path):
    catalogue = small_catalogue()
    catalogue.save(tmp_path)
    loaded = TableCatalogue.load(tmp_path)
    assert torch.equal(loaded.dense_DNF, catalogue.dense_DNF)
    assert torch.equal(loaded.categorical_NC, catalogue.categorical_NC)
    assert loaded.dense_names == ("age", "rate")
    assert loaded.categorical_names == ("tag",)
    assert loaded.vocab_sizes == (4,)


def test_a_damaged_catalogue_is_refused(tmp_path):
    small_catalogue().save(tmp_path)
    (tmp_path / NAMES).write_text("{}")
    with pytest.raises(ArtifactError, match="unreadable catalogue"):
        TableCatalogue.load(tmp_path)


def table(dense, categorical, names=("age",)):
    return TableCatalogue(
        dense, categorical, dense_names=names, categorical_names=["tag"], vocab_sizes=[4]
    )


@pytest.mark.parametrize(
    ("dense", "categorical", "message"),
    [
        ([[[0.0], [float("nan")]]], [[0], [1]], "'age' is not finite; got: nan at item 1"),
        ([[[0.0], [float("inf")]]], [[0], [1]], "'age' is not finite"),
        ([[[0.0], [0.0]]], [[0], [4]], r"'tag' is outside its vocabulary; got: 4 at item 1"),
        ([[[0.0], [0.0]]], [[-1], [0]], r"'tag' is outside its vocabulary; got: -1 at item 0"),
        ([[[0.0], [0.0]]], [[0]], "do not fit together"),
        ([[[0.0, 1.0]]], [[0]], "do not fit together"),
    ],
)
def test_bad_tables_are_refused(dense, categorical, message):
    with pytest.raises(SchemaError, match=message):
        table(torch.tensor(dense), torch.tensor(categorical))


def test_a_catalogue_without_items_is_refused():
    with pytest.raises(SchemaError, match="without items"):
        table(torch.zeros(1, 0, 1), torch.zeros(0, 1, dtype=torch.int64))


@pytest.mark.parametrize(
    ("ids", "snapshot", "message"),
    [
        ([-1], None, "item id out of range; got: -1"),
        ([10], None, "item id"),
        ([0], [3], "snapshot"),
    ],
)
def test_ids_out_of_range_are_refused(ids, snapshot, message):
    when = None if snapshot is None else torch.tensor(snapshot)
    with pytest.raises(SchemaError, match=message):
        small_catalogue().features(torch.tensor(ids), when)


class Computed:
    """A catalogue that holds no table."""

    num_items, dense_names, categorical_names, vocab_sizes = 70_000, ("x",), ("parity",), (2,)

    def features(self, item_id, snapshot=None):
        return ItemFeatures(dense=item_id[..., None].float(), categorical=item_id[..., None] % 2)


def test_materialise_copies_every_item_and_refuses_too_many():
    copy = materialise(Computed(), max_items=70_000)
    assert torch.equal(copy.dense_DNF[0, :, 0], torch.arange(70_000).float())
    assert torch.equal(copy.categorical_NC[:, 0], torch.arange(70_000) % 2)
    with pytest.raises(ConfigError, match="70000 items"):
        materialise(Computed(), max_items=69_999)
