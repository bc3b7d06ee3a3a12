"""Sums over what came strictly before: the one place where features look back in time."""

from __future__ import annotations

import numpy as np


class Earlier:
    """Looks back within groups; events of a group at the same time do not see each other.

    Symbols: `E` events, in any order.

    Args:
        time: [E] int64.
        groups: each [E] int64; events belong together where all of them agree.

    >>> earlier = Earlier(np.array([1, 2, 2, 3]), np.array([7, 7, 7, 7]))
    >>> earlier.total(np.array([1.0, 10.0, 100.0, 1000.0])).tolist()
    [0.0, 1.0, 1.0, 111.0]
    """

    def __init__(self, time: np.ndarray, *groups: np.ndarray) -> None:
        self._order = np.lexsort((time, *groups))
        self._time = time[self._order]
        new_group = np.ones(len(time), dtype=bool)
        new_group[1:] = np.any([np.diff(g[self._order]) != 0 for g in groups], axis=0)
        new_moment = new_group.copy()
        new_moment[1:] |= np.diff(self._time) != 0
        self._begin = _latest_start(new_group)  # place of the group's first event
        self._until = _latest_start(new_moment)  # place of the first event of the same moment

    def count(self) -> np.ndarray:
        """[E] float64: number of earlier events."""
        return self._restored(self._until - self._begin)

    def total(self, value: np.ndarray) -> np.ndarray:
        """[E] float64: sum of `value` [E] over the earlier events."""
        return self._sum(value, self._begin)

    def recent(self, value: np.ndarray, length: int) -> np.ndarray:
        """[E] float64: sum of `value` [E] over the last `length` earlier events."""
        return self._sum(value, np.maximum(self._begin, self._until - length))

    def elapsed(self) -> np.ndarray:
        """[E] float64: time since the latest earlier event; NaN where there is none."""
        since = self._time - self._time[np.maximum(self._until - 1, 0)]
        return self._restored(np.where(self._until > self._begin, since, np.nan))

    def count_since(self, length: int) -> np.ndarray:
        """[E] float64: number of earlier events not longer than `length` ago."""
        stride = int(self._time.max() - self._time.min()) + length + 1
        key = self._begin * stride + (self._time - self._time.min())
        since = np.maximum(np.searchsorted(key, key - length, side="left"), self._begin)
        return self._restored(self._until - since)

    def _sum(self, value: np.ndarray, since: np.ndarray) -> np.ndarray:
        running = np.concatenate([[0.0], np.cumsum(value[self._order], dtype=np.float64)])
        return self._restored(running[self._until] - running[since])

    def _restored(self, ordered: np.ndarray) -> np.ndarray:
        values = np.empty(len(ordered), dtype=np.float64)
        values[self._order] = ordered
        return values


def _latest_start(is_start: np.ndarray) -> np.ndarray:
    """[E] int64: place of the latest True up to each place."""
    places = np.arange(len(is_start))
    return np.maximum.accumulate(np.where(is_start, places, 0))
