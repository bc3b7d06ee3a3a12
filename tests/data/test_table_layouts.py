"""Layouts of files that a config can name, and what is left out."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from recomind.data import make_source
from recomind.data.sessions import checked_events
from recomind.errors import RecomindError, SchemaError
from tests.data.feed import feed_log, feed_settings, write_feed


def read(folder, **settings):
    logs = make_source(feed_settings(folder, **settings)).read()
    return logs, checked_events(logs.events, logs.catalogue, tasks=logs.tasks)


def hive(log: pl.DataFrame, folder: Path) -> str:
    days = log.with_columns(day=pl.from_epoch("ts", time_unit="ms").dt.date().cast(pl.String))
    for (day,), part in days.group_by("day", maintain_order=True):
        (folder / f"day={day}").mkdir(parents=True)
        part.drop("day").write_parquet(folder / f"day={day}" / "part.parquet")
    return str(folder)


def many_csv(log: pl.DataFrame, folder: Path) -> str:
    folder.mkdir()
    for number, part in enumerate(log.iter_slices(20)):
        part.write_csv(folder / f"{number:03d}.csv", separator=";", quote_style="non_numeric")
    return str(folder / "*.csv")


def ndjson(log: pl.DataFrame, folder: Path) -> str:
    folder.mkdir()
    log.write_ndjson(folder / "log.ndjson")
    return str(folder / "log.ndjson")


@pytest.mark.parametrize("layout", [hive, many_csv, ndjson])
def test_the_layout_of_the_files_makes_no_difference(layout, tmp_path: Path) -> None:
    _, plain = read(write_feed(tmp_path))
    path = layout(feed_log(), tmp_path / "elsewhere")
    dialect = {"separator": ";"} if layout is many_csv else {}
    _, other = read(tmp_path, log={"path": path, "csv": dialect})
    assert other.equals(plain)


def test_a_column_of_the_folders_name_can_be_used(tmp_path: Path) -> None:
    write_feed(tmp_path)
    path = hive(feed_log(), tmp_path / "days")
    _, frame = read(tmp_path, log={"path": path, "where": "day >= '2024-05-03'"})
    assert frame.height == feed_log().filter(pl.col("ts") >= 1_714_694_400_000).height


@pytest.mark.parametrize("left_out", [("items", "rates"), ("users",), ("rates", "context")])
def test_tables_and_settings_may_be_left_out(left_out, tmp_path: Path) -> None:
    logs, frame = read(write_feed(tmp_path), **dict.fromkeys(left_out))
    assert frame.height == 300
    assert logs.catalogue.num_items == 20
    assert len(logs.catalogue.dense_names) > 0


def test_further_columns_and_conditions_are_sql(tmp_path: Path) -> None:
    settings = {"columns": {"long": "read_seconds > 12.5"}, "where": "surface = 'home'"}
    logs, frame = read(write_feed(tmp_path), log=settings, tasks={"long": "long"}, **LESS)
    home = feed_log().filter(pl.col("surface") == "home")
    assert (frame.height, logs.tasks) == (home.height, ("long",))
    assert frame["long"].sum() == (home["read_seconds"] > 12.5).sum()


LESS = {"rates": None, "unwanted": [], "context": None}


def test_decimal_numbers_are_not_cut_to_seven_digits(tmp_path: Path) -> None:
    write_feed(tmp_path)
    _, frame = read(tmp_path, log={"propensity": "1.0 / 3"})
    assert frame["propensity"].unique().to_list() == [1 / 3]


def test_sessions_by_a_column_with_who_left(tmp_path: Path) -> None:
    visit = pl.col("uid") + "/" + (pl.col("ts") // 86_400_000).cast(pl.String)
    write_feed(tmp_path, log=lambda t: t.with_columns(visit=visit, went=pl.col("clicked") == 1))
    _, frame = read(tmp_path, sessions={"column": "visit", "left": "went"})
    ends = frame.filter(pl.col("position") == pl.col("position").max().over("session_id"))
    assert frame["session_id"].n_unique() == ends.height
    assert (ends["left_known"] == ends["left"]).all()
    assert frame["left"].sum() == feed_log()["clicked"].sum()


def test_nothing_of_an_event_or_later_reaches_its_features(tmp_path: Path) -> None:
    """Change every response from a moment on: no earlier feature or snapshot may move."""
    from recomind.data import TableCatalogue

    moment = 1_714_521_600_000 + 5 * 86_400_000 + 7 * 3_600_000  # after training
    later = pl.col("ts") >= moment
    flip = pl.when(later).then(1 - pl.col("clicked")).otherwise("clicked").alias("clicked")
    (tmp_path / "other").mkdir()
    logs, frame = read(write_feed(tmp_path))
    changed, other = read(write_feed(tmp_path / "other", log=lambda t: t.with_columns(flip)))
    until = pl.col("time_ms") <= frame.filter(pl.col("time_ms") >= moment)["time_ms"].min()
    features = pl.col("^u_.*$")
    assert frame.filter(until).select(features).equals(other.filter(until).select(features))
    assert not frame.select(features).equals(other.select(features))
    ours, theirs = logs.catalogue, changed.catalogue
    assert isinstance(ours, TableCatalogue)
    assert isinstance(theirs, TableCatalogue)
    assert bool((ours.dense_DNF[:6] == theirs.dense_DNF[:6]).all())
    assert bool((ours.dense_DNF[6:] != theirs.dense_DNF[6:]).any())


def first_days(log: pl.DataFrame, form: str, later_ms: int = 0) -> pl.DataFrame:
    moment = pl.from_epoch(pl.col("ts") + later_ms, time_unit="ms")
    return log.with_columns(ts=moment.dt.strftime(form))


def test_whether_day_or_month_stands_first_is_never_guessed(tmp_path: Path) -> None:
    form = "%d/%m/%Y %H:%M:%S"
    write_feed(tmp_path, log=lambda log: first_days(log, form))
    with pytest.raises(SchemaError, match="day or month stands first") as caught:
        read(tmp_path)
    assert f"STRPTIME(time, '{form}')" in str(caught.value)
    by_sql, said = read(tmp_path, log={"time": f"STRPTIME(ts, '{form}')"})[0], "%d/%m/%Y"
    write_feed(tmp_path, log=lambda log: first_days(log, form, later_ms=20 * 86_400_000))
    clear = read(tmp_path)[0]
    assert said in clear.notes[0]
    assert (clear.events["time_ms"] - by_sql.events["time_ms"]).unique().to_list() == [
        1_728_000_000
    ]


def semicolons(folder: Path) -> None:
    feed_log().write_csv(folder / "log.csv", separator=";")


def two_kinds(folder: Path) -> None:
    (folder / "log.csv").mkdir()
    feed_log().write_csv(folder / "log.csv" / "a.csv")
    feed_log().write_parquet(folder / "log.csv" / "b.parquet")


def two_orders(folder: Path) -> None:
    (folder / "log.csv").mkdir()
    feed_log().write_csv(folder / "log.csv" / "a.csv")
    feed_log().select(reversed(feed_log().columns)).write_csv(folder / "log.csv" / "b.csv")


def a_column_less(folder: Path) -> None:
    (folder / "log.csv").mkdir()
    feed_log().write_parquet(folder / "log.csv" / "a.parquet")
    feed_log().drop("surface").write_parquet(folder / "log.csv" / "b.parquet")


def wide_letters(folder: Path) -> None:
    (folder / "log.csv").write_bytes(feed_log().write_csv().encode("utf-16"))


def no_rows(folder: Path) -> None:
    feed_log().head(0).write_csv(folder / "log.csv")


def hours_alone(folder: Path) -> None:
    (folder / "log.csv").mkdir()
    moment = pl.from_epoch("ts", time_unit="ms").dt.time()
    feed_log().with_columns(ts=moment).write_parquet(folder / "log.csv" / "a.parquet")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (semicolons, r"one column only, .*separator: ';'"),
        (two_kinds, r"files of several kinds; got: .*a\.csv, .*b\.parquet"),
        (two_orders, r"b\.csv has the columns in another order"),
        (a_column_less, r"b\.parquet lacks surface, unlike .*a\.parquet"),
        (wide_letters, r"UTF-16; got: .*log\.csv; .*iconv"),
        (no_rows, r"data\.log is empty; got: 0 rows in .*log\.csv"),
        (hours_alone, r"can be no time; got: Time"),
    ],
)
def test_files_that_are_otherwise_are_refused_by_name(write, message, tmp_path: Path) -> None:
    write_feed(tmp_path)
    (tmp_path / "log.parquet").unlink()
    write(tmp_path)
    with pytest.raises(RecomindError, match=message):
        read(tmp_path, log={"path": str(tmp_path / "log.csv")})
