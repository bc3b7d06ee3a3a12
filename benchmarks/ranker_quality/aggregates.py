"""What an arm is given of an impression as numbers; all of it from strictly earlier events.

Symbols: `E` events, `R` rows asked for, `F` features.

Every block below is one that a state of ours holds or can be counted from it: the user's features
at the event, the item's features of that day, the user's last outcomes, and what the user did
with this author, tag, music type and item before.
"""

from __future__ import annotations

import itertools

import numpy as np

from benchmarks.ranker_quality.impressions import TASKS, Impressions
from recomind.data.running import Earlier

NUMBERS = ("user", "item", "last")  # the blocks that did best on the calibration day
SIX_MEANS = ("tab_rate", "rate", "rate_in_tab")  # of the user; with those of the item below
ITEM_MEANS = ("rate", "rate_author", "rate_tag")
_PAIRS = {"author": (0, 2.0), "tag": (1, 5.0), "music": (3, 5.0)}  # column, smoothing
_LONG_AGO_H = 720.0


class Aggregates:
    """Blocks of features; `block(name, rows, frozen)` gives [R, F]."""

    def __init__(self, log: Impressions) -> None:
        self.log = log
        base_EH = np.stack([log.unscaled(f"tab_rate_{t}") for t in TASKS], axis=1)
        self._surprise_EH = log.label_EH - base_EH
        self._last_EF = self._last()
        self._pair_EF = {name: self._pair(*spec) for name, spec in _PAIRS.items()}
        self._pair_EF["item"] = self._of_key(log.item_E, 1.0)

    def block(self, name: str, rows: np.ndarray, *, frozen: bool) -> np.ndarray:
        """[R, F] of "user", "item", "category", "last" or "pairs"."""
        log = self.log
        if name == "item":
            return log.dense_EF[rows]
        if name == "category":
            return log.category_EC[rows]
        if name == "user":
            return log.frozen_features(rows) if frozen else log.user_EU[rows]
        if name == "last":
            return self._last_EF[log.first_of_test(rows) if frozen else rows]
        return self._pairs(rows, frozen=frozen)

    def _pairs(self, rows: np.ndarray, *, frozen: bool) -> np.ndarray:
        """[R, F]; of the first event of the user with this author, tag, ... where frozen."""
        blocks = []
        for name, block_EF in self._pair_EF.items():
            key_E = self.log.item_E if name == "item" else self.log.category_EC[:, _PAIRS[name][0]]
            blocks.append(block_EF[self.log.first_of_test(rows, key_E) if frozen else rows])
        return np.concatenate(blocks, axis=1)

    def _last(self) -> np.ndarray:
        """[E, F] the last three outcomes and dwells, recent means, and counts of rare actions."""
        log, earlier = self.log, Earlier(self.log.time_E, self.log.user_E)
        columns = []
        for value in (*log.label_EH.T, log.log_dwell_E):
            sums = [np.zeros(len(value))] + [earlier.recent(value, k) for k in (1, 2, 3)]
            columns += [later - sooner for sooner, later in itertools.pairwise(sums)]
        for value in self._surprise_EH.T:
            for length in (10, 20):
                few = np.minimum(earlier.count(), length)
                columns.append(earlier.recent(value, length) / (few + 2.0))
        return np.stack(columns, axis=1)

    def _pair(self, column: int, smoothing: float) -> np.ndarray:
        return self._of_key(self.log.category_EC[:, column], smoothing)

    def _of_key(self, key_E: np.ndarray, smoothing: float) -> np.ndarray:
        """[E, 6] of the user's earlier events with this key: count, rates, last, gap, dwell."""
        earlier = Earlier(self.log.time_E, self.log.user_E, key_E)
        count = earlier.count()
        hours = np.nan_to_num(earlier.elapsed() / 3.6e6, nan=_LONG_AGO_H)
        columns = [np.log1p(count), np.log1p(hours)]
        columns += [earlier.total(value) / (count + smoothing) for value in self._surprise_EH.T]
        columns.append(earlier.recent(self.log.label_EH[:, 0], 1) - 0.5 * (count > 0))
        columns.append(earlier.total(self.log.log_dwell_E) / (count + 1.0))
        return np.stack(columns, axis=1)


def six_means(log: Impressions, task: str, rows: np.ndarray, *, frozen: bool) -> np.ndarray:
    """[R, 6] smoothed means of tab, user, user in tab, item, author and tag."""
    user = log.frozen_features(rows) if frozen else log.user_EU[rows]
    columns = [user[:, log.user_feature_names.index(f"{name}_{task}")] for name in SIX_MEANS]
    columns += [log.item_feature(f"{name}_{task}")[rows] for name in ITEM_MEANS]
    return np.stack(columns, axis=1)
