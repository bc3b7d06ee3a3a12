"""Mistakes that logs come with: each is mended and counted, or one error that says where it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from recomind.data import TableCatalogue, make_source
from recomind.data.sessions import checked_events
from recomind.errors import ConfigError, RecomindError, SchemaError
from tests.data.feed import DAY_MS, START_MS, feed_log, feed_settings, write_feed


def at(row, **values):
    """The table with one row changed."""

    def change(table):
        here = pl.int_range(pl.len()) == row
        return table.with_columns(
            pl.when(here).then(pl.lit(pl.Series([value]))).otherwise(pl.col(name)).alias(name)
            for name, value in values.items()
        )

    return change


def with_columns(*columns, **named):
    return lambda table: table.with_columns(*columns, **named)


def read(folder, **settings):
    return make_source(feed_settings(folder, **settings)).read()


def table(logs) -> TableCatalogue:
    assert isinstance(logs.catalogue, TableCatalogue)
    return logs.catalogue


ts = pl.col("ts")
REFUSED = {
    "seconds taken for milliseconds": (
        {"log": with_columns(ts // 1000)},
        {"log": {"time_unit": "ms"}},
        r"data\.log\.time .*as ms, as set is 1970-01-20.*log\.parquet, row 0.*log\.time_unit",
    ),
    "microseconds taken for milliseconds": (
        {"log": with_columns(ts * 1000)},
        {"log": {"time_unit": "ms"}},
        r"data\.log\.time .*past the year 9999.*log\.time_unit",
    ),
    "one row at 0": ({"log": at(7, ts=0)}, {}, r"got: 0, .*1970-01-01 .*log\.parquet, row 7"),
    "one row at the end of int64": (
        {"log": at(7, ts=2**63 - 1)},
        {},
        r"9223372036854775807.*log\.parquet, row 7",
    ),
    "one row in 2100": (
        {"log": at(7, ts=4_102_444_800_001)},
        {},
        r"2100-01-01.*row 7.*data\.log\.max_days",
    ),
    "a time that is no time": (
        {"log": lambda t: at(7, ts="soon")(t.with_columns(ts.cast(pl.String)))},
        {},
        r"log\.time .*'soon' in .*log\.parquet, row 7",
    ),
    "one time for all": ({"log": with_columns(ts=pl.lit(START_MS))}, {}, "one value only"),
    "a label of three values": (
        {"log": at(7, clicked=2)},
        {},
        r"data\.tasks\.clicked .*got: 2 in .*log\.parquet, row 7 .*0 or 1.*shares > 0",
    ),
    "a label with gaps": (
        {"log": at(7, clicked=None)},
        {},
        r"clicked .*None in .*row 7.*coalesce\(clicked, 0\)",
    ),
    "a negative dwell": ({"log": at(7, read_seconds=-1.0)}, {}, r"dwell_s .*got: -1\.0 .*row 7"),
    "a dwell that is no number": ({"log": at(7, read_seconds=float("nan"))}, {}, r"nan .*row 7"),
    "a user that is missing": ({"log": at(7, uid=None)}, {}, r"data\.log\.user .*None .*row 7"),
    "a propensity above 1": (
        {"log": at(7, p_logged=1.5)},
        {"log": {"propensity": "p_logged"}},
        r"propensity .*got: 1\.5 .*row 7.*in \(0, 1\]",
    ),
    "all rows in one split": (
        {"log": lambda t: t.filter(ts < START_MS + DAY_MS)},
        {},
        "too short to be split by time; got: 1 days",
    ),
    "an empty split": (
        {},
        {"splits": {"test_from": "2024-06-01"}},
        r"no events for calibration, test.*2024-05-01 to 2024-05-07",
    ),
    "an empty day where a split should be": (
        {"log": lambda t: t.filter(~ts.is_between(START_MS + 4 * DAY_MS, START_MS + 5 * DAY_MS))},
        {},
        r"no events for calibration.*6 days with events",
    ),
    "many items that the table lacks": (
        {"items": lambda t: t.head(10)},
        {},
        r"data\.log\.item .*at most 0\.05 .*data\.items\.max_unknown",
    ),
    "two rows for an item": (
        {"items": lambda t: pl.concat([t, t.head(1)])},
        {},
        r"data\.items\.id .*'a0' in .*items\.parquet, row 0.*one row an item",
    ),
    "ragged vectors": (
        {"items": at(3, embedding=[1.0, 2.0])},
        {},
        r"vectors\.embedding .*items\.parquet, row 3.*3 numbers",
    ),
    "a vector with a gap": (
        {"items": at(3, embedding=[1.0, None, 2.0])},
        {},
        r"vectors\.embedding .*row 3.*finite numbers",
    ),
    "text that is no vector": (
        {"items": with_columns(embedding=pl.lit("[1, two]"))},
        {},
        r"vectors\.embedding .*'\[1, two\]' .*row 0.*numbers in brackets",
    ),
    "a number that is text": (
        {"items": with_columns(words=pl.lit("many"))},
        {},
        r"items\.numbers\.words .*'many' of item 'a0'.*categories",
    ),
    "a column that is not there": (
        {},
        {"tasks": {"clicked": "cliked"}, "unwanted": []},
        r"data\.tasks\.clicked names a column that data\.log lacks; got: 'cliked'",
    ),
    "an expression that is none": (
        {},
        {"tasks": {"clicked": "clicked >"}, "unwanted": []},
        r"data\.tasks\.clicked is neither a column nor an SQL expression",
    ),
    "an unknown setting": (
        {},
        {"log": {"usr": "uid"}},
        r"unknown setting 'data\.log\.usr': did you mean 'user'",
    ),
    "no file": ({}, {"log": {"path": "nowhere/*.csv"}}, r"data\.log\.path names no file"),
    "rates by something else": (
        {},
        {"rates": {"by": ["sektion"]}},
        r"rates\.by names neither .*'sektion'.*did you mean 'section'",
    ),
    "rates of no task": ({}, {"rates": {"of": ["click"]}}, r"rates\.of names no task: 'click'"),
    "a task named as a column of ours": ({}, {"tasks": {"left": "clicked"}}, "may not have"),
    "no such zone": ({}, {"log": {"time_zone": "Mars"}}, r"time_zone is no time zone.*'Mars'"),
    "no such unit": ({}, {"log": {"time_unit": "min"}}, r"unknown data\.log\.time_unit 'min'"),
    "a gap that is no duration": ({}, {"sessions": {"gap": "soon"}}, r"sessions\.gap .*30m, 24h"),
    "sessions that users share": (
        {"log": with_columns(visit=pl.lit(1))},
        {"sessions": {"column": "visit"}},
        r"sessions\.column is shared by users.*concat\(user",
    ),
    "a user without a name": (
        {"log": at(7, uid=" ")},
        {},
        r"data\.log\.user .*' ' in .*log\.parquet, row 7.*coalesce\(nullif\(trim\(user\)",
    ),
    "ids of text that were floats": (
        {"log": with_columns(uid=pl.lit("1.1529215046e+18"))},
        {},
        r"'user' of data\.log holds .*integers rounded .*write the files anew",
    ),
    "a context that is a response": (
        {},
        {"context": ["surface", {"before": "read_seconds > 10"}]},
        r"context\.before is known only after .*data\.tasks\.read_10s too",
    ),
    "a context that is the dwell time": (
        {},
        {"context": ["read_seconds"]},
        r"context\.read_seconds is known only after .*data\.log\.dwell_s too",
    ),
    "a context that is a list": (
        {"log": with_columns(devices=pl.concat_list("surface", "surface"))},
        {"context": ["devices"], "rates": None},
        r"context\.devices is neither a number nor a category; got: List",
    ),
    "a context without bounds": (
        {"log": with_columns(load=pl.lit(float("inf")))},
        {"context": ["load"], "rates": None},
        r"data\.context\.load .*got: inf .*row 0",
    ),
    "two features of one name": (
        {},
        {"context": [{"age": "p_logged"}], "rates": None},
        "two user features have one name; got: 'age'",
    ),
    "a feature named as one of the clock": (
        {},
        {"context": [{"hour_sin": "p_logged"}], "rates": None},
        "two user features have one name; got: 'hour_sin'",
    ),
    "an expression over a name with a blank": (
        {"log": lambda t: t.rename({"read_seconds": "read seconds"})},
        {"log": {"dwell_s": "read seconds"}, "tasks": {"clicked": "read seconds > 10"}}
        | {"unwanted": []},
        r"data\.tasks\.clicked is neither .*as in '\"read seconds\" > 10'",
    ),
    "items that differ by case": (
        {"log": with_columns(pl.col("article").str.to_uppercase())},
        {},
        r"data\.log\.item .*differ by upper and lower case .*lower\(trim\(id\)\)",
    ),
    "items that differ by blanks": (
        {"log": with_columns(pl.col("article") + " ")},
        {},
        r"data\.log\.item .*differ by blanks .*trim\(id\)",
    ),
    "two sessions of a user at once": (
        {"log": with_columns(visit=pl.format("{}-{}", "uid", pl.int_range(pl.len()) % 2))},
        {"sessions": {"column": "visit"}},
        r"overlap in time: a user has two at once.*concat\(user, '/', device\)",
    ),
    "an hour that clocks skip": (
        {"log": with_columns(ts=pl.lit("2024-03-31 02:30:00"))},
        {"log": {"time_zone": "Europe/Berlin"}},
        r"on the clocks of Europe/Berlin.*is data\.log\.time_zone right",
    ),
    "no task at all": ({}, {"tasks": {}}, r"data\.tasks names no response"),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_mistake_is_refused_with_its_place_and_its_mend(mistake: str, tmp_path: Path) -> None:
    changes, settings, message = REFUSED[mistake]
    write_feed(tmp_path, **changes)
    with pytest.raises((ConfigError, SchemaError), match=message):
        read(tmp_path, **settings)


def test_the_feed_without_a_mistake_is_read(tmp_path: Path) -> None:
    logs = read(write_feed(tmp_path))
    assert checked_events(logs.events, logs.catalogue, tasks=logs.tasks).height == 300
    assert logs.facts["time_unit"] == "ms, guessed"


FORMS = {
    "text of 0 and 1": (with_columns(pl.col("clicked").cast(pl.String)), {}),
    "text of true and false": (
        with_columns(pl.col("clicked").cast(pl.Boolean).cast(pl.String)),
        {},
    ),
    "booleans": (with_columns(pl.col("clicked").cast(pl.Boolean)), {}),
    "seconds": (with_columns(ts // 1000), {}),
    "seconds with fractions": (with_columns(ts / 1000), {"time_unit": "s"}),
    "microseconds": (with_columns(ts * 1000), {}),
    "nanoseconds": (with_columns(ts * 1_000_000), {}),
    "digits as text": (with_columns(ts.cast(pl.String)), {}),
    "datetimes": (with_columns(ts.cast(pl.Datetime("ms"))), {}),
    "datetimes of another zone": (
        with_columns(
            ts.cast(pl.Datetime("ms"))
            .dt.replace_time_zone("UTC")
            .dt.convert_time_zone("Asia/Tokyo")
        ),
        {},
    ),
    "text with a zone": (
        with_columns(ts.cast(pl.Datetime("ms")).dt.strftime("%Y-%m-%dT%H:%M:%S%.3f+00:00")),
        {},
    ),
    "text with a Z": (
        with_columns(ts.cast(pl.Datetime("ms")).dt.strftime("%Y-%m-%dT%H:%M:%SZ")),
        {},
    ),
    "text without a zone": (
        with_columns(ts.cast(pl.Datetime("ms")).dt.strftime("%Y-%m-%d %H:%M:%S")),
        {},
    ),
    "numbers that are text": (with_columns(pl.col("read_seconds").cast(pl.String)), {}),
}


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("form", FORMS)
def test_forms_of_one_log_read_alike(form: str, kind: str, tmp_path: Path) -> None:
    change, settings = FORMS[form]
    tasks = {"clicked": "clicked", "reported": "reported"}
    (tmp_path / "other").mkdir()
    plain = read(write_feed(tmp_path), tasks=tasks)
    other = read(write_feed(tmp_path / "other", kind, log=change), tasks=tasks, log=settings)
    assert other.events.equals(plain.events)


def test_repeats_are_dropped_and_counted_or_kept(tmp_path: Path) -> None:
    write_feed(tmp_path, log=lambda t: pl.concat([t, t.head(30)]))
    logs = read(tmp_path)
    assert (logs.events.height, logs.facts["num_repeats_dropped"]) == (300, 30)
    assert read(tmp_path, log={"duplicates": "keep"}).events.height == 330


def test_an_item_that_the_table_lacks_is_unknown_and_counted(tmp_path: Path) -> None:
    write_feed(tmp_path, items=lambda t: t.filter(pl.col("id") != "a7"))
    logs = read(tmp_path, items={"max_unknown": 0.2})
    assert logs.facts["num_unknown_items"] == 1
    assert logs.catalogue.num_items == 20
    row = logs.tables["item_ids.parquet"]["id"].to_list().index("a7")
    column = logs.catalogue.categorical_names.index("section")
    assert int(table(logs).categorical_NC[row, column]) == 0


def test_an_item_without_a_vector_gets_the_mean_of_the_others(tmp_path: Path) -> None:
    logs = read(write_feed(tmp_path, items=at(3, embedding=None)))
    names = logs.catalogue.dense_names
    columns = [names.index(f"embedding_{v}") for v in range(3)]
    vectors = table(logs).dense_DNF[0][:, columns].numpy()
    others = np.delete(vectors, 3, axis=0)
    np.testing.assert_allclose(vectors[3], others.mean(axis=0), atol=1e-5)


def test_vectors_as_text_are_parsed(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    as_text = pl.col("embedding").cast(pl.List(pl.String)).list.join(", ")
    plain = read(write_feed(tmp_path))
    text = read(write_feed(tmp_path / "text", items=with_columns(embedding="[" + as_text + "]")))
    assert torch.equal(table(text).dense_DNF, table(plain).dense_DNF)


def test_user_features_of_another_scale_are_standardised_by_us(tmp_path: Path) -> None:
    (tmp_path / "days").mkdir()
    years = read(write_feed(tmp_path))
    days = read(write_feed(tmp_path / "days", users=with_columns(pl.col("age") * 365.0)))
    np.testing.assert_allclose(years.events["u_age"], days.events["u_age"], atol=1e-5)
    assert abs(years.events["u_age"].to_numpy().mean()) < 0.5


def test_a_log_whose_every_user_has_one_event_is_read(tmp_path: Path) -> None:
    each = with_columns(uid=pl.format("user-{}", pl.int_range(pl.len())))
    logs = read(write_feed(tmp_path, log=each), users=None)
    assert logs.events["session_id"].n_unique() == 300
    assert logs.events["position"].max() == 0


def test_bytes_that_are_no_text_are_named_by_line(tmp_path: Path) -> None:
    write_feed(tmp_path, "csv")
    path = tmp_path / "log.csv"
    data = bytearray(path.read_bytes())
    data[data.index(b"home", 900)] = 0xFF
    line = data[: data.index(b"\xff")].count(b"\n") + 1
    path.write_bytes(bytes(data))
    with pytest.raises(SchemaError, match=rf"not UTF-8; got: .*log\.csv, line {line};"):
        read(tmp_path)


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    write_feed(tmp_path)
    for day, part in enumerate(feed_log().iter_slices(50)):
        part.write_parquet(folder / f"day-{day}.parquet")
    (folder / "day-3.parquet").write_bytes((folder / "day-3.parquet").read_bytes()[:200])
    with pytest.raises(SchemaError, match=r"cannot be read; got: .*day-3\.parquet"):
        read(tmp_path, log={"path": str(folder)})


def test_a_column_that_appears_twice_is_refused(tmp_path: Path) -> None:
    write_feed(tmp_path, "csv")
    path = tmp_path / "log.csv"
    path.write_text(path.read_text().replace("p_logged", "clicked", 1))
    with pytest.raises(SchemaError, match=r"has a column twice; got: 'clicked' in .*log\.csv"):
        read(tmp_path)


def test_an_unbalanced_quote_is_refused(tmp_path: Path) -> None:
    write_feed(tmp_path, "csv")
    path = tmp_path / "log.csv"
    lines = path.read_text().splitlines()
    lines[40] = '"' + lines[40]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(RecomindError, match=r"log\.csv, line 41: .*that nothing closes"):
        read(tmp_path)


def test_a_row_with_too_many_fields_is_refused(tmp_path: Path) -> None:
    write_feed(tmp_path, "csv")
    path = tmp_path / "log.csv"
    lines = path.read_text().splitlines()
    lines[40] += ",1,2"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(SchemaError, match=r"log\.csv, line 41: .*expected 8 fields"):
        read(tmp_path)


def test_the_row_is_that_of_its_file_among_many(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    write_feed(tmp_path)
    for day, part in enumerate(at(120, clicked=5)(feed_log()).iter_slices(50)):
        part.write_csv(folder / f"day-{day}.csv")
    with pytest.raises(SchemaError, match=r"got: 5 in .*day-2\.csv, row 20, line 22"):
        read(tmp_path, log={"path": str(folder / "*.csv")})


@pytest.mark.parametrize("gap", [None, float("nan")])
def test_a_gap_in_a_number_of_the_context_is_filled_and_said(gap: float | None, tmp_path) -> None:
    load = pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.lit(gap)).otherwise(1000.0)
    write_feed(tmp_path, log=with_columns(load=load + pl.int_range(pl.len()) % 2))
    logs = read(tmp_path, context=["surface", "load"])
    events = checked_events(logs.events, logs.catalogue, tasks=logs.tasks)
    missing = events["u_load_missing"]
    assert (missing > 0).sum() == 100
    assert events.filter(missing > 0)["u_load"].n_unique() == 1
    assert abs(events.filter(missing > 0)["u_load"][0]) < 0.2, "the mean stands for a gap"


@pytest.mark.parametrize("text", ["x|y", "x;y", "x,y", "[x, y]"])
def test_tags_of_text_are_parted_by_what_parts_them(text: str, tmp_path: Path) -> None:
    row = pl.int_range(pl.len())
    topics = pl.when(row == 0).then(pl.lit(text)).when(row == 1).then(pl.lit("y")).otherwise(None)
    logs = read(write_feed(tmp_path, items=with_columns(topics=topics)))
    tags = [name for name in logs.catalogue.dense_names if name.startswith("topics_")]
    assert tags == ["topics_x", "topics_y"]


def test_a_category_of_which_no_feature_is_made_is_said(tmp_path: Path) -> None:
    write_feed(tmp_path, log=lambda _: feed_log(900).with_columns(load=pl.int_range(900)))
    logs = read(tmp_path, context=["surface", "load"])
    (said,) = [note for note in logs.notes if "no user feature" in note]
    assert said.startswith("load: ")
    assert "CAST(... AS DOUBLE)" in said


def test_propensities_of_1_test_nothing(tmp_path: Path) -> None:
    write_feed(tmp_path, log=with_columns(p_logged=pl.lit(1.0)))
    notes = read(tmp_path, log={"propensity": "p_logged"}).notes
    assert "nothing was left to chance" in notes[1]


def test_integers_of_later_files_may_be_narrower(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    write_feed(tmp_path)
    first, second = feed_log().head(150), feed_log().tail(150)
    first.write_parquet(folder / "day-0.parquet")
    second.with_columns(pl.col("clicked").cast(pl.Int8)).write_parquet(folder / "day-1.parquet")
    assert read(tmp_path, log={"path": str(folder)}).events.height == 300
