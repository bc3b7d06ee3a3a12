"""The log that every arm reads: rows, labels, days, and states that stand still.

Symbols: `E` events, `R` rows asked for, `U` user features, `H` tasks.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch

from recomind.artifacts import Manifest
from recomind.data import SessionDataset, write_sessions
from recomind.data.sources.kuairand import KuaiRand
from recomind.types import SessionState

TASKS = ("watch_10s", "long_view")  # the tasks that are compared
ALL_TASKS = ("watch_10s", "long_view", "like", "hide")
Predict = Callable[[np.ndarray, bool], np.ndarray]  # rows [R], frozen or not -> [R, H]
LIMIT = 8.0  # standardised features are clipped there
_IN_TAB = ("log_events_in_tab", "rate_in_tab_watch_10s", "rate_in_tab_long_view")
_OF_REQUEST = ("tab_", "hour_")  # what the request brings, whoever asks


def prepare(root: str, folder: Path) -> Path:
    """Write the sessions artifact: calibrated on 3 May, tested on 4 May, all users."""
    if not folder.exists():
        source = KuaiRand(
            root=root, holdout_share=0.0, calibration_from="2022-05-03", test_from="2022-05-04"
        )
        logs = source.read()
        manifest = Manifest(kind="sessions")
        write_sessions(
            folder,
            logs.events,
            logs.catalogue,
            tasks=logs.tasks,
            manifest=manifest,
            extra=logs.facts,
        )
    return folder


class Impressions:
    """The events as arrays [E], beside the dataset that they come from.

    A frozen state is what was known of the user when the test day began: the features and history
    of the user's first event of that day, in which no other event of it is seen yet.
    """

    def __init__(self, folder: Path, history_length: int) -> None:
        self.dataset = SessionDataset.load([folder], history_length)
        frame = pl.read_parquet(folder / "sessions.parquet")
        self._scaling = json.loads((folder / "manifest.json").read_text())["extra"]["user_scaling"]
        self.user_E, self.item_E, self.time_E, self.position_E = (
            frame[name].to_numpy() for name in ("user_id", "item_id", "time_ms", "position")
        )
        self.label_EH = frame.select(TASKS).to_numpy().astype(np.float64)
        self.log_dwell_E = np.log1p(frame["dwell_s"].to_numpy().astype(np.float64))
        split = frame["split"].to_numpy()
        self.train, self.calibration, self.test = (
            np.flatnonzero(split == name) for name in ("train", "calibration", "test")
        )
        self.user_feature_names = list(self.dataset.user_feature_names)
        self.user_EU = frame.select(f"u_{n}" for n in self.user_feature_names).to_numpy()
        everything = torch.arange(frame.height)
        snapshot = self.dataset.snapshot(everything)
        content = self.dataset.catalogue.features(self.dataset.item_id(everything), snapshot)
        self.dense_EF, self.category_EC = content.dense.numpy(), content.categorical.numpy()
        self.tab_E = self._tabs()

    def _tabs(self) -> np.ndarray:
        """[E] the tab's number from 1; 0 for all the rare ones."""
        columns = [
            n
            for n, name in enumerate(self.user_feature_names)
            if name.startswith("tab_") and name.removeprefix("tab_").isdecimal()
        ]
        return (self.user_EU[:, columns] > 0) @ np.arange(1, len(columns) + 1)

    def item_feature(self, name: str) -> np.ndarray:
        """[E] a dense feature of the item on the event's day."""
        return self.dense_EF[:, self.dataset.catalogue.dense_names.index(name)]

    def first_of_test(self, rows: np.ndarray, *keys_E: np.ndarray) -> np.ndarray:
        """[R] the first test row of each row's user (and of its `keys_E`, where given)."""
        keys = pl.DataFrame({str(n): key for n, key in enumerate((self.user_E, *keys_E))})
        first = keys[self.test].with_columns(row=pl.Series(self.test))
        names = [name for name in first.columns if name != "row"]
        first = first.group_by(names).agg(pl.col("row").min())
        return keys[rows].join(first, on=names, how="left", maintain_order="left")["row"].to_numpy()

    def frozen_features(self, rows: np.ndarray) -> np.ndarray:
        """[R, U] user features of test rows as of the start of the day; the request's stay."""
        first, first_in_tab = self.first_of_test(rows), self.first_of_test(rows, self.tab_E)
        frozen = self.user_EU[first].copy()
        for column, name in enumerate(self.user_feature_names):
            if name.startswith(_OF_REQUEST):
                frozen[:, column] = self.user_EU[rows, column]
            elif name in _IN_TAB:
                frozen[:, column] = self.user_EU[first_in_tab, column]
        for task in TASKS:
            column = self.user_feature_names.index(f"rate_in_tab_{task}")
            frozen[:, column] = self._frozen_rate_in_tab(task, first, first_in_tab)
        return frozen

    def _frozen_rate_in_tab(self, task: str, first: np.ndarray, in_tab: np.ndarray) -> np.ndarray:
        """[R] the user's rate in the tab, pulled to the rate as of `first` instead of `in_tab`.

        It is (sum + m * rate) / (n + m) with the user's running rate, which had moved on by the
        time of the first event in this tab.
        """
        smoothing, count = KuaiRand().user_smoothing, np.expm1(self.unscaled(_IN_TAB[0])[in_tab])
        rate, name = self.unscaled(f"rate_{task}"), f"rate_in_tab_{task}"
        moved = rate[first] - rate[in_tab]
        value = self.unscaled(name)[in_tab] + moved * smoothing / (count + smoothing)
        scaling = self._scaling[name]
        return np.clip((value - scaling["mean"]) / scaling["std"], -LIMIT, LIMIT)

    def unscaled(self, name: str) -> np.ndarray:
        """[E] a user feature before it was standardised."""
        scaling = self._scaling[name]
        values = self.user_EU[:, self.user_feature_names.index(name)].astype(np.float64)
        return values * scaling["std"] + scaling["mean"]

    def state(self, rows: np.ndarray, *, frozen: bool) -> SessionState:
        """States [R], as they were or frozen."""
        if not frozen:
            return self.dataset.state(torch.tensor(rows))
        state = self.dataset.state(torch.tensor(self.first_of_test(rows)))
        state.user_features = torch.from_numpy(self.frozen_features(rows).astype(np.float32))
        return state
