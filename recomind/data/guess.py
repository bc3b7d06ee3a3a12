"""A config for tables that nobody has described: guesses by names, types and values.

Every guess says what it was made from, so that whoever reads the config can tell which to check.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import polars as pl

from recomind.data.guess_text import amount_text, flag_text, sql_name, task_name, yaml_list
from recomind.data.ids import as_ids
from recomind.data.sources.finding import Files
from recomind.data.sources.scanning import FILE, ROW, Table
from recomind.data.sources.table.config import ItemTable, UserTable
from recomind.data.sources.table.log import NO, YES
from recomind.data.times import DAY_MS, EARLIEST_MS, LATEST_MS, to_milliseconds
from recomind.errors import ConfigError, RecomindError

_SAMPLE = 20_000  # rows that are looked at
_FEW_YEARS_MS = 1100 * DAY_MS
_FEW = 50  # distinct values of a category at most
_USER = r"^(user|uid|u_id|customer|visitor|member|reader|viewer|account|person)"
_ITEM = r"^(item|article|video|product|content|movie|news|sku|song|track|post|doc|iid)"
_TIME = (
    r"^(ts|time|timestamp|datetime|date|when|created|event_time|unix)|[_ ](ts|time|at)$|time_ms$"
)
_SESSION = r"session|visit"
_PROPENSITY = r"propens|p_logged|^prob|_prob$|^p_"
_DWELL = r"dwell|play_time|watch_time|read_sec|read_time|duration_s|seconds|time_spent|listen"
_UNWANTED = r"hid[ed]|hate|report|dislike|complain|block|unsub|skip|return|refund|mute"
_PUBLISHED = r"publish|upload|release|created|added"
_IS_ID = r"(^|_)(id|uuid)$|^id"


@dataclass(kw_only=True, slots=True)
class Guess:
    """A setting, and what it was guessed from."""

    value: str
    why: str


@dataclass(kw_only=True, slots=True)
class Guesses:
    """Settings of `data=table` by their place in the config."""

    log: dict[str, Guess] = field(default_factory=dict)
    tasks: dict[str, Guess] = field(default_factory=dict)
    unwanted: list[str] = field(default_factory=list)
    context: list[str] = field(default_factory=list)
    session: Guess | None = None
    items: dict[str, Guess] = field(default_factory=dict)
    users: dict[str, Guess] = field(default_factory=dict)

    @property
    def reward(self) -> str:
        """The task that the policy is trained for, until somebody says otherwise."""
        return next(task for task in self.tasks if task not in self.unwanted)


def guess_all(log: str, items: str = "", users: str = "") -> Guesses:
    """Look at the tables' first rows.

    Raises:
        ConfigError: no column looks like a user, an item, a time or a response.
    """
    rows = _sample(log, "--log")
    item_rows = _sample(items, "--items") if items else None
    user_rows = _sample(users, "--users") if users else None
    found = Guesses()
    taken = _guess_log(found, rows, item_rows, user_rows)
    _guess_tasks(found, rows, taken)
    found.context = [
        name for name in rows.columns if name not in taken and _is_category(rows[name], _FEW)
    ]
    if item_rows is not None:
        shown = rows[found.log["item"].value]
        found.items = _guess_items(item_rows, shown)
        found.items |= _gaps(shown, item_rows[found.items["id"].value], ItemTable())
    if user_rows is not None:
        seen = rows[found.log["user"].value]
        found.users = _guess_users(user_rows, seen)
        found.users |= _gaps(seen, user_rows[found.users["id"].value], UserTable())
    return found


def _gaps(used: pl.Series, listed: pl.Series, table: ItemTable | UserTable) -> dict[str, Guess]:
    """A higher bound where the log's first rows have more unknown ids than is usual."""
    known = as_ids(used.drop_nulls(), "the log").is_in(as_ids(listed, "").implode())
    share = 1.0 - float(known.mean() or 0.0)  # pyright: ignore[reportArgumentType]
    if share < 0.8 * table.max_unknown:
        return {}
    why = f"{share:.0%} of the log's rows have an id that the table lacks"
    return {"max_unknown": Guess(value=f"{min(1.5 * share, 1.0):.2f}", why=why)}


def _sample(path: str, setting: str) -> pl.DataFrame:
    table = Table(Files(path=path), setting)
    try:
        rows = table.lazy.head(_SAMPLE).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise table.fault(error) from error
    return rows.drop(FILE, ROW)


def _guess_log(
    found: Guesses,
    rows: pl.DataFrame,
    items: pl.DataFrame | None,
    users: pl.DataFrame | None,
) -> set[str]:
    """Fill `found.log`; returns the columns that are spoken for."""
    found.log["user"] = _key(rows, _USER, users, "user")
    found.log["item"] = _key(rows.drop(found.log["user"].value), _ITEM, items, "item")
    found.log["time"] = _time(rows)
    taken = {guess.value for guess in found.log.values()}
    for name, pattern in {"propensity": _PROPENSITY, "dwell_s": _DWELL}.items():
        numbers = [n for n in rows.columns if n not in taken and rows[n].dtype.is_numeric()]
        named = [n for n in numbers if re.search(pattern, n, re.IGNORECASE)]
        if name == "propensity":
            named = [n for n in named if _within(rows[n], 0.0, 1.0) and not _is_flag(rows[n])]
        if named:
            taken.add(named[0])
            found.log[name] = Guess(value=amount_text(rows, named[0], name), why="by its name")
    sessions = [
        n
        for n in rows.columns
        if n not in taken and re.search(_SESSION, n, re.IGNORECASE) and not rows[n].dtype.is_float()
    ]
    if sessions:
        taken.add(sessions[0])
        found.session = Guess(value=sessions[0], why="by its name")
    return taken


def _guess_tasks(found: Guesses, rows: pl.DataFrame, taken: set[str]) -> None:
    for name in rows.columns:
        if name not in taken and _is_flag(rows[name]):
            task = task_name(name)
            found.tasks[task] = Guess(value=flag_text(rows, name), why="all values are 0 or 1")
            taken.add(name)
            if re.search(_UNWANTED, task, re.IGNORECASE):
                found.unwanted.append(task)
    if "dwell_s" in found.log:
        dwell = found.log["dwell_s"].value
        dwell = sql_name(dwell) if dwell in rows.columns else dwell
        found.tasks["stayed_10s"] = Guess(value=f"{dwell} > 10", why="from the dwell time")
    if not set(found.tasks) - set(found.unwanted):
        raise ConfigError(
            "no column of the log looks like a response",
            got=rows.columns,
            expected="a column of 0/1, or a dwell time",
            mend="write data.tasks by hand, such as bought: 'price_paid > 0'",
        )


def _key(rows: pl.DataFrame, pattern: str, other: pl.DataFrame | None, what: str) -> Guess:
    """The column that names a user or an item."""
    named = [n for n in rows.columns if re.search(pattern, n, re.IGNORECASE)]
    named.sort(key=lambda n: not re.search(_IS_ID, n, re.IGNORECASE))
    if named:
        return Guess(value=named[0], why="by its name")
    if other is not None:
        shares = {n: _overlap(rows[n], other) for n in rows.columns if not rows[n].dtype.is_float()}
        best = max(shares, key=lambda n: shares[n], default="")
        if best and shares[best] > 0.5:
            return Guess(value=best, why=f"{shares[best]:.0%} of its values are ids of that table")
    raise ConfigError(
        f"no column of the log looks like the {what}",
        got=rows.columns,
        mend=f"rename it to {what}_id, or write data.log.{what} by hand",
    )


def _overlap(values: pl.Series, table: pl.DataFrame) -> float:
    """The largest share of `values` that one column of `table` has."""
    if values.dtype.is_nested() or values.dtype.is_temporal() or values.dtype == pl.Boolean:
        return 0.0
    ids = as_ids(values.drop_nulls(), "the log").unique()
    keys = [table[n] for n in table.columns if table[n].dtype in (pl.String, *_INTEGERS)]
    shares = [float(ids.is_in(as_ids(key, "").implode()).mean() or 0.0) for key in keys]  # pyright: ignore
    return max(shares, default=0.0)


_INTEGERS = (pl.Int64, pl.Int32, pl.UInt64, pl.UInt32, pl.Int16, pl.UInt16)


def _time(rows: pl.DataFrame) -> Guess:
    temporal = [n for n in rows.columns if rows[n].dtype.is_temporal()]
    if temporal:
        return Guess(value=temporal[0], why=f"its type is {rows[temporal[0]].dtype}")
    named = [n for n in rows.columns if re.search(_TIME, n, re.IGNORECASE)]
    if named:  # the finest of them: a date, or an hour, comes in few values
        best = max(named, key=lambda n: rows[n].n_unique())
        return Guess(value=best, why="by its name")
    read = [n for n in rows.columns if _reads_as_times(rows[n])]
    if read:
        best = max(read, key=lambda n: rows[n].n_unique())
        return Guess(value=best, why="its values read as times")
    raise ConfigError(
        "no column of the log looks like a time",
        got=rows.columns,
        expected="datetimes, text such as 2024-01-31 18:30:00, or numbers in s, ms, us or ns",
        mend="rename it to timestamp, or write data.log.time by hand",
    )


def _reads_as_times(values: pl.Series) -> bool:
    """Whether values are moments of a few years: text, or numbers since 1970."""
    if values.dtype != pl.String and not values.dtype.is_numeric():
        return False
    try:
        times, _ = to_milliseconds(values, "", "UTC")
    except RecomindError:
        return False
    low, high = times.min(), times.max()
    if not isinstance(low, float) or not isinstance(high, float):
        return False
    whole = times.null_count() <= 0.01 * len(times) + values.null_count()
    return whole and low >= EARLIEST_MS and high < LATEST_MS and high - low < _FEW_YEARS_MS


def _guess_items(table: pl.DataFrame, shown: pl.Series) -> dict[str, Guess]:
    key = _table_key(table, shown)
    kinds = _kinds(table.drop(key))
    return {"id": Guess(value=key, why="its values are the log's")} | kinds


def _guess_users(table: pl.DataFrame, seen: pl.Series) -> dict[str, Guess]:
    key = _table_key(table, seen)
    kinds = {n: g for n, g in _kinds(table.drop(key)).items() if n in ("numbers", "categories")}
    return {"id": Guess(value=key, why="its values are the log's")} | kinds


def _table_key(table: pl.DataFrame, used: pl.Series) -> str:
    shares = {
        n: _overlap(used, table.select(n))
        for n in table.columns
        if table[n].dtype in (pl.String, *_INTEGERS) and table[n].is_unique().all()
    }
    best = max(shares, key=lambda n: shares[n], default="")
    if not best or shares[best] == 0:
        raise ConfigError(
            "no column of a table holds the log's ids, each once",
            got=table.columns,
            mend="write its id by hand",
        )
    return best


def _kinds(table: pl.DataFrame) -> dict[str, Guess]:
    """Which columns are numbers, categories, tags, vectors, and when an item was published."""
    kinds: dict[str, list[str]] = {}
    for name in table.columns:
        values, dtype = table[name], table[name].dtype
        if isinstance(dtype, (pl.List, pl.Array)):
            kinds.setdefault("vectors" if dtype.inner.is_numeric() else "tags", []).append(name)  # pyright: ignore
        elif dtype.is_temporal() or re.search(_PUBLISHED, name, re.IGNORECASE):
            kinds.setdefault("published", []).append(name)
        elif dtype == pl.String and values.str.starts_with("[").any():
            kinds.setdefault("vectors", []).append(name)
        elif dtype == pl.String and values.str.contains("|", literal=True).any():
            kinds.setdefault("tags", []).append(name)
        elif dtype == pl.Boolean or _is_category(values, max(_FEW, table.height // 4)):
            kinds.setdefault("categories", []).append(name)
        elif dtype.is_numeric() and values.n_unique() > 2:
            kinds.setdefault("numbers", []).append(name)
    found = {n: Guess(value=yaml_list(v), why="by their types") for n, v in kinds.items()}
    if "published" in kinds:
        found["published"] = Guess(value=kinds["published"][0], why="by its name or type")
    return found


def _is_category(values: pl.Series, most: int) -> bool:
    return values.dtype == pl.String and 1 < values.n_unique() <= most


def _is_flag(values: pl.Series) -> bool:
    if values.dtype == pl.Boolean:
        return True
    if values.dtype == pl.String:
        said = set(values.drop_nulls().str.strip_chars().str.to_lowercase().unique().to_list())
        return len(said) == 2 and len(said & set(YES)) == 1 and len(said & set(NO)) == 1
    if not values.dtype.is_numeric():
        return False
    return set(values.drop_nulls().unique().to_list()) == {0, 1}


def _within(values: pl.Series, low: float, high: float) -> bool:
    return bool(((values > low) & (values <= high)).all())
