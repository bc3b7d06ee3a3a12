"""A model that exists already, in place of the ranker.

`ExternalRanker` puts a frozen model behind the `Ranker` Protocol for the tasks that it has;
`CompletedRanker` takes the log's other tasks from a ranker of ours. Only the
calibration, fitted on the calibration split, belongs to this project: the model stays a file.

Symbols: `B` states, `K` candidates, `H` tasks.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recomind.adapters import (
    ExternalConfig,
    Scorer,
    StateBatch,
    copy_model,
    load_scorer,
    model_path,
    require_settings,
    require_tasks,
)
from recomind.ranker.calibration import Calibration
from recomind.ranker.config_json import config_to_json
from recomind.ranker.encodings import StateEncoding
from recomind.ranker.model import SessionRanker
from recomind.types import Catalogue, SessionState


class ExternalRanker(nn.Module):
    """A frozen model of the response; implements `recomind.types.Ranker` for its own tasks.

    Copies share the model, which never changes, and have a calibration of their own. Training
    mode and gradients do not reach the model.

    Args:
        scorer: how the model is asked.
        config: with the path of the model where it lies now.
        catalogue: the items.
    """

    def __init__(self, scorer: Scorer, config: ExternalConfig, catalogue: Catalogue) -> None:
        super().__init__()
        self.config, self.catalogue = config, catalogue
        self.tasks = tuple(config.tasks)
        self.calibration = Calibration(len(self.tasks))
        self._scorer = scorer  # not a module: its weights are not this artifact's tensors
        self.eval()

    @property
    def cost(self) -> str:
        """What a decision costs, in words."""
        return self._scorer.cost

    @property
    def model_path(self) -> Path:
        """Where the model lies now."""
        return Path(self.config.path)

    @contextmanager
    def asking(self, scorer: Scorer) -> Iterator[None]:
        """Ask another form of the same model for a while, such as one that can be traced."""
        kept, self._scorer = self._scorer, scorer
        try:
            yield
        finally:
            self._scorer = kept

    def train(self, mode: bool = True) -> ExternalRanker:
        """Stay in evaluation mode, whatever is asked."""
        del mode
        return super().train(False)

    def __deepcopy__(self, memo: dict[int, Any]) -> ExternalRanker:
        del memo  # the model is shared, and copy.deepcopy keeps the book itself
        twin = ExternalRanker(self._scorer, self.config, self.catalogue)
        twin.calibration.load_state_dict(self.calibration.state_dict())
        return twin

    def precompute_items(self) -> ExternalRanker:
        """Nothing: the model has no items of ours."""
        return self.eval()

    def artifact_recipe(self, staging: Path) -> dict[str, Any]:
        """What rebuilds it; the model is copied into `staging`."""
        config = copy_model(self.config, staging)
        return {"kind": "external", "config": config_to_json(config)}

    @torch.no_grad()
    def encode_state(self, state: SessionState, snapshot: Tensor | None = None) -> Any:
        """What scoring needs of `state` [B], with catalogue content as of `snapshot` [B]."""
        batch = StateBatch(state=state, catalogue=self.catalogue, snapshot=snapshot)
        return self._scorer.encode(batch)

    @torch.no_grad()
    def score(self, encoding: Any, item_id: Tensor, snapshot: Tensor | None = None) -> Tensor:
        """Calibrated logits [B, K, H] of `item_id` [B, K]; `snapshot` is [B, 1] or [B, K].

        Raises:
            SchemaError: the model fails on its inputs, or its answer is not valid.
        """
        if snapshot is not None:
            snapshot = snapshot.expand_as(item_id)
        return self.calibration(self._scorer.score(encoding, item_id, self.catalogue, snapshot))


@dataclass(slots=True)
class CompletedEncoding:
    """What scoring needs of `B` states."""

    external: Any  # the external ranker's encoding
    own: StateEncoding | None  # ours; None where the external ranker has every task


class CompletedRanker(nn.Module):
    """An external ranker for the tasks it has, ours for the others.

    Args:
        external: for some or all of the tasks of `own`.
        own: for all tasks, in the order that is kept.

    Raises:
        ConfigError: `external` has a task that `own` does not have.
    """

    def __init__(self, external: ExternalRanker, own: SessionRanker) -> None:
        super().__init__()
        require_tasks(external.config, own.tasks)
        self.external, self.own, self.tasks = external, own, own.tasks
        # Column h is column _source[h] of the external tasks followed by our own.
        columns = [*external.tasks, *own.tasks]
        self._source = [columns.index(task) for task in own.tasks]
        self._complete = set(external.tasks) == set(own.tasks)
        self.train(own.training)

    @property
    def catalogue(self) -> Catalogue:
        """The items; setting it sets it for both rankers."""
        return self.own.catalogue

    @catalogue.setter
    def catalogue(self, catalogue: Catalogue) -> None:
        self.own.catalogue = self.external.catalogue = catalogue

    @property
    def cost(self) -> str:
        """What a decision costs, in words."""
        return self.external.cost

    @property
    def own_ranker(self) -> SessionRanker:
        """The ranker of ours, for the tasks that the external one does not have."""
        return self.own

    def own_encoding(self, encoding: CompletedEncoding) -> StateEncoding | None:
        """Its part of an encoding; None where the external ranker has every task."""
        return encoding.own

    def frozen_copy(self) -> CompletedRanker:
        """A copy of our own part beside the same external model; neither learns."""
        copied = CompletedRanker(copy.deepcopy(self.external), self.own.copied())
        return copied.eval().requires_grad_(False)

    def artifact_recipe(self, staging: Path) -> dict[str, Any]:
        """What rebuilds both."""
        external, own = (part.artifact_recipe(staging) for part in (self.external, self.own))
        return {"kind": "completed", "external": external, "own": own}

    def precompute_items(self) -> CompletedRanker:
        """Compute the item vectors of our own ranker once; then eval."""
        self.own.precompute_items()
        return self.eval()

    def encode_state(
        self, state: SessionState, snapshot: Tensor | None = None
    ) -> CompletedEncoding:
        """Everything of `state` [B] that scoring needs; `snapshot` is [B]."""
        own = None if self._complete else self.own.encode_state(state, snapshot)
        return CompletedEncoding(self.external.encode_state(state, snapshot), own)

    def score(self, encoding: Any, item_id: Tensor, snapshot: Tensor | None = None) -> Tensor:
        """Calibrated logits [B, K, H] of `item_id` [B, K]; `snapshot` is [B, 1] or [B, K]."""
        logits = self.external.score(encoding.external, item_id, snapshot)
        return self.completed(logits, encoding.own, item_id, snapshot)

    def completed(
        self,
        theirs_BKh: Tensor,
        own: StateEncoding | None,
        item_id: Tensor,
        snapshot: Tensor | None = None,
    ) -> Tensor:
        """Logits [B, K, H] in the order of the tasks, of which the external ones are given."""
        if not self._complete:
            theirs_BKh = torch.cat([theirs_BKh, self.own.score(own, item_id, snapshot)], dim=-1)
        return theirs_BKh[..., self._source]


def load_external(
    config: ExternalConfig, catalogue: Catalogue, folder: Path | None = None
) -> ExternalRanker:
    """The ranker that `config` describes, not calibrated yet.

    Args:
        config: what the model is and where it lies.
        catalogue: the items.
        folder: the artifact that holds the model; without one the path is the user's own.

    Raises:
        ConfigError: a setting is missing, or names something absent or not allowed.
        ArtifactError: the model cannot be read, or lies outside its artifact.
    """
    require_settings(config)
    path = model_path(config, folder)
    config = replace(config, path=str(path))
    return ExternalRanker(load_scorer(config, path), config, catalogue)
