"""Settings of `data=table`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from recomind.data.config import check_days, check_holdout, require_setting
from recomind.data.sources.finding import Files
from recomind.errors import ConfigError

RELATIVE = "relative"  # a time unit: milliseconds of any clock that orders a timeline


@dataclass(kw_only=True, slots=True)
class LogTable(Files):
    """The log, one row an item shown; each entry is a column or an SQL expression."""

    user: str = "user_id"  # who
    item: str = "item_id"  # was shown what
    time: str = "time"  # when
    time_unit: str = ""  # unit of numbers: s, ms, us, ns; empty: guessed; relative: ms of any clock
    time_zone: str = "UTC"  # zone of times without one, and of what counts as a day
    max_days: int = 1100  # a row farther than this from the median is a mistake
    propensity: str = ""  # probability of the item given its pool; empty: unknown
    dwell_s: str = ""  # seconds spent; empty: unknown, and counted as 1
    duplicates: str = "drop"  # rows of equal user, item and time: drop or keep

    def __post_init__(self) -> None:
        if self.duplicates not in ("drop", "keep"):
            raise ConfigError(
                "data.log.duplicates", got=repr(self.duplicates), expected="drop or keep"
            )


@dataclass(kw_only=True, slots=True)
class ItemTable(Files):
    """The items, one row each."""

    id: str = "item_id"
    numbers: Any = None  # names, or name: SQL expression; a gap becomes the median
    categories: Any = None  # names, or name: expression, or name: {value, buckets, words, size}
    tags: Any = None  # several values an item: lists, or text a,b or a|b or a;b
    vectors: Any = None  # lists or arrays of one length, or text such as [1, 2]
    published: str = ""  # a day or a time; gives log_age_days
    max_unknown: float = 0.05  # share of events with an item that the table lacks
    max_tags: int = 32  # tags of each column, the most frequent ones
    standardise: bool = True  # by the items shown in training


@dataclass(kw_only=True, slots=True)
class UserTable(Files):
    """The users, one row each."""

    id: str = "user_id"
    numbers: Any = None  # names, or name: SQL expression; a gap becomes the mean
    categories: Any = None  # names, or name: SQL expression
    max_unknown: float = 0.2  # share of events with a user that the table lacks


@dataclass(kw_only=True, slots=True)
class SessionRules:
    """Where sessions begin and end, and what is known of their ends."""

    column: str = ""  # the session of an event; empty: cut by `gap`
    gap: str = "30m"  # a longer silence starts a session
    gap_is_end: bool = True  # a silence that the log saw counts as leaving; not a causal end
    left: str = ""  # the user left after this event; empty: the end of a session, by `gap`
    left_known: str = ""  # whether that is known; empty: by `left`, or where `gap` was seen
    position: str = ""  # 0-based place in the session, -1 before the log; empty: counted
    timeline: str = ""  # what shares a history; empty: the user


@dataclass(kw_only=True, slots=True)
class SplitRules:
    """Which events train, calibrate and test, and whose users are kept apart."""

    calibration_from: str = ""  # ISO day; empty: the day before `test_from`
    test_from: str = ""  # ISO day; empty: the last two days
    column: str = ""  # train, calibration, test or history of each event, in place of days
    holdout: str = ""  # 0/1, whether a user is kept for hold-out simulators; empty: by a hash
    holdout_share: float = 0.2  # share of users kept for hold-out simulators
    holdout_seed: int = 0  # selects which users those are

    def __post_init__(self) -> None:
        check_holdout(self.holdout_share)
        check_days(self.calibration_from, self.test_from, "data.splits.")


@dataclass(kw_only=True, slots=True)
class Rates:
    """Running rates: of what, by what; nothing from the event's own time or later."""

    of: list[str] = field(default_factory=list)  # tasks
    of_items: dict[str, str] = field(default_factory=dict)  # further 0/1 labels, for items only
    by: Any = None  # user, item, a context, a category of items, or [user, one of those]
    user_smoothing: float = 5.0  # pseudo-events in a user's rates
    item_smoothing: float = 20.0  # pseudo-events in the rates of an item and of its categories
    context_smoothing: float = 50.0  # pseudo-events in the rates of a context
    prior: float = 0.1  # rate of a first day that knows nothing
    recent: int = 5  # events in a user's recent rates
    windows: list[str] = field(default_factory=lambda: ["3min", "1h", "24h"])  # windows of activity

    def __post_init__(self) -> None:
        for name in ("user_smoothing", "item_smoothing", "context_smoothing"):
            require_setting(getattr(self, name) > 0, f"rates.{name}", getattr(self, name), "> 0")
        require_setting(0 < self.prior < 1, "rates.prior", self.prior, "in (0, 1)")
        require_setting(self.recent >= 1, "rates.recent", self.recent, ">= 1")
        if self.by is not None and not self.of:
            raise ConfigError("data.rates.by without data.rates.of", mend="name tasks in rates.of")


@dataclass(kw_only=True, slots=True)
class HistoryTable(Files):
    """Events from before the log of which one label is known, and not their times."""

    user: str = "user_id"
    item: str = "item_id"
    order: str = ""  # 0-based place among all events of the user
    label: str = ""  # 0/1; stands for every task in rates.of
    recent: int = 15  # events in a user's recent rate before the log
    optional: bool = False  # absent files are no error
    use: bool = True  # without it the features are there, and know nothing


class EventSettings(Protocol):
    """What reading the log itself needs to know of a source's settings."""

    log: LogTable
    tasks: dict[str, str]  # name -> column or SQL expression
    sessions: SessionRules
    splits: SplitRules
    rates: Rates
    partition_events: int  # events that are held in memory at once
    spill: str  # folder for what is not

    @property
    def contexts(self) -> dict[str, str]:
        """Name -> column or SQL expression of what is known when the item is chosen."""
        ...
