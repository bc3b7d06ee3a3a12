"""A catalogue held as tables in memory.

Symbols: `D` dated snapshots, `N` items, `F` dense features, `C` categorical features.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from recomind.artifacts import load_tensors, read_json, reading, save_tensors, write_json
from recomind.data.item_ids import check_range
from recomind.errors import ConfigError, SchemaError
from recomind.types import Catalogue, ItemFeatures

TENSORS, NAMES = "catalogue.safetensors", "catalogue.json"
_CHUNK = 65_536


class StoredCatalogue(Catalogue, Protocol):
    """A catalogue that an artifact can carry: `load_catalogue` reads what `save` wrote."""

    num_snapshots: int

    def save(self, folder: Path) -> None:
        """Write what brings it back into `folder`, which must exist."""
        ...


class TableCatalogue:
    """Items known by content, one row each; implements `recomind.types.Catalogue`.

    Args:
        dense: [D, N, F] float32, standardised; snapshot `d` is what was known as of day `d`.
        categorical: [N, C] int64, each in [0, vocab_sizes[c]).
        dense_names: F names.
        categorical_names: C names.
        vocab_sizes: C sizes.

    Raises:
        SchemaError: shapes that disagree, a value that is not finite, or a categorical value
            outside its vocabulary.

    >>> table = TableCatalogue(torch.zeros(1, 3, 2), torch.tensor([[0], [1], [1]]),
    ...                        dense_names=("age", "length"), categorical_names=("tag",),
    ...                        vocab_sizes=(2,))
    >>> table.features(torch.tensor([2, 0])).categorical.tolist()
    [[1], [0]]
    """

    def __init__(
        self,
        dense: Tensor,
        categorical: Tensor,
        *,
        dense_names: Sequence[str],
        categorical_names: Sequence[str],
        vocab_sizes: Sequence[int],
    ) -> None:
        self.dense_DNF, self.categorical_NC = dense.to(torch.float32), categorical.to(torch.int64)
        self.dense_names = tuple(dense_names)
        self.categorical_names = tuple(categorical_names)
        self.vocab_sizes = tuple(int(size) for size in vocab_sizes)
        self._check_shapes()
        self._check_values()
        self.num_snapshots, self.num_items = int(dense.shape[0]), int(dense.shape[1])

    def _check_shapes(self) -> None:
        dense, categorical = tuple(self.dense_DNF.shape), tuple(self.categorical_NC.shape)
        names = (len(self.dense_names), len(self.categorical_names), len(self.vocab_sizes))
        agree = len(dense) == 3 and len(categorical) == 2 and dense[1] == categorical[0]
        if not agree or names != (dense[2], categorical[1], categorical[1]):
            raise SchemaError(
                "catalogue tables do not fit together",
                got=f"dense {dense}, categorical {categorical}, names and sizes {names}",
                expected="dense [D, N, F], categorical [N, C], F names, C names, C sizes",
            )
        if dense[0] == 0 or dense[1] == 0:
            raise SchemaError("catalogue without items or snapshots", got=f"dense {dense}")

    def _check_values(self) -> None:
        bad = (~torch.isfinite(self.dense_DNF)).nonzero()
        if len(bad):
            snapshot, item, feature = bad[0].tolist()
            raise SchemaError(
                f"catalogue feature {self.dense_names[feature]!r} is not finite",
                got=f"{self.dense_DNF[snapshot, item, feature].item()} at item {item}, "
                f"snapshot {snapshot} ({len(bad)} such values)",
            )
        sizes = torch.tensor(self.vocab_sizes, dtype=torch.int64)
        bad = ((self.categorical_NC < 0) | (self.categorical_NC >= sizes)).nonzero()
        if len(bad):
            item, feature = bad[0].tolist()
            raise SchemaError(
                f"catalogue feature {self.categorical_names[feature]!r} is outside its vocabulary",
                got=f"{self.categorical_NC[item, feature].item()} at item {item}",
                expected=f"in [0, {self.vocab_sizes[feature]})",
            )

    def features(self, item_id: Tensor, snapshot: Tensor | None = None) -> ItemFeatures:
        """Content of `item_id` [...] as of `snapshot` [...] (the last one where None).

        Raises:
            SchemaError: an id outside [0, N) or a snapshot outside [0, D).
        """
        check_range(item_id, self.num_items, "item id")
        if snapshot is None:
            # Rows of 1e7 items by `embedding`: a quarter of the time that indexing takes.
            dense = torch.nn.functional.embedding(item_id, self.dense_DNF[-1])
        else:
            check_range(snapshot, self.num_snapshots, "snapshot")
            dense = self.dense_DNF[snapshot, item_id]
        categorical = torch.nn.functional.embedding(item_id, self.categorical_NC)
        return ItemFeatures(dense=dense, categorical=categorical)

    def save(self, folder: Path) -> None:
        """Write `catalogue.safetensors` and `catalogue.json` into `folder`, which must exist."""
        tensors = {"dense": self.dense_DNF, "categorical": self.categorical_NC}
        save_tensors(Path(folder) / TENSORS, tensors)
        names = {
            "dense_names": self.dense_names,
            "categorical_names": self.categorical_names,
            "vocab_sizes": self.vocab_sizes,
        }
        write_json(Path(folder) / NAMES, names)

    @classmethod
    def load(cls, folder: Path) -> TableCatalogue:
        """Read what `save` wrote.

        Raises:
            ArtifactError: a file is absent or cannot be read.
        """
        names = read_json(Path(folder) / NAMES, "catalogue")
        tensors = load_tensors(Path(folder) / TENSORS)
        with reading("catalogue", folder):
            return cls(tensors["dense"], tensors["categorical"], **names)


def materialise(catalogue: Catalogue, max_items: int) -> TableCatalogue:
    """Copy the latest content of any catalogue into a table with one snapshot.

    Raises:
        ConfigError: the catalogue holds more than `max_items` items.
    """
    if catalogue.num_items > max_items:
        raise ConfigError(
            "catalogue too large to be copied into a table",
            got=f"{catalogue.num_items} items",
            expected=f"<= {max_items}",
        )
    parts = [catalogue.features(ids) for ids in torch.arange(catalogue.num_items).split(_CHUNK)]
    return TableCatalogue(
        torch.cat([part.dense for part in parts])[None],
        torch.cat([part.categorical for part in parts]),
        dense_names=catalogue.dense_names,
        categorical_names=catalogue.categorical_names,
        vocab_sizes=catalogue.vocab_sizes,
    )
