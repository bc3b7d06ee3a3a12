"""The day of every logged event.

A session belongs to the day of its first event. A log whose clock starts at each session, such as
that of a world, has no dates: its sessions stand in their order, and are cut into equal parts.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import torch
from torch import Tensor

from recomind.data.parquet import scan_checked
from recomind.data.sessions import EVENTS
from recomind.data.times import DAY_MS, EARLIEST_MS

_COLUMNS = ("session_id", "position", "time_ms")


@dataclass(kw_only=True, slots=True)
class Days:
    """When each event of a log happened."""

    of_event: Tensor  # [E] int64, index of a day; -1 before the log
    names: list[str]  # the days', in order
    dated: bool  # False where a part of the sessions stands for a day


def days_of(folders: Sequence[Path], parts: int) -> Days:
    """The days of sessions artifacts, in the order in which `SessionDataset.load` has their events.

    Args:
        folders: of the artifacts.
        parts: into how many a log without dates is cut.
    """
    frames = [
        scan_checked(Path(folder) / EVENTS, "sessions").select(_COLUMNS).collect()
        for folder in folders
    ]
    frame = pl.concat([f.with_columns(part=pl.lit(k)) for k, f in enumerate(frames)])
    begun = frame.filter(pl.col("position") == 0)
    if int(begun["time_ms"].min()) >= EARLIEST_MS:  # type: ignore[arg-type]
        begun = begun.with_columns(day=pl.col("time_ms") // DAY_MS)
        whens = begun["day"].unique().sort()
        names = [_date(int(day)) for day in whens]
        index = pl.DataFrame({"day": whens, "index": range(len(whens))})
        begun = begun.join(index, on="day", maintain_order="left")
    else:
        begun = begun.sort("part", "session_id").with_row_index("rank")
        begun = begun.with_columns(index=pl.col("rank").cast(pl.Int64) * parts // len(begun))
        names = [f"part {part + 1}" for part in range(parts)]
    days = frame.join(
        begun.select("part", "session_id", "index"),
        on=["part", "session_id"],
        how="left",
        maintain_order="left",
    )
    index = pl.when(pl.col("position") >= 0).then(pl.col("index")).otherwise(-1)
    found = days.select(index.fill_null(-1).cast(pl.Int64).alias("day"))["day"]
    dated = "day" in begun.columns
    return Days(of_event=torch.from_numpy(found.to_numpy().copy()), names=names, dated=dated)


def _date(day: int) -> str:
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=day)).isoformat()
