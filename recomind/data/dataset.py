"""Sessions as tensors: states, responses and outcomes gathered for any rows.

Symbols: `E` events in memory, `B` rows asked for, `L` history length, `H` tasks, `U` user features.
A row is an index into the events, which stand timeline after timeline, oldest first:

    row           0   1   2 | 3   4          timeline a | timeline b
    begin         0   0   0 | 3   3          first row of the row's timeline
    history of 2  with L = 3:  [pad, row 0, row 1]
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recomind.artifacts import loads
from recomind.data.catalogue import StoredCatalogue
from recomind.data.catalogue_kinds import load_catalogue
from recomind.data.item_ids import check_range
from recomind.data.parquet import scan_checked
from recomind.data.rounds import concatenated, read_facts, require_events
from recomind.data.sessions import EVENTS, SPLITS, check_loaded, split_code
from recomind.errors import ConfigError
from recomind.streams import hash_int64, hash_uniform
from recomind.types import SessionState


class SessionDataset:
    """Events of one or more rounds of sessions; build it with `load`.

    Args:
        frame: events sorted as `recomind.data.sessions.ORDER` says, rounds one after another,
            `history_id` unique across rounds, with a column `round_index`.
        catalogue: the items.
        tasks: names of the task columns, in order.
        user_feature_names: names of the `u_*` columns without the prefix, in order.
        history_length: `L` of the states.
    """

    def __init__(
        self,
        frame: pl.DataFrame,
        catalogue: StoredCatalogue,
        *,
        tasks: Sequence[str],
        user_feature_names: Sequence[str],
        history_length: int,
    ) -> None:
        if history_length < 1:
            raise ConfigError("history_length is out of range", got=history_length, expected=">= 1")
        self.catalogue, self.history_length = catalogue, history_length
        self.tasks, self.user_feature_names = tuple(tasks), tuple(user_feature_names)
        self.num_user_features = len(self.user_feature_names)
        self._int = {name: _tensor(frame, name, np.int64) for name in _INTEGERS}
        self._flag = {name: _tensor(frame, name, np.bool_) for name in ("left", "left_known")}
        self._holdout = _tensor(frame, "holdout", np.bool_)
        self._dwell_s = _tensor(frame, "dwell_s", np.float32)
        self._propensity = _tensor(frame, "propensity", np.float64)
        self._gap_s = _seconds_since_last(frame)
        self._labels_EH = _matrix(frame, list(self.tasks), np.uint8).bool()
        self._user_EU = _matrix(frame, [f"u_{n}" for n in self.user_feature_names], np.float32)
        self._split = torch.from_numpy(
            frame["split"]
            .replace_strict(SPLITS, range(len(SPLITS)), return_dtype=pl.Int64)
            .to_numpy()
            .copy()
        )
        self._begin = _first_rows(self._int["history_id"])
        _, self._session = torch.unique_consecutive(self._session_keys(), return_inverse=True)

    @classmethod
    @loads("sessions")
    def load(
        cls, folders: Sequence[Path], history_length: int, max_events: int = 0
    ) -> SessionDataset:
        """Read sessions artifacts, in the order of their rounds; the last brings the catalogue.

        Args:
            folders: the artifacts.
            history_length: `L` of the states.
            max_events: where there are more, about so many are read: all of some timelines, which
                a hash of their ids chooses. 0: all there are.

        Raises:
            ArtifactError: an artifact is absent or damaged, or tasks, features or the number of
                items differ between the folders.
            ConfigError: no folder, or a history length below 1.
        """
        facts = read_facts(folders)
        catalogue = load_catalogue(Path(folders[-1]))
        share = max_events / max(sum(facts["events_of"]), 1) if max_events else 1.0
        frames = []
        for index, folder in enumerate(folders):
            events = scan_checked(Path(folder) / EVENTS, "sessions")
            num = int(events.select(pl.len()).collect().item())
            require_events(num, facts, index, folder)
            frames.append(events.collect() if share >= 1 else _sample(events, share))
        for frame, folder in zip(frames, folders, strict=True):
            check_loaded(frame, catalogue, facts, folder)
        return cls(
            concatenated(dict(enumerate(frames))),
            catalogue,
            tasks=facts["tasks"],
            user_feature_names=facts["user_feature_names"],
            history_length=history_length,
        )

    def with_history(self, length: int) -> SessionDataset:
        """The same events, with histories of `length`; nothing is copied."""
        other = copy.copy(self)
        other.history_length = length
        return other

    def with_catalogue(self, catalogue: StoredCatalogue) -> SessionDataset:
        """The same events, of items that are known otherwise; nothing is copied."""
        other = copy.copy(self)
        other.catalogue = catalogue
        return other

    def __len__(self) -> int:
        """Number of events, history-only ones included."""
        return len(self._begin)

    def rows(self, *splits: str, holdout: bool | None = None) -> Tensor:
        """Rows [B] int64 of the given splits (all where none is given), in the events' order.

        Events from before the log (position -1) are never among them.

        Args:
            splits: of "history", "train", "calibration", "test".
            holdout: True for hold-out users only, False for the others, None for all.

        Raises:
            ConfigError: an unknown split.
        """
        chosen = self._int["position"] >= 0
        if splits:
            chosen &= torch.isin(self._split, torch.tensor([split_code(s) for s in splits]))
        if holdout is not None:
            chosen &= self._holdout == holdout
        return chosen.nonzero()[:, 0]

    def num_rows(self, *splits: str, holdout: bool | None = None) -> int:
        """How many `rows` there are."""
        return len(self.rows(*splits, holdout=holdout))

    def blocks(self, generator: torch.Generator | None = None) -> Iterator[SessionDataset]:
        """The dataset itself, as the one block of a `SessionSource`."""
        yield self

    def session_starts(self, *splits: str, holdout: bool | None = None) -> Tensor:
        """Rows [B] int64 that open a session; the arguments are those of `rows`."""
        rows = self.rows(*splits, holdout=holdout)
        return rows[self._int["position"][rows] == 0]

    def state(self, rows: Tensor) -> SessionState:
        """What was known before the events `rows` [B]."""
        return self._state(rows, rows, self._int["position"][rows], self._gap_s)

    def next_state(self, rows: Tensor) -> SessionState:
        """What was known after the events `rows` [B]; user features stay those before them.

        `gap_s` is the event's dwell time: the next item would start when this one ends. When the
        user really came back would tell whether they had left.
        """
        return self._state(rows, rows + 1, self._int["position"][rows] + 1, self._dwell_s)

    def _state(self, rows: Tensor, until: Tensor, step: Tensor, gap_s_E: Tensor) -> SessionState:
        """History [B, L] = the rows [until - L, until) that are of the row's timeline."""
        check_range(rows, len(self), "row")
        source_BL, mask_BL = self._window(rows, until)
        return SessionState(
            user_id=self._int["user_id"][rows],
            user_features=self._user_EU[rows],
            history_item_id=self._int["item_id"][source_BL] * mask_BL,
            history_feedback=self._labels_EH[source_BL] & mask_BL[..., None],
            history_dwell_s=self._dwell_s[source_BL] * mask_BL,
            history_gap_s=self._gap_s[source_BL] * mask_BL,
            history_mask=mask_BL,
            gap_s=gap_s_E[rows],
            step=step,
            batch_size=[len(rows)],
        )

    def _window(self, rows: Tensor, until: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [B, L] of the history, and which of them are of the row's timeline."""
        source_BL = until[:, None] + torch.arange(-self.history_length, 0)
        mask_BL = source_BL >= self._begin[rows][:, None]
        return source_BL.clamp(min=0), mask_BL

    def history_rows(self, rows: Tensor) -> Tensor:
        """Rows [B, L] of the events in the history of `state(rows)`; -1 where there is none."""
        source_BL, mask_BL = self._window(rows, rows)
        return source_BL.masked_fill(~mask_BL, -1)

    def clock(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """First row [B] of each row's timeline, and seconds [B] float64 from there to the row."""
        begin, elapsed_s = self._begin[rows], self._gap_s.double().cumsum(0)
        return begin, elapsed_s[rows] - elapsed_s[begin]

    def begin(self, rows: Tensor) -> Tensor:
        """[B] int64: the first row of each row's timeline."""
        return self._begin[rows]

    def user_id(self, rows: Tensor) -> Tensor:
        """[B] int64."""
        return self._int["user_id"][rows]

    def user_features(self, rows: Tensor) -> Tensor:
        """[B, U] float32, as they were before the events."""
        return self._user_EU[rows]

    def position(self, rows: Tensor) -> Tensor:
        """[B] int64: 0-based place in the session."""
        return self._int["position"][rows]

    def item_id(self, rows: Tensor) -> Tensor:
        """[B] int64: the item shown."""
        return self._int["item_id"][rows]

    def labels(self, rows: Tensor) -> Tensor:
        """[B, H] float32 in {0, 1}: the response, tasks in order."""
        return self._labels_EH[rows].float()

    def dwell_s(self, rows: Tensor) -> Tensor:
        """[B] float32, seconds."""
        return self._dwell_s[rows]

    def left(self, rows: Tensor) -> Tensor:
        """[B] bool: the user left after the event; read it only where `left_known`."""
        return self._flag["left"][rows]

    def left_known(self, rows: Tensor) -> Tensor:
        """[B] bool: False where the end of the session is censored."""
        return self._flag["left_known"][rows]

    def snapshot(self, rows: Tensor) -> Tensor:
        """[B] int64: the catalogue snapshot that was current."""
        return self._int["snapshot"][rows]

    def propensity(self, rows: Tensor) -> Tensor:
        """[B] float64: probability of the item given its pool; NaN where unknown."""
        return self._propensity[rows]

    def round_index(self, rows: Tensor) -> Tensor:
        """[B] int64: which of the loaded folders the event came from."""
        return self._int["round_index"][rows]

    def session_index(self, rows: Tensor) -> Tensor:
        """[B] int64: equal for events of one session, different across sessions and rounds."""
        return self._session[rows]

    def session_key(self, rows: Tensor) -> Tensor:
        """[B] int64: a hash of round and session, the same in whichever block they are read."""
        return self._session_keys(rows)

    def _session_keys(self, rows: Tensor | slice = slice(None)) -> Tensor:
        of_round = hash_int64(self._int["round_index"][rows], _SALT_SESSION)
        return hash_int64(self._int["session_id"][rows] ^ of_round, _SALT_SESSION)


def _sample(events: pl.LazyFrame, share: float) -> pl.DataFrame:
    """The events of a share of the timelines."""
    ids = events.select(pl.col("history_id").unique()).collect()["history_id"].sort()
    chance = hash_uniform(torch.from_numpy(ids.to_numpy().copy()), _SALT_SAMPLE)
    chosen = ids.filter(pl.Series((chance < share).numpy()))
    return events.filter(pl.col("history_id").is_in(chosen.implode())).collect(engine="streaming")


_SALT_SESSION, _SALT_SAMPLE = 83, 89
_INTEGERS = (
    "history_id",
    "session_id",
    "position",
    "user_id",
    "item_id",
    "snapshot",
    "round_index",
)


def _tensor(frame: pl.DataFrame, name: str, dtype: type[np.generic]) -> Tensor:
    column = frame[name]
    if dtype is np.float64:
        column = column.fill_null(float("nan"))
    return torch.from_numpy(column.to_numpy().astype(dtype, copy=True))


def _matrix(frame: pl.DataFrame, names: list[str], dtype: type[np.generic]) -> Tensor:
    """Columns `names` as [E, len(names)]; no columns give [E, 0]."""
    if not names:
        return torch.zeros(frame.height, 0, dtype=torch.float32)
    # One column comes as a view of the frame, which torch must not be given to write into.
    return torch.from_numpy(np.require(frame.select(names).to_numpy(), dtype, ["C", "W"]))


def _seconds_since_last(frame: pl.DataFrame) -> Tensor:
    """[E] float32: seconds since the timeline's event before; 0.0 at its first event."""
    since_ms = pl.col("time_ms").diff().over("history_id").fill_null(0)
    return _tensor(frame.select(gap_s=since_ms / 1000), "gap_s", np.float32)


def _first_rows(history_id: Tensor) -> Tensor:
    """[E] int64: the first row of each row's timeline, for ids [E] in unbroken runs."""
    _, counts = torch.unique_consecutive(history_id, return_counts=True)
    return torch.repeat_interleave(counts.cumsum(0) - counts, counts)
