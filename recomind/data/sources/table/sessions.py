"""Events to sessions: where one begins, which place an event has, and what is known of the end."""

from __future__ import annotations

import polars as pl

from recomind.data.sources.table.config import SessionRules
from recomind.data.times import duration_ms
from recomind.errors import SchemaError


def in_sessions(events: pl.DataFrame, rules: SessionRules, last_ms: int) -> pl.DataFrame:
    """Events [E] with history_id, session_id, position, left and left_known, in their order.

    Whether a user left after an event is known where the log goes on for a whole gap after it.
    Within the last gap nothing is: there a session that goes on would be seen and one that ended
    would not, and a hazard fitted on what is seen would come out too low.

    Args:
        events: all of some users, with `user_id`, `time_ms` and the place in the log, `_row`; those
            of a user in the order of both.
        rules: the settings.
        last_ms: the time of the log's last event, of any user.
    """
    gap_ms = duration_ms(rules.gap, "data.sessions.gap")
    has_position = "position" in events.columns
    if "history_id" in events.columns:
        order = ["history_id", "time_ms", *(["position"] if has_position else []), "_row"]
        events = events.sort(order, maintain_order=True)
    else:
        events = events.with_columns(history_id=pl.col("user_id"))
        order = ["history_id", *(["time_ms", "position"] if has_position else [])]
        events = events.sort(order, maintain_order=True)
    events = _numbered(events, gap_ms)
    if not has_position:
        place = pl.int_range(pl.len())
        start = pl.when(_begins("session_id", "history_id")).then(place).forward_fill()
        events = events.with_columns(position=place - start)
    events = events.with_columns(pl.col("position").cast(pl.Int32))
    return _with_ends(events, rules, gap_ms, last_ms)


def _begins(*columns: str) -> pl.Expr:
    """Whether a row differs from the one before it in one of the columns."""
    changes = [pl.col(name) != pl.col(name).shift(1) for name in columns]
    return pl.any_horizontal(changes).fill_null(True)


def _numbered(events: pl.DataFrame, gap_ms: int) -> pl.DataFrame:
    if "session_id" not in events.columns:
        silence = pl.col("time_ms") - pl.col("time_ms").shift(1)
        is_start = _begins("history_id") | (silence > gap_ms)
        return events.with_columns(session_id=is_start.cum_sum().cast(pl.Int64) - 1)
    _require_unbroken(events)
    return events


def _require_unbroken(events: pl.DataFrame) -> None:
    starts = events.filter(_begins("session_id", "history_id"))
    twice = starts.filter(pl.col("session_id").is_duplicated())
    if twice.height:
        one = twice.filter(pl.col("session_id") == twice["session_id"][0])
        shared = one["user"].n_unique() > 1
        raise broken(
            f"session {twice['session'][0]!r} of user {twice['user'][0]!r} "
            f"({twice['session_id'].n_unique()} such sessions)",
            overlap=not shared,
        )


def broken(got: str, *, overlap: bool = False) -> SchemaError:
    """The error where a session is no unbroken run of a user's events."""
    if overlap:
        return SchemaError(
            "sessions of data.sessions.column overlap in time: a user has two at once",
            got=got,
            expected="each session one unbroken run of a user's events",
            mend="where they are of two devices, each may count as a user of its own, as in "
            "data.log.user: \"concat(user, '/', device)\"; or leave data.sessions.column out and "
            "set data.sessions.gap",
        )
    return SchemaError(
        "data.sessions.column is shared by users, or sessions of a user overlap in time",
        got=got,
        expected="each session one unbroken run of a user's events",
        mend="join it with the user, as in column: \"concat(user, '/', session)\", or leave "
        "data.sessions.column out and set data.sessions.gap",
    )


def _with_ends(
    events: pl.DataFrame, rules: SessionRules, gap_ms: int, last_ms: int
) -> pl.DataFrame:
    is_last = pl.col("session_id") != pl.col("session_id").shift(-1).fill_null(-1)
    shown = pl.col("position") >= 0
    if "left" in events.columns:
        known = pl.col("left_known") if "left_known" in events.columns else ~is_last
        return events.with_columns(
            left=pl.col("left") & shown, left_known=(known | pl.col("left")) & shown
        )
    is_seen = pl.col("time_ms") + gap_ms < last_ms
    ends = is_last & is_seen if rules.gap_is_end else pl.lit(False)
    return events.with_columns(left=ends & shown, left_known=is_seen & (~is_last | ends) & shown)
