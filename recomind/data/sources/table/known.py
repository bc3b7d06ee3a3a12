"""What the partitions of a log are worked on with: known before the first, and read by all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from recomind.data.ids import IdMap
from recomind.data.sources.table.config import EventSettings, Rates
from recomind.data.sources.table.history import Prior
from recomind.data.sources.table.items import ItemContent
from recomind.data.sources.table.profiles import Profiles
from recomind.data.sources.table.rates import Plan
from recomind.data.sources.table.spill import Spill
from recomind.data.sources.table.splits import Days


@dataclass(kw_only=True, slots=True)
class Known:
    """What is known of a whole log before its sessions are cut."""

    source: EventSettings
    rates: Rates
    plan: Plan
    prior: Prior
    content: ItemContent
    profiles: Profiles | None
    users: pl.DataFrame  # `user` (text), `user_id`, and `holdout` where the log does not say it
    items: IdMap
    words: Mapping[str, IdMap]  # column of the log -> codes: contexts, sessions, timelines
    days: Days | None  # None where the clock has none
    is_dated: bool  # whether items have a snapshot a day
    last_ms: int
    grains: np.ndarray  # user id at which each further grain begins
    spill: Spill

    @property
    def num_snapshots(self) -> int:
        """How many snapshots the catalogue has: one a day where items change."""
        return self.days.num if self.days is not None and self.is_dated else 1
