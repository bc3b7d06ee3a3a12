"""Layouts of public data sets, on replicas of a few rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recomind.data import make_source
from recomind.data.sessions import checked_events
from recomind.errors import ConfigError, SchemaError
from tests.data.feed import START_MS


def read(**data):
    logs = make_source(data).read()
    return logs, checked_events(logs.events, logs.catalogue, tasks=logs.tasks)


def times_s(num: int) -> np.ndarray:
    return START_MS // 1000 + np.sort(np.random.default_rng(0).integers(0, 8 * 86_400, num))


def test_recboles_atomic_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    inter = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    inter += [
        f"u{rng.integers(9)}\tm{rng.integers(15)}\t{rng.integers(1, 6)}\t{t}" for t in times_s(200)
    ]
    item = ["item_id:token\tstudio:token\tgenre:token_seq\tlength:float\tcover:float_seq"]
    item += [f"m{i}\ts{i % 3}\tdrama g{i % 2}\t{90 + i}\t0.5 {i}" for i in range(15)]
    user = ["user_id:token\tage:float\tcountry:token"]
    user += [f"u{i}\t{20 + i}\t{'de' if i % 2 else 'fr'}" for i in range(9)]
    for ending, lines in {"inter": inter, "item": item, "user": user}.items():
        (tmp_path / f"tiny.{ending}").write_text("\n".join(lines) + "\n")
    logs, frame = read(source="recbole", root=str(tmp_path))
    ratings = [int(line.split("\t")[2]) for line in inter[1:]]
    assert frame["liked"].sum() == sum(r >= 4 for r in ratings)
    assert logs.catalogue.categorical_names == ("studio",)
    assert {"length", "cover_0", "cover_1", "genre_drama", "genre_g1"} <= set(
        logs.catalogue.dense_names
    )
    assert {"u_age", "u_country_de"} <= set(frame.columns)
    assert logs.facts["time_unit"] == "s, guessed"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("user_id\titem_id:token\ttimestamp:float", "has no type; got: 'user_id'"),
        ("user_id:token\titem_id:token", "'timestamp' is missing"),
        ("user_id:token\titem_id:token\ttimestamp:float", "neither a rating nor a label"),
    ],
)
def test_atomic_files_that_lack_something(tmp_path: Path, header: str, message: str) -> None:
    (tmp_path / "tiny.inter").write_text(header + "\n")
    with pytest.raises(SchemaError, match=message):
        make_source({"source": "recbole", "root": str(tmp_path)})


def test_movielens(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    ratings = pl.DataFrame(
        {
            "userId": rng.integers(1, 10, 200),
            "movieId": rng.integers(1, 16, 200),
            "rating": rng.integers(1, 11, 200) / 2,
            "timestamp": times_s(200),
        }
    )
    ratings.write_csv(tmp_path / "ratings.csv")
    genres = ["Comedy|Drama", "Drama", "(no genres listed)"]
    pl.DataFrame(
        {
            "movieId": range(1, 16),
            "title": ['Who? "Me", 1999'] * 15,
            "genres": [genres[i % 3] for i in range(15)],
        }
    ).write_csv(tmp_path / "movies.csv")
    logs, frame = read(source="movielens", root=str(tmp_path))
    assert frame["liked"].sum() == (ratings["rating"] >= 4).sum()
    assert "genres_Comedy" in logs.catalogue.dense_names
    assert logs.facts["vocabularies"]["genre"] == ["(no genres listed)", "Comedy", "Drama"]
    other, _ = read(source="movielens", root=str(tmp_path), tasks={"loved": "rating = 5"})
    assert other.tasks == ("loved",)


def test_mind(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows, clicks = [], 0
    for number, t in enumerate(times_s(80)):
        stamp = pl.select(pl.from_epoch(pl.lit(t)).dt.strftime("%m/%d/%Y %I:%M:%S %p")).item()
        shown = [f"N{n}-{rng.integers(2)}" for n in rng.choice(15, 3, replace=False)]
        clicks += sum(s.endswith("-1") for s in shown)
        rows.append(f"{number}\tU{rng.integers(9)}\t{stamp}\tN1 N2\t{' '.join(shown)}")
    news = [f"N{i}\tnews\tsub{i % 4}\tA title\tText\turl\t[]\t[]" for i in range(15)]
    (tmp_path / "behaviors.tsv").write_text("\n".join(rows) + "\n")
    (tmp_path / "news.tsv").write_text("\n".join(news) + "\n")
    logs, frame = read(source="mind", root=str(tmp_path))
    assert frame.height == 240
    assert frame["clicked"].sum() == clicks
    assert logs.catalogue.categorical_names == ("category", "subcategory")
    first = rows[0].split("\t")[4].split(" ")[0].removesuffix("-0").removesuffix("-1")
    ids = logs.tables["item_ids.parquet"]
    earliest = frame.filter(pl.col("time_ms") == frame["time_ms"].min())["item_id"][0]
    assert ids.filter(row=earliest)["id"].item() == first


def test_a_root_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.root is not a folder"):
        make_source({"source": "mind", "root": str(tmp_path / "nowhere")})
