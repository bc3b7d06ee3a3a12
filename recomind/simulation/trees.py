"""Gradient-boosted response and leave models over counted features.

They share nothing with the rankers: no embeddings, no attention, no gradients. Their features of a
user are counts over the history, in total and for the candidate's own categories. The hold-out
simulator is made of them, and one member of the training simulator is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from recomind.artifacts.boosters import read_booster
from recomind.data import SessionDataset
from recomind.errors import ArtifactError
from recomind.ranker import quality
from recomind.simulation.effects import out_of_fold, with_effects, without_content
from recomind.simulation.response import summaries
from recomind.simulation.summary import SessionSummary
from recomind.types import Catalogue, ItemFeatures, SessionState

if TYPE_CHECKING:
    import lightgbm as lgb

_PARAMETERS = {
    "objective": "binary",
    "learning_rate": 0.08,
    "num_leaves": 15,
    "min_data_in_leaf": 40,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "verbosity": -1,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
}
_NUM_ROUNDS, _PATIENCE = 300, 20
_NEAR_STEPS = 6.0  # e-folding length of the recency-weighted counts


def tree_features(
    state: SessionState,
    item_id: Tensor,
    catalogue: Catalogue,
    snapshot: Tensor | None = None,
    *,
    categories: bool = False,
    summary: Tensor | None = None,
) -> np.ndarray:
    """[B, F] float32: state summary, item content, and counts over similar items of the history.

    With `categories` the summary has them, and what the item has in common with the session. A
    `summary` [B, M] of the state for the items that is known already is not made again.
    """
    item = catalogue.features(item_id, snapshot)
    seen_at = None if snapshot is None else snapshot[:, None].expand_as(state.history_item_id)
    seen = catalogue.features(state.history_item_id, seen_at)
    if summary is None:
        summary = SessionSummary(catalogue, categories)(state, snapshot, item_id)
    parts = [summary, _lifetime(state)]
    parts += [item.dense, item.categorical.float()]
    parts += [_like_counts(state, item, seen, c) for c in range(item.categorical.shape[-1])]
    return torch.cat(parts, dim=1).numpy()


def _lifetime(state: SessionState) -> Tensor:
    """[B, H + 1]: mean feedback over the whole history, and its length."""
    num = state.history_mask.sum(1, keepdim=True).float()
    return torch.cat([state.history_feedback.float().sum(1) / (num + 1.0), num], dim=1)


def _like_counts(
    state: SessionState, item: ItemFeatures, seen: ItemFeatures, column: int
) -> Tensor:
    """[B, 4 + H]: events of the candidate's category: all, in session, recent; their feedback."""
    same_BL = item.categorical[:, None, column] == seen.categorical[..., column]
    same_BL = (same_BL & state.history_mask).float()
    inside_BL = state.in_session.float()
    length = same_BL.shape[1]
    near_L = torch.exp(-torch.arange(length - 1, -1, -1, dtype=torch.float32) / _NEAR_STEPS)
    count = same_BL.sum(1, keepdim=True)
    feedback = (same_BL[..., None] * state.history_feedback.float()).sum(1)
    return torch.cat(
        [
            count,
            (same_BL * inside_BL).sum(1, keepdim=True),
            (same_BL * inside_BL * near_L).sum(1, keepdim=True),
            (same_BL * state.history_dwell_s).sum(1, keepdim=True) / 60.0,
            feedback / (count + 1.0),
        ],
        dim=1,
    )


@dataclass(slots=True)
class TreeModels:
    """A booster for each task and one for the hazard; a constant where nothing can be learned."""

    tasks: tuple[str, ...]
    boosters: dict[str, lgb.Booster]  # task or "leave"
    constants: dict[str, float]
    categories: bool = False  # whether their features were made with categories

    def responses(
        self,
        state: SessionState,
        item_id: Tensor,
        catalogue: Catalogue,
        summary: Tensor | None = None,
    ) -> Tensor:
        """[B, H] probabilities of `tasks`; `summary` as in `tree_features`."""
        features = tree_features(
            state, item_id, catalogue, categories=self.categories, summary=summary
        )
        columns = [torch.from_numpy(self.predict(task, features)) for task in self.tasks]
        return torch.stack(columns, dim=1)

    def hazard(self, state: SessionState, catalogue: Catalogue) -> Tensor:
        """[B] probability of leaving, from the state after an event."""
        summary = SessionSummary(catalogue, self.categories)
        return torch.from_numpy(self.predict("leave", summary(state).numpy()))

    def quality(self, dataset: SessionDataset, rows: Tensor) -> dict[str, float]:
        """AUC, log-loss and ECE of the responses at `rows` [R], by task."""
        p = self.responses(dataset.state(rows), dataset.item_id(rows), dataset.catalogue)
        labels = dataset.labels(rows)[:, [dataset.tasks.index(task) for task in self.tasks]]
        return quality(torch.logit(p, 1e-6), labels, self.tasks)

    def predict(self, name: str, features: np.ndarray) -> np.ndarray:
        """[B] float32: the output of the model of a task, or of "leave"."""
        if name not in self.boosters:
            return np.full(len(features), self.constants[name], dtype=np.float32)
        values = self.boosters[name].predict(features, num_threads=1)
        return np.asarray(values, dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write each model to a file in LightGBM's text format."""
        for name, booster in self.boosters.items():
            # By ourselves: LightGBM does not say that a disk was full.
            (folder / f"{name}.lightgbm.txt").write_text(booster.model_to_string())

    @classmethod
    def load(
        cls,
        folder: Path,
        tasks: tuple[str, ...],
        constants: dict[str, float],
        categories: bool = False,
    ) -> TreeModels:
        """Read what `save` wrote."""
        boosters = {}
        for name in (*tasks, "leave"):
            path = Path(folder) / f"{name}.lightgbm.txt"
            if path.is_file():
                boosters[name] = read_booster(path)
            elif name not in constants:
                raise ArtifactError("a model of a simulator's trees is absent", got=path)
        return cls(tasks, boosters, constants, categories)


@dataclass(frozen=True, slots=True)
class _Events:
    """What boosters are fitted to."""

    rows: Tensor  # [R] int64
    later: Tensor  # [S] int64 rows, by whose log-loss the boosting stops
    seed: int
    weights: Tensor | None = None  # [R]; all alike where None


def fit_trees(
    dataset: SessionDataset,
    rows: Tensor,
    later: Tensor,
    seed: int,
    categories: bool = False,
    weights: Tensor | None = None,
    tasks: tuple[str, ...] | None = None,
) -> TreeModels:
    """Fit on `rows` [R], by their `weights` [R], stopping early by log-loss on `later`.

    Responses are those of `tasks`, of all in the dataset where None.
    """
    models = TreeModels(dataset.tasks if tasks is None else tasks, {}, {}, categories)
    events = _Events(rows, later, seed, weights)
    _fit_responses(models, dataset, events)
    _fit_leaving(models, dataset, events)
    return models


def with_tree_effects(
    dataset: SessionDataset, rows: Tensor, later: Tensor, seed: int
) -> tuple[SessionDataset, dict[str, float]]:
    """The same events, whose items also have their effects as features (`effects`).

    Without effects, responses and leaving are predicted by trees; those of leaving know how the
    session goes and nothing of what was shown.
    """
    models, plain = TreeModels(dataset.tasks, {}, {}), without_content(dataset)
    events = _Events(rows, later, seed)
    _fit_responses(models, dataset, events)
    _fit_leaving(models, plain, events)
    features = _response_features(dataset, rows, False)
    columns = [torch.from_numpy(models.predict(task, features)) for task in dataset.tasks]
    leave = models.predict("leave", _summary_rows(plain, rows, False))
    return with_effects(dataset, rows, torch.stack(columns, dim=1), torch.from_numpy(leave))


def _fit_responses(models: TreeModels, dataset: SessionDataset, events: _Events) -> None:
    both = events.rows, events.later
    fit_x, stop_x = (_response_features(dataset, rows, models.categories) for rows in both)
    for task in models.tasks:
        h = dataset.tasks.index(task)
        fit_y, stop_y = (dataset.labels(rows)[:, h].contiguous().numpy() for rows in both)
        _fit_one(models, task, (fit_x, fit_y, events.weights), (stop_x, stop_y), events.seed)


def _fit_leaving(models: TreeModels, dataset: SessionDataset, events: _Events) -> None:
    known = dataset.left_known(events.rows)
    known_later = events.later[dataset.left_known(events.later)]
    fitted, stopping = (
        (
            _summary_rows(dataset, chosen, models.categories),
            dataset.left(chosen).float().numpy(),
        )
        for chosen in (events.rows[known], known_later)
    )
    weights = None if events.weights is None else events.weights[known]
    _fit_one(models, "leave", (*fitted, weights), stopping, events.seed)


def _response_features(dataset: SessionDataset, rows: Tensor, categories: bool) -> np.ndarray:
    def of(part: SessionDataset, chosen: Tensor) -> Tensor:
        parts = [
            tree_features(
                part.state(r),
                part.item_id(r),
                part.catalogue,
                part.snapshot(r),
                categories=categories,
            )
            for r in chosen.split(8192)
        ]
        return torch.from_numpy(np.concatenate(parts))

    return out_of_fold(dataset, rows, of).numpy()


def _summary_rows(dataset: SessionDataset, rows: Tensor, categories: bool) -> np.ndarray:
    return summaries(dataset, rows, after=True, categories=categories).numpy()


def _fit_one(
    models: TreeModels,
    name: str,
    fitted: tuple[np.ndarray, np.ndarray, Tensor | None],
    stopping: tuple[np.ndarray, np.ndarray],
    seed: int,
) -> None:
    """One booster, or a constant rate where there are fewer than 20 labels of either kind.

    It is fitted to features, labels and weights, and stopped by further features and labels.
    """
    fit_x, fit_y, weights = fitted
    few = min(fit_y.sum(), len(fit_y) - fit_y.sum()) if len(fit_y) else 0
    if few < 20 or len(stopping[1]) == 0:
        models.constants[name] = float((fit_y.sum() + 0.5) / (len(fit_y) + 10.0))
        return
    import lightgbm as lgb

    train = lgb.Dataset(fit_x, fit_y, weight=None if weights is None else weights.numpy())
    models.boosters[name] = lgb.train(
        _PARAMETERS | {"seed": seed},
        train,
        num_boost_round=_NUM_ROUNDS,
        valid_sets=[lgb.Dataset(*stopping, reference=train)],
        callbacks=[lgb.early_stopping(_PATIENCE, verbose=False)],
    )
