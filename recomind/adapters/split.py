"""A split module: `encode(StateBatch)` once, then `score(encoding, item_id, items)`.

This is the cheap way to bring your own model: the history is read once, however many candidates
there are. `score` takes ids [B, K] and their content (`ItemFeatures` [B, K, ...]) and
returns [B, K, H].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recomind.adapters.batches import StateBatch
from recomind.adapters.config import ExternalConfig
from recomind.adapters.flat_rows import call
from recomind.adapters.output import checked_logits
from recomind.types import Catalogue


def is_split(module: object) -> bool:
    """Whether `module` has both methods."""
    return all(callable(getattr(module, name, None)) for name in ("encode", "score"))


class SplitModule:
    """Asks a module with `encode` and `score`.

    Args:
        module: the model, frozen.
        config: tasks, kind of output and size of a chunk.
        name: of the model, for errors.
    """

    def __init__(self, module: nn.Module, config: ExternalConfig, name: str) -> None:
        self.module, self.config, self.name = module, config, name
        self.cost = f"{name} encodes the state once for a decision, whatever K is"

    def encode(self, batch: StateBatch) -> Any:
        """The module's own encoding of the states."""
        return self.module.encode(batch)  # pyright: ignore[reportCallIssue]

    def score(
        self, encoding: Any, item_id: Tensor, catalogue: Catalogue, snapshot: Tensor | None
    ) -> Tensor:
        """Logits [B, K, H] before calibration of `item_id` [B, K]; `snapshot` is [B, K]."""
        # An encoding is the module's own and cannot be cut by states, so chunks cut K.
        width = max(1, self.config.chunk_rows // max(1, len(item_id)))
        snapshots = [None] * item_id.shape[1] if snapshot is None else snapshot.split(width, dim=1)
        parts = [
            self._chunk(encoding, ids, catalogue, dated)
            for ids, dated in zip(item_id.split(width, dim=1), snapshots, strict=False)
            if ids.numel()
        ]
        if not parts:
            return torch.zeros(*item_id.shape, len(self.config.tasks))
        return torch.cat(parts, dim=1)

    def _chunk(
        self, encoding: Any, item_id: Tensor, catalogue: Catalogue, snapshot: Tensor | None
    ) -> Tensor:
        items = catalogue.features(item_id, snapshot)

        def score(arguments: tuple[Any, ...]) -> Any:
            return self.module.score(*arguments)  # pyright: ignore[reportCallIssue]

        output = call(score, (encoding, item_id, items), self.name)
        batch, num = item_id.shape
        return checked_logits(output, (batch, num), self.config, self.name)
