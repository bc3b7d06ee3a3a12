"""Sums over what came strictly before: the one place where features look back in time."""

from __future__ import annotations

import numpy as np

# Sums are of integers, so that they depend on neither the order of the summands nor on what else
# is summed in the same array: a log in partitions gives the bits of the whole. Ours.
RESOLUTION = 2.0**-36  # each summand's grain; sums of a group stay below 2**27


def as_integers(value: np.ndarray) -> np.ndarray:
    """[E] int64: `value` [E] in units of `RESOLUTION`."""
    return np.rint(value * (1 / RESOLUTION)).astype(np.int64)


class Earlier:
    """Looks back within groups; events of a group at the same time do not see each other.

    Symbols: `E` events, in any order; sorted ones are faster.

    Args:
        time: [E] int64.
        groups: each [E] int64; events belong together where all of them agree.

    >>> earlier = Earlier(np.array([1, 2, 2, 3]), np.array([7, 7, 7, 7]))
    >>> earlier.total(np.array([1.0, 10.0, 100.0, 1000.0])).tolist()
    [0.0, 1.0, 1.0, 111.0]
    """

    def __init__(self, time: np.ndarray, *groups: np.ndarray) -> None:
        self._order = _order(time, groups)
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
        """[E] float64: sum of `value` [E], floats to `RESOLUTION`, over the earlier events."""
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
        exact = np.issubdtype(value.dtype, np.integer)
        units = value.astype(np.int64) if exact else as_integers(value)
        # A running sum that overflows wraps around, and the difference is right all the same.
        running = np.concatenate([[0], np.cumsum(units[self._order])])
        total = running[self._until] - running[since]
        return self._restored(total if exact else total * RESOLUTION)

    def _restored(self, ordered: np.ndarray) -> np.ndarray:
        values = np.empty(len(ordered), dtype=np.float64)
        values[self._order] = ordered
        return values


def _order(time: np.ndarray, groups: tuple[np.ndarray, ...]) -> np.ndarray | slice:
    """Rows by groups, then time; rows that stand like that already cost little."""
    if len(groups) == 1 and _in_order(time, groups[0]):
        return slice(None)
    if len(groups) == 1 and bool((time[1:] >= time[:-1]).all()):
        return np.argsort(_narrow(groups[0]), kind="stable")
    if len(groups) == 2 and _in_order(time, groups[0]):
        return np.argsort(_narrow(groups[1]), kind="stable")
    return np.lexsort((time, *groups))


def _in_order(time: np.ndarray, group: np.ndarray) -> bool:
    later = (group[1:] == group[:-1]) & (time[1:] >= time[:-1])
    return bool(((group[1:] > group[:-1]) | later).all())


def _narrow(group: np.ndarray) -> np.ndarray:
    """Small integers as int16, which numpy sorts by radix."""
    small = len(group) > 0 and group.min() >= -(2**15) and group.max() < 2**15
    return group.astype(np.int16) if small else group


def _latest_start(is_start: np.ndarray) -> np.ndarray:
    """[E] int64: place of the latest True up to each place."""
    places = np.arange(len(is_start))
    return np.maximum.accumulate(np.where(is_start, places, 0))
