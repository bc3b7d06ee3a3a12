"""The user table, and its columns beside every event."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(kw_only=True, slots=True)
class Profiles:
    """The user table by row of the user, and what stands for a gap in it."""

    table: pl.DataFrame  # `user_id` and the columns of `read_users`
    fill: dict[str, float]  # column -> value

    @classmethod
    def of(cls, users: pl.DataFrame, ids: IdMap) -> Profiles:
        """A gap in a number becomes the mean over users; a further column says where one was."""
        numbers = [n for n in users.columns if n.startswith("number.")]
        fill: dict[str, float] = {}
        for name in numbers:
            mean = users[name].mean()
            if not isinstance(mean, float):
                raise SchemaError(
                    f"data.users.numbers.{name[7:]} holds no number", mend="leave it out"
                )
            fill[name] = mean
        gaps = [n for n in numbers if users[n].null_count()]
        table = users.with_columns(
            *(pl.col(n).is_null().cast(pl.Float64).alias(f"{n}_missing") for n in gaps),
            pl.Series("user_id", ids.rows(users["id"])),
        ).drop("id")
        return cls(table=table, fill=fill | {f"{n}_missing": 1.0 for n in gaps})

    def joined(self, events: pl.DataFrame) -> pl.DataFrame:
        """Events with the user's columns."""
        joined = events.join(self.table, on="user_id", how="left", maintain_order="left")
        return joined.with_columns(pl.col(n).fill_null(value) for n, value in self.fill.items())
