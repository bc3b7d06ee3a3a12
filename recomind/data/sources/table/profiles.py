"""The user table, and its columns beside every event."""

from __future__ import annotations

import polars as pl

from recomind.data.ids import IdMap, as_ids
from recomind.data.sources.scanning import Table
from recomind.data.sources.settings import named
from recomind.data.sources.table.config import UserTable
from recomind.errors import ConfigError, SchemaError


def read_users(files: UserTable) -> pl.DataFrame | None:
    """One row a user: `id`, `number.<name>` without gaps and `category.<name>`.

    None where the config names no table.
    """
    if not files.path:
        if files.numbers or files.categories:
            raise ConfigError("data.users without a path", mend="set data.users.path")
        return None
    table = Table(files, "data.users", ids=(files.id,))
    wanted = {"id": table.expression(files.id, "id")}
    for kind, prefix in (("numbers", "number"), ("categories", "category")):
        for name, text in named(getattr(files, kind), f"data.users.{kind}").items():
            column = f"{prefix}.{name}"
            wanted[column] = table.expression(text, column, f"data.users.{kind}.{name}")
    frame = table.collect(wanted)
    frame = frame.with_columns(as_ids(frame["id"], "data.users").alias("id"))
    table.require(frame, "id", pl.col("id").is_not_null(), "an id in every row")
    table.require(frame, "id", pl.col("id").is_unique(), "one row a user")
    for name in [n for n in frame.columns if n.startswith("number.")]:
        values = frame[name].cast(pl.Float64, strict=False)
        lost = frame.filter(values.is_null() & frame[name].is_not_null())
        if lost.height:
            raise table.refused(lost, name, "numbers", mend="name it in data.users.categories")
        frame = frame.with_columns(values.fill_nan(None).alias(name))
        finite = pl.col(name).is_null() | pl.col(name).is_finite()
        table.require(frame, name, finite, "finite numbers")
    return frame.drop("_file", "_row")


def with_profiles(events: pl.DataFrame, users: pl.DataFrame | None, ids: IdMap) -> pl.DataFrame:
    """Events with the user's columns; a gap in a number becomes the mean over users."""
    if users is None:
        return events
    numbers = [n for n in users.columns if n.startswith("number.")]
    means = {name: users[name].mean() for name in numbers}
    if hollow := [name[7:] for name, mean in means.items() if mean is None]:
        raise SchemaError(f"data.users.numbers.{hollow[0]} holds no number", mend="leave it out")
    gaps = [n for n in numbers if users[n].null_count()]
    users = users.with_columns(
        *(pl.col(n).is_null().cast(pl.Float64).alias(f"{n}_missing") for n in gaps),
        pl.Series("user_id", ids.rows(users["id"])),
    ).drop("id")
    joined = events.join(users, on="user_id", how="left", maintain_order="left")
    return joined.with_columns(
        *(pl.col(n).fill_null(mean) for n, mean in means.items()),
        *(pl.col(f"{n}_missing").fill_null(1.0) for n in gaps),
    )
