"""DeepFM and DIN as DeepCTR-Torch has them, given ids as in the literature.

DeepFM: Guo et al., IJCAI 2017. DIN: Zhou et al., KDD 2018. One net a task; half an epoch at a
time, since nets on this log overfit within one or two: the half with the best AUC on the
calibration day is kept.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.ranker_quality.aggregates import NUMBERS, Aggregates
from benchmarks.ranker_quality.impressions import TASKS, Impressions
from benchmarks.ranker_quality.measures import weighted_auc

Inputs = dict[str, np.ndarray]
_ID_DIM, _BATCH, _HALVES, _PATIENCE = 8, 512, 10, 3
_HISTORY = 20  # latest videos watched for more than 10 s that DIN attends to


@dataclass(kw_only=True, slots=True)
class Recipe:
    """What differs between the nets; the numbers did best on the calibration day, of a few."""

    build: Callable[[Impressions, int, float, int], Any]  # log, numbers, L2, seed -> a fresh net
    learning_rate: float  # Adam's
    l2: float  # on embeddings and linear weights, beside a loss summed over a batch
    numbers: bool = False  # whether it is given the numbers that the trees have
    history: bool = False  # whether it is given what the user watched


def id_columns(log: Impressions, rows: np.ndarray) -> Inputs:
    """User, item, author, tag, music type and tab of each row."""
    author, tag, _, music = log.category_EC[rows].T
    ids = {"user": log.user_E[rows], "item": log.item_E[rows], "author": author, "tag": tag}
    return ids | {"music": music, "tab": log.tab_E[rows]}


def watched(log: Impressions, rows: np.ndarray, *, frozen: bool) -> Inputs:
    """The latest videos that the user watched for more than 10 s, oldest first, 0 at the end."""
    state = log.state(rows, frozen=frozen)
    liked_BL = (state.history_feedback[..., 0] & state.history_mask).numpy()
    order_BL = np.argsort(~liked_BL, axis=1, kind="stable")
    length = liked_BL.sum(axis=1)
    start = np.maximum(length - _HISTORY, 0)
    places = np.minimum(start[:, None] + np.arange(_HISTORY), liked_BL.shape[1] - 1)
    item = np.take_along_axis(state.history_item_id.numpy(), order_BL, axis=1)
    item = np.take_along_axis(item, places, axis=1)
    length = np.minimum(length, _HISTORY)
    seen = np.arange(_HISTORY) < length[:, None]
    shown = log.dataset.catalogue.features(torch.from_numpy(item)).categorical.numpy()
    category = shown * seen[..., None]
    history = {"hist_item": (item + 1) * seen, "hist_author": category[..., 0]}
    return history | {"hist_tag": category[..., 1], "hist_length": np.maximum(length, 1)}


def sizes(log: Impressions) -> dict[str, int]:
    """Rows of each id's embedding table; item ids are moved up by 1, 0 is padding."""
    author, tag, _, music = log.dataset.catalogue.vocab_sizes
    users, items = int(log.user_E.max()) + 1, log.dataset.catalogue.num_items + 1
    tabs = int(log.tab_E.max()) + 1
    return {"user": users, "item": items, "author": author, "tag": tag, "music": music, "tab": tabs}


def _deepctr(module: str) -> Any:
    """A module of DeepCTR-Torch, which only this benchmark needs."""
    return importlib.import_module(f"deepctr_torch.{module}")


def deepfm(log: Impressions, num_dense: int, l2: float, seed: int) -> Any:
    """A fresh DeepFM on ids, and on `num_dense` numbers where there are any."""
    kind, model = _deepctr("inputs"), _deepctr("models").DeepFM
    columns: list[Any] = [kind.SparseFeat(n, size, _ID_DIM) for n, size in sizes(log).items()]
    columns += [kind.DenseFeat("dense", num_dense)] if num_dense else []
    return model(
        columns,
        columns,
        dnn_hidden_units=(128, 64),
        dnn_dropout=0.2,
        seed=seed,
        l2_reg_embedding=l2,
        l2_reg_linear=l2,
    )


def din(log: Impressions, num_dense: int, l2: float, seed: int) -> Any:
    """A fresh DIN on ids that attends to the item, author and tag of what was watched."""
    kind, model = _deepctr("inputs"), _deepctr("models").DIN
    table, attended = sizes(log), ["item", "author", "tag"]
    columns: list[Any] = [kind.SparseFeat(n, size, _ID_DIM) for n, size in table.items()]
    columns += [
        kind.VarLenSparseFeat(
            kind.SparseFeat(f"hist_{n}", table[n], _ID_DIM, embedding_name=n),
            _HISTORY,
            length_name="hist_length",
        )
        for n in attended
    ]
    return model(
        columns,
        attended,
        dnn_hidden_units=(128, 64),
        att_hidden_size=(32, 16),
        dnn_dropout=0.2,
        l2_reg_embedding=l2,
        seed=seed,
    )


class Net:
    """One net a task, fitted on the training rows and chosen on the calibration rows."""

    def __init__(self, log: Impressions, aggregates: Aggregates, recipe: Recipe, seed: int) -> None:
        self.log, self.aggregates, self.recipe = log, aggregates, recipe
        train, later = self.inputs(log.train, False), self.inputs(log.calibration, False)
        self.nets = [self._fitted(train, later, task, seed) for task in range(len(TASKS))]

    def _fitted(self, train: Inputs, later: Inputs, task: int, seed: int) -> Any:
        num_dense = train["dense"].shape[1] if "dense" in train else 0
        net = self.recipe.build(self.log, num_dense, self.recipe.l2, seed)
        adam = torch.optim.Adam(net.parameters(), lr=self.recipe.learning_rate)
        net.compile(adam, "binary_crossentropy")
        label_E = self.log.label_EH[:, task]
        label, later_label = label_E[self.log.train], label_E[self.log.calibration]
        return _fit(net, train, later, label, later_label, seed)

    def __call__(self, rows: np.ndarray, frozen: bool) -> np.ndarray:
        """[R, H] probabilities."""
        inputs = self.inputs(rows, frozen)
        return np.concatenate([net.predict(inputs, 4096) for net in self.nets], axis=1)

    def inputs(self, rows: np.ndarray, frozen: bool) -> Inputs:
        """What the nets read of `rows`."""
        inputs = id_columns(self.log, rows)
        inputs["item"] = inputs["item"] + 1
        if self.recipe.history:
            inputs |= watched(self.log, rows, frozen=frozen)
        if self.recipe.numbers:
            given = [self.aggregates.block(b, rows, frozen=frozen) for b in NUMBERS]
            inputs["dense"] = np.concatenate(given, axis=1)
        return inputs


def _fit(
    net: Any, train: Inputs, later: Inputs, label: np.ndarray, later_label: np.ndarray, seed: int
) -> Any:
    """The weights after the half epoch with the best AUC on the later rows."""
    generator, best, best_auc, since = np.random.default_rng(seed), None, -1.0, 0
    halves: list[np.ndarray] = []
    for _ in range(_HALVES):
        halves = halves or np.array_split(generator.permutation(len(label)), 2)
        rows = halves.pop()
        with contextlib.redirect_stdout(io.StringIO()):
            net.fit({k: v[rows] for k, v in train.items()}, label[rows], _BATCH, 1, verbose=0)
        auc = weighted_auc(later_label, net.predict(later, 4096)[:, 0])
        since = 0 if auc > best_auc else since + 1
        if auc > best_auc:
            best, best_auc = copy.deepcopy(net.state_dict()), auc
        if since >= _PATIENCE:
            break
    net.load_state_dict(best)
    return net.eval()


DEEPFM = Recipe(build=deepfm, learning_rate=3e-3, l2=1e-5)
DEEPFM_AGGREGATES = Recipe(build=deepfm, learning_rate=1e-3, l2=1.0, numbers=True)
DIN = Recipe(build=din, learning_rate=5e-4, l2=1e-5, history=True)
