"""A model of flat rows, asked about `B` states times `K` candidates.

It needs one function from the user, `(RowBatch) -> inputs of the model`, and costs a forward pass
for every candidate: the state is read K times, since the inputs do not say where it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recomind.adapters.batches import RowBatch, StateBatch
from recomind.adapters.config import ExternalConfig
from recomind.adapters.output import checked_logits
from recomind.errors import RecomindError, SchemaError
from recomind.types import Catalogue


class FlatRows:
    """Scores rows in chunks of `config.chunk_rows`.

    Args:
        model: inputs of R rows -> [R, H].
        inputs: the user's function from a `RowBatch` to what `model` takes.
        config: tasks, kind of output and size of a chunk.
        name: of the model, for errors.
    """

    def __init__(
        self,
        model: Callable[[Any], Any],
        inputs: Callable[[RowBatch], Any],
        config: ExternalConfig,
        name: str,
    ) -> None:
        self.model, self.inputs, self.config, self.name = model, inputs, config, name
        self.cost = (
            f"{name} scores flat rows: a decision among K candidates costs K forward passes "
            f"(in chunks of {config.chunk_rows} rows)"
        )

    def encode(self, batch: StateBatch) -> StateBatch:
        """The states themselves: nothing can be computed ahead."""
        return batch

    def score(
        self, encoding: StateBatch, item_id: Tensor, catalogue: Catalogue, snapshot: Tensor | None
    ) -> Tensor:
        """Logits [B, K, H] before calibration of `item_id` [B, K]; `snapshot` is [B, K]."""
        parts = [
            self._chunk(encoding, item_id, catalogue, snapshot, index)
            for index in torch.arange(item_id.numel()).split(self.config.chunk_rows)
            if len(index)
        ]
        if not parts:
            return torch.zeros(*item_id.shape, len(self.config.tasks))
        return torch.cat(parts).reshape(*item_id.shape, -1)

    def _chunk(
        self,
        encoding: StateBatch,
        item_id: Tensor,
        catalogue: Catalogue,
        snapshot: Tensor | None,
        index_R: Tensor,
    ) -> Tensor:
        """Logits [R, H] of the flat rows `index_R` of [B, K]."""
        state_R, item_R = index_R // item_id.shape[1], item_id.flatten()[index_R]
        item_snapshot_R = None if snapshot is None else snapshot.flatten()[index_R]
        rows = RowBatch(
            state=encoding.state[state_R],
            catalogue=catalogue,
            snapshot=None if encoding.snapshot is None else encoding.snapshot[state_R],
            item_id=item_R,
            items=catalogue.features(item_R, item_snapshot_R),
        )
        output = call(self.model, self.inputs(rows), self.name)
        return checked_logits(output, (len(index_R),), self.config, self.name)


def call(model: Callable[[Any], Any], inputs: Any, name: str) -> Any:
    """`model(inputs)`, whose failure is reported as that of the model on these inputs.

    Raises:
        SchemaError: the model does not take them.
    """
    try:
        return model(inputs)
    except RecomindError:
        raise
    except Exception as error:
        raise SchemaError(
            f"{name} failed on what ranker.external.inputs returned",
            got=f"{type(error).__name__}: {error}",
            expected="what the model was trained on: names, shapes, types and ranges",
        ) from error
