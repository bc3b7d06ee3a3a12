"""Items and users of the log that their tables lack."""

from __future__ import annotations

from typing import Any

import polars as pl

from recomind.data.sources.table.config import ItemTable, UserTable
from recomind.data.sources.table.log import RawLog


def check_unknown(
    raw: RawLog,
    items: tuple[pl.DataFrame | None, ItemTable],
    users: tuple[pl.DataFrame | None, UserTable],
) -> dict[str, Any]:
    """Counts of what the tables lack.

    Such an item has a row of its own with nothing known of it, and such a user the mean of all.

    Raises:
        SchemaError: more than `max_unknown` of the events have one.
    """
    facts: dict[str, Any] = {}
    for name, (table, files) in (("item", items), ("user", users)):
        if table is None:
            continue
        unknown = raw.census.counts(name).join(table, on="id", how="anti")
        num = int(unknown["num"].sum())
        share = num / raw.census.num_rows
        if share > files.max_unknown:
            lacks = pl.col(name).is_in(unknown["id"].implode())
            rows = [part.scan().filter(lacks).bottom_k(1, by="_row") for part in raw.parts]
            raise raw.table.refused(
                pl.concat(rows).collect().sort("_row"),
                name,
                f"the id of a row of data.{name}s; at most {files.max_unknown:.3g} of the events "
                f"may lack one, {share:.3g} do",
                mend=_likeness(unknown["id"], table["id"])
                or f"are both ids of one kind? If so, complete the table, or raise "
                f"data.{name}s.max_unknown",
                num=num,
            )
        if unknown.height:
            facts |= {
                f"num_unknown_{name}s": unknown.height,
                f"num_events_of_unknown_{name}s": num,
            }
    return facts


def _likeness(unknown: pl.Series, known: pl.Series) -> str:
    """How ids that the table lacks would be in it; "" where they would not."""
    ways = {
        "blanks around them": ("trim({0})", lambda ids: ids.str.strip_chars()),
        "upper and lower case": (
            "lower(trim({0}))",
            lambda ids: ids.str.strip_chars().str.to_lowercase(),
        ),
        "'.0' at their ends": ("split_part({0}, '.', 1)", lambda ids: ids.str.replace(r"\.0$", "")),
    }
    for what, (sql, change) in ways.items():
        if float(change(unknown).is_in(change(known).implode()).mean() or 0.0) > 0.5:
            return f"most differ by {what} alone: write both as in {sql.format('id')}"
    return ""
