"""Trains and stores the rankers as their owners would have, long before this project came.

From the Parquet and the catalogue's tensors on disk alone: no dataset, no training code and no
weights of ours, so that what a run gives a model is compared with features made elsewhere.

Symbols: `R` rows, `L` events of history, `T` topics, `H` a model's tasks.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import polars as pl
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from experiments.external_rankers import dlrm
from experiments.external_rankers.models import WIDTH, Flat, Halves, flat_features, topic_counts

LOG_TASKS = ["watch_10s", "long_view", "like", "hide"]
HISTORY = 16  # events, as `experiment=tiny` has it
SETTINGS = {"objective": "binary", "num_leaves": 7, "num_threads": 1, "verbosity": -1, "seed": 0}


@dataclass(kw_only=True, slots=True)
class LogRows:
    """Logged impressions, as raw columns."""

    user: Tensor  # [R, 9] float32
    dense: Tensor  # [R, 3] float32, of the item
    category: Tensor  # [R, 2] int64: topic and author of the item
    topic: Tensor  # [R, L] int64, of the events before; -1 where there is none
    watched: Tensor  # [R, L] bool
    labels: Tensor  # [R, 4] float32, in the order of LOG_TASKS


def read_log(sessions: Path, split: str) -> LogRows:
    """The rows of one split; what happened before may lie in an earlier one."""
    catalogue = safetensors.torch.load_file(sessions / "catalogue.safetensors")
    frame = pl.read_parquet(sessions / "sessions.parquet")
    topics = pl.Series(catalogue["categorical"][:, 0].numpy())
    frame = frame.with_columns(topic=topics.gather(frame["item_id"]))
    lags = [
        pl.col(name).shift(lag).over("history_id").fill_null(empty).alias(f"{name}_{lag}")
        for name, empty in (("topic", -1), ("watch_10s", 0))
        for lag in range(1, HISTORY + 1)
    ]
    chosen = (pl.col("split") == split) & (pl.col("position") >= 0)
    frame = frame.with_columns(lags).filter(chosen)
    item_R = _columns(frame, ["item_id"], np.int64)[:, 0]
    users = [name for name in frame.columns if name.startswith("u_")]
    return LogRows(
        user=_columns(frame, users, np.float32),
        dense=catalogue["dense"][0, item_R],
        category=catalogue["categorical"][item_R],
        topic=_columns(frame, [f"topic_{lag}" for lag in range(1, HISTORY + 1)], np.int64),
        watched=_columns(frame, [f"watch_10s_{lag}" for lag in range(1, HISTORY + 1)], np.bool_),
        labels=_columns(frame, LOG_TASKS, np.float32),
    )


def _columns(frame: pl.DataFrame, names: list[str], dtype: Any) -> Tensor:
    return torch.from_numpy(frame.select(names).to_numpy().astype(dtype))


def _flat(rows: LogRows) -> tuple[Tensor, ...]:
    counts_RT2 = topic_counts(rows.topic, rows.watched)
    return (flat_features(rows.user, rows.dense, rows.category[:, 0], counts_RT2),)


def _halves(rows: LogRows) -> tuple[Tensor, ...]:
    counts_RT2 = topic_counts(rows.topic, rows.watched)
    return rows.user, counts_RT2, rows.dense, rows.category[:, 0]


def _dlrm(rows: LogRows) -> tuple[Any, ...]:
    return dlrm.features(rows.user, rows.dense, rows.category, rows.topic, rows.watched)


def _fit(module: nn.Module, arguments: tuple[Any, ...], labels: Tensor, logits: Callable) -> None:
    """Full-batch Adam on the log-loss; `logits` of what the module returned."""
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2, weight_decay=1e-4)
    for _ in range(100):
        loss = binary_cross_entropy_with_logits(logits(module(*arguments)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    module.eval()


def _save_torch(module: nn.Module, folder: Path) -> None:
    safetensors.torch.save_model(module, str(folder / "model.safetensors"))


def _save_torchscript(module: nn.Module, folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(str(folder / "model.pt"))


def _save_onnx(module: nn.Module, folder: Path) -> None:
    torch.onnx.export(
        module,
        (torch.zeros(2, WIDTH),),
        folder / "model.onnx",
        dynamo=True,
        external_data=False,
        verbose=False,
        input_names=["rows"],
        output_names=["probabilities"],
        dynamic_shapes=({0: torch.export.Dim("rows", min=1)},),
    )


# name -> module, its arguments, columns of LOG_TASKS, how it is stored
MODULES: dict[str, tuple[Callable, Callable, int, Callable]] = {
    "torch": (Flat, _flat, 2, _save_torch),
    "split": (Halves, _halves, 4, _save_torch),
    "torchscript": (Flat, _flat, 2, _save_torchscript),
    "onnx": (Flat, _flat, 2, _save_onnx),
    "dlrm": (dlrm.build, _dlrm, 1, _save_torch),
}


def train(name: str, sessions: Path, folder: Path) -> None:
    """Train the model `name` and store it in `folder`, with its answers on the test days."""
    if (folder / "answers.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    past, later = read_log(sessions, "train"), read_log(sessions, "test")
    if name == "lightgbm":
        answers = _train_trees(past, later, folder)
    else:
        answers = _train_module(name, past, later, folder)
    (folder / "answers.json").write_text(json.dumps(answers))


def _train_module(name: str, past: LogRows, later: LogRows, folder: Path) -> list[list[float]]:
    make, arguments, num_tasks, save = MODULES[name]
    torch.manual_seed(list(MODULES).index(name))  # the three flat ones are three models
    module = make()
    final = torch.logit if make is Flat else torch.Tensor.clone  # what is returned, as logits
    _fit(module, arguments(past), past.labels[:, :num_tasks], final)
    save(module, folder)
    with torch.no_grad():
        return final(module(*arguments(later))).sigmoid().tolist()


def _train_trees(past: LogRows, later: LogRows, folder: Path) -> list[list[float]]:
    answers = []
    for column, task in enumerate(LOG_TASKS[:2]):
        data = lgb.Dataset(_flat(past)[0].numpy(), past.labels[:, column].contiguous().numpy())
        trees = lgb.train(SETTINGS | {"learning_rate": 0.05}, data, num_boost_round=60)
        trees.save_model(folder / f"{task}.txt")
        answers.append(np.asarray(trees.predict(_flat(later)[0].numpy())))
    return np.stack(answers, axis=1).tolist()
