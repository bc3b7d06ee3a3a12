"""Times of any form as Unix milliseconds, and the bounds that they must keep.

Whatever makes an array with one place a day asks `check_span` first: one row at 0, or
microseconds taken for milliseconds, would make it decades long.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

import polars as pl

from recomind.errors import ConfigError, SchemaError, did_you_mean

UNITS = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}  # in milliseconds
DAY_MS = 86_400_000
EARLIEST_MS = 631_152_000_000  # 1990-01-01; no log of clicks is older
LATEST_MS = 4_102_444_800_000  # 2100-01-01
_FORMATS = (  # formats of text, tried in this order
    "%+",
    "%Y-%m-%d %H:%M:%S%.f%:z",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
    "%Y%m%d",
    "%d.%m.%Y %H:%M:%S",
    "%m/%d/%Y %I:%M:%S %p",
    "%m/%d/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y",
    "%d/%m/%Y",
)
_OTHER_WAY = {  # day or month first
    "%m/%d/%Y %H:%M:%S": "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y": "%d/%m/%Y",
}
_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)\s*$")
_IN_MS = {"ms": 1, "s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": DAY_MS}


def duration_ms(text: str, setting: str) -> int:
    """Milliseconds of a text such as "30m", "1.5h" or "2d".

    >>> duration_ms("30m", "data.sessions.gap")
    1800000
    """
    found = _DURATION.match(str(text))
    if not found or float(found[1]) <= 0:
        raise ConfigError(
            f"{setting} is no duration", got=repr(text), expected="such as 30m, 24h or 2d"
        )
    return round(float(found[1]) * _IN_MS[found[2]])


def guess_unit(values: pl.Series) -> str:
    """The unit of numbers [E] that count from 1970: the one that puts their median in our days.

    Raises:
        SchemaError: none does.
    """
    median = values.cast(pl.Float64).median()
    for unit, factor in UNITS.items():
        if isinstance(median, float) and EARLIEST_MS <= median * factor < LATEST_MS:
            return unit
    raise SchemaError(
        "the unit of the times cannot be told",
        got=f"numbers around {median:.6g}" if isinstance(median, float) else "no times",
        expected="s, ms, us or ns since 1970",
        mend="set data.log.time_unit, or data.log.time_unit=relative for a clock without days",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeForm:
    """How the times of a column are written, and the zone of those without one."""

    unit: str = ""  # what numbers count in, one of `UNITS`
    text: str = ""  # the format of text; with neither, datetimes
    zone: str
    said: str  # the same, in words

    def milliseconds(self, times: pl.Series) -> pl.Series:
        """Times [E] as Float64 milliseconds since 1970; null where one is written otherwise."""
        if self.text:
            return _from_datetimes(_parsed(times, self.text), self.zone)
        if not self.unit:
            return _from_datetimes(times, self.zone)
        numbers, factor = times.cast(pl.Float64, strict=False), UNITS[self.unit]
        return numbers * factor if factor >= 1 else numbers / (1 / factor)


def time_form(times: pl.Series, unit: str, zone: str) -> TimeForm:
    """How `times` are written.

    Args:
        times: numbers, text, dates or datetimes; all of a column, or its first ones.
        unit: of numbers, one of `UNITS`; empty to have it guessed.
        zone: of text and datetimes without one.

    Raises:
        SchemaError: they can be no times, or their unit or order cannot be told.
    """
    if times.dtype == pl.String:
        numbers = times.cast(pl.Float64, strict=False)
        if numbers.count() < 0.5 * times.count() or _are_days(times):
            text = _text_form(times)
            return TimeForm(text=text, zone=zone, said=f"text {text}")
        times = numbers
    if times.dtype == pl.Date or isinstance(times.dtype, pl.Datetime):
        return TimeForm(zone=zone, said=f"{times.dtype}")
    if not times.dtype.is_numeric():
        raise SchemaError(
            f"column {times.name!r} can be no time",
            got=times.dtype,
            expected="numbers, text, dates or datetimes",
        )
    if unit and unit not in UNITS:
        raise ConfigError(f"unknown data.log.time_unit {unit!r}: {did_you_mean(unit, UNITS)}")
    if unit:
        return TimeForm(unit=unit, zone=zone, said=f"{unit}, as set")
    unit = guess_unit(times)
    return TimeForm(unit=unit, zone=zone, said=f"{unit}, guessed")


def to_milliseconds(times: pl.Series, unit: str, zone: str) -> tuple[pl.Series, str]:
    """Times [E] as Float64 milliseconds since 1970, and what they were taken for.

    What cannot be read as most of the others, or names a moment that the zone skips, is null.
    The arguments are those of `time_form`.
    """
    form = time_form(times, unit, zone)
    return form.milliseconds(times), form.said


def _are_days(times: pl.Series) -> bool:
    """Whether text such as 20240131 is a day and no number."""
    return bool(times.drop_nulls().head(1000).str.contains(r"^(19|20)\d{6}$").all())


def _text_form(times: pl.Series) -> str:
    """The format that reads the most; the first of those that read all."""
    best, fewest = "", len(times) + 1
    for form in _FORMATS:
        lost = _parsed(times, form).null_count()
        if lost < fewest:
            best, fewest = form, lost
        if lost == times.null_count():
            break
    other = _OTHER_WAY.get(best, "")
    if other and _parsed(times, other).null_count() <= fewest:
        raise SchemaError(
            "whether day or month stands first cannot be told",
            got=times.drop_nulls()[:3].to_list(),
            expected="times such as 2024-01-31T18:30:00",
            mend=f"say which, as in data.log.time: \"STRPTIME(time, '{other}')\"",
        )
    return best


def _parsed(times: pl.Series, form: str) -> pl.Series:
    zone = "UTC" if form.endswith(("z", "+")) else None
    return times.str.to_datetime(form, strict=False, time_unit="us", time_zone=zone)


def _from_datetimes(times: pl.Series, zone: str) -> pl.Series:
    column = pl.col(times.name).cast(pl.Datetime("us", getattr(times.dtype, "time_zone", None)))
    if getattr(times.dtype, "time_zone", None) is None:
        column = column.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return times.to_frame().select(column.dt.epoch("us").cast(pl.Float64) / 1000).to_series()


def local_days(time_ms: pl.Expr, zone: str) -> tuple[pl.Expr, pl.Expr]:
    """Day since 1970 and milliseconds of the day, both int64, on the clocks of `zone`."""
    moment = pl.from_epoch(time_ms, time_unit="ms").dt.replace_time_zone("UTC")
    local_ms = moment.dt.convert_time_zone(zone).dt.replace_time_zone(None).dt.epoch("ms")
    return local_ms // DAY_MS, local_ms % DAY_MS


def check_zone(zone: str, setting: str) -> None:
    """Raise ConfigError unless polars knows the zone."""
    try:
        moment = pl.lit(0).cast(pl.Datetime("ms", "UTC"))
        pl.select(moment.dt.convert_time_zone(zone))
    except pl.exceptions.PolarsError as error:
        raise ConfigError(
            f"{setting} is no time zone", got=repr(zone), expected="such as UTC or Europe/Berlin"
        ) from error


def outlier(time_ms: pl.Series, max_days: int) -> tuple[int, str] | None:
    """The first row whose time cannot be, and why; None where all are within bounds.

    Args:
        time_ms: [E] numbers, milliseconds since 1970.
        max_days: a row farther from the median than this is a mistake.
    """
    median = time_ms.median()
    if not isinstance(median, (int, float)):
        return None
    far = (time_ms.cast(pl.Float64) - median).abs() > max_days * DAY_MS
    wrong = (time_ms < EARLIEST_MS) | (time_ms >= LATEST_MS)
    # Where the median itself is wrong every row is: the first of them says it best.
    rows = (wrong | far).arg_true()
    if not len(rows):
        return None
    row = int(rows[0])
    return row, (
        f"{date_said(float(time_ms[row]))}, where the median of all rows is "
        f"{date_said(float(median))} ({len(rows)} such rows)"
    )


def check_span(time_ms: pl.Series, where: str, max_days: int = 3660) -> None:
    """Raise SchemaError where a time lies outside 1990 to 2100, or years from the others."""
    found = outlier(time_ms, max_days)
    if found is not None:
        row, why = found
        raise SchemaError(
            f"column {time_ms.name!r} of {where} has a time that cannot be",
            got=f"{time_ms[row]} in row {row}: {why}",
            expected=f"1990 to 2100, within {max_days} days of the median",
            mend="check the unit: seconds, milliseconds and microseconds differ by 1000",
        )


def date_said(ms: float) -> str:
    """Milliseconds since 1970 as a date and a time."""
    try:
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=ms)
    except OverflowError:
        return "a date past the year 9999"
    return moment.isoformat(sep=" ", timespec="seconds")
