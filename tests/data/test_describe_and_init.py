"""`describe-data` and `init`, on the small feed."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from omegaconf import OmegaConf

from recomind.cli import describe_data, init, main
from recomind.data import make_source
from recomind.data.describe import describe
from recomind.data.guess import guess_all
from recomind.data.guess_text import yaml_list, yaml_text
from recomind.errors import ConfigError
from tests.data.feed import feed_items, feed_log, feed_settings, write_feed


def suspicions(folder: Path, **settings) -> str:
    found = describe(make_source(feed_settings(folder, **settings)).read())
    return " | ".join(f"{s.what} -> {s.mend}" for s in found.suspicions)


def test_a_description_counts_what_is_there(tmp_path: Path) -> None:
    write_feed(tmp_path, log=lambda t: pl.concat([t, t.head(10)]))
    logs = make_source(feed_settings(tmp_path)).read()
    found = describe(logs)
    assert found.facts["events"] == "300"
    assert found.facts["repeats dropped"] == "10"
    assert found.facts["users"] == "12"
    split = found.tables["by split"]
    assert split["events"].sum() == 300
    assert found.tables["by day (UTC)"].height == 7
    assert found.survival[0] == (0.0, 1.0)
    clicked = feed_log()["clicked"].mean()
    assert (split["events"] * split["clicked"]).sum() / 300 == pytest.approx(clicked)


def test_missing_values_are_counted_by_column(tmp_path: Path) -> None:
    first = pl.int_range(pl.len()) < 3
    write_feed(
        tmp_path,
        log=lambda t: t.with_columns(surface=pl.when(~first).then("surface")),
        items=lambda t: t.with_columns(words=pl.when(~first).then("words")),
        users=lambda t: t.with_columns(country=pl.when(~first).then("country")),
    )
    table = describe(make_source(feed_settings(tmp_path)).read()).tables["missing values"]
    found = dict(table.iter_rows())
    assert found == {"log: surface": 0.01, "items: words": 0.15, "users: country": 0.25}


@pytest.mark.parametrize(
    ("change", "settings", "said"),
    [
        ({}, {}, r"later events of hold-out users .* data.splits.holdout_share"),
        (
            {"log": lambda t: t.with_columns(reported=0)},
            {},
            "reported has a base rate of 0.000%",
        ),
        ({}, {"sessions": {"gap": "1min"}}, "of the sessions have one event -> raise data.sess"),
        ({}, {"log": {"dwell_s": ""}}, "no dwell time is known -> name it in data.log.dwell_s"),
        (
            {"log": lambda t: pl.concat([t, t.head(30)])},
            {},
            "30 rows repeat user, item and time of another -> data.log.duplicates=keep",
        ),
        (
            {"log": lambda t: t.with_columns(pl.col("ts") // 86_400_000 * 86_400_000)},
            {"log": {"duplicates": "keep"}},
            "most events stand at midnight",
        ),
    ],
)
def test_what_looks_wrong_is_said_with_its_mend(tmp_path, change, settings, said) -> None:
    import re

    write_feed(tmp_path, **change)
    assert re.search(said, suspicions(tmp_path, **settings))


def test_the_page_and_the_terminal_tell_the_same(tmp_path, capsys) -> None:
    settings = feed_settings(write_feed(tmp_path), log={"propensity": "p_logged"})
    describe_data.report(settings, [], tmp_path / "out")
    said = " ".join(capsys.readouterr().out.split())
    page = (tmp_path / "out-data.html").read_text()
    for text in ("by position", "surface_home", "known for 100.0% of the events", "hold-out users"):
        assert text in said
        assert text in page
    assert "<script" not in page


def test_guesses_name_what_the_feed_has(tmp_path: Path) -> None:
    write_feed(tmp_path)
    paths = [str(tmp_path / f"{name}.parquet") for name in ("log", "items", "users")]
    found = guess_all(*paths)
    assert {name: guess.value for name, guess in found.log.items()} == {
        "user": "uid",
        "item": "article",
        "time": "ts",
        "propensity": "p_logged",
        "dwell_s": "read_seconds",
    }
    assert list(found.tasks) == ["clicked", "reported", "stayed_10s"]
    assert found.unwanted == ["reported"]
    assert found.context == ["surface"]
    assert found.items["vectors"].value == "[embedding]"
    assert found.items["tags"].value == "[topics]"
    assert found.users["categories"].value == "[country]"


def test_ids_are_found_by_their_values_where_names_tell_nothing(tmp_path: Path) -> None:
    write_feed(tmp_path, log=lambda t: t.rename({"article": "x7"}))
    paths = [str(tmp_path / f"{name}.parquet") for name in ("log", "items")]
    assert guess_all(*paths).log["item"].value == "x7"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["article", "ts", "clicked"], "no column of the log looks like the user"),
        (["uid", "article", "clicked"], "no column of the log looks like a time"),
        (["uid", "article", "ts"], "no column of the log looks like a response"),
    ],
)
def test_a_log_that_tells_too_little_is_refused(tmp_path, columns, message) -> None:
    write_feed(tmp_path, log=lambda t: t.select(columns))
    with pytest.raises(ConfigError, match=message):
        guess_all(str(tmp_path / "log.parquet"))


def awkward(log: pl.DataFrame) -> pl.DataFrame:
    """The feed as another company has it: blanks in names, gaps, text for flags, times by value."""
    row = pl.int_range(pl.len())
    return log.select(
        "uid",
        "article",
        (pl.col("ts") * 1000).alias("moment us"),
        pl.when(pl.col("clicked") == 1).then(pl.lit("Y")).otherwise(pl.lit("N")).alias("y"),
        pl.when(row > 9).then(pl.col("reported") == 1).alias("hidden by user"),
        pl.when(row > 9).then("read_seconds").alias("read seconds"),
        pl.col("surface").alias("on"),
        pl.col("clicked").alias("left"),
    )


def test_init_reads_what_is_awkward(tmp_path, monkeypatch) -> None:
    write_feed(
        tmp_path,
        log=awkward,
        items=lambda t: t.head(18).with_columns(topics=pl.lit("x|y"), **{"how many": "words"}),
    )
    monkeypatch.chdir(tmp_path)
    given = ["--log", "log.parquet", "--items", "items.parquet", "--users", "users.parquet"]
    assert main(["init", "odd", *given]) == 0
    written = Path("conf/experiment/odd.yaml").read_text()
    assert "max_unknown: 0." in written
    settings = OmegaConf.to_container(OmegaConf.load("conf/experiment/odd.yaml"))
    assert isinstance(settings, dict)
    data = settings["data"]
    assert data["log"]["time"] == "moment us"
    assert set(data["tasks"]) == {"y", "hidden_by_user", "did_left", "stayed_10s"}
    assert data["unwanted"] == ["hidden_by_user"]
    assert data["context"] == ["on"]
    assert data["items"]["tags"] == ["topics"]
    events = make_source({"source": "table"} | data).read().events
    expected = awkward(feed_log())
    assert events["y"].sum() == (expected["y"] == "Y").sum()
    assert events["hidden_by_user"].sum() == expected["hidden by user"].sum()
    assert events["stayed_10s"].sum() == (expected["read seconds"] > 10).sum()


@pytest.mark.parametrize(
    "spelling", ["plain", "two words", "y", "No", "1", "1e3", "a, b", "a: b", "it's", '"', "", "#x"]
)
def test_text_is_read_back_from_yaml_as_it_was(spelling: str) -> None:
    read = OmegaConf.create(f"{yaml_text(spelling)}: {yaml_list([spelling, 'x'])}")
    assert OmegaConf.to_container(read) == {spelling: [spelling, "x"]}


def test_init_writes_what_can_be_read(tmp_path, monkeypatch, capsys) -> None:
    write_feed(tmp_path)
    monkeypatch.chdir(tmp_path)
    given = ["--log", "log.parquet", "--items", "items.parquet", "--users", "users.parquet"]
    assert main(["init", "my-feed", *given]) == 0
    assert "recomind describe-data experiment=my-feed" in capsys.readouterr().out
    written: dict = {}
    exec((tmp_path / "test_my_feed.py").read_text(), written)
    written["test_the_logs_can_be_read"]()
    stub: dict = {}
    exec((tmp_path / "my_feed_ranker.py").read_text(), stub)
    assert stub["model"]() is not None
    assert main(["init", "my-feed", *given]) == 2
    assert "a file is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["My Feed", "--log", "log.parquet"], "not a name; got: 'My Feed'"),
        (["feed", "--log", "nowhere.csv"], "--log.path names no file"),
    ],
)
def test_init_refuses_with_what_is_wrong(tmp_path, monkeypatch, capsys, arguments, message) -> None:
    write_feed(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert init.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "conf").exists()


def test_the_catalogue_holds_every_item_of_the_feed(tmp_path: Path) -> None:
    logs = make_source(feed_settings(write_feed(tmp_path))).read()
    assert logs.tables["item_ids.parquet"]["id"].to_list() == feed_items()["id"].to_list()
