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
                mend=f"are both ids of one kind? If so, complete the table, or raise "
                f"data.{name}s.max_unknown",
                num=num,
            )
        if unknown.height:
            facts |= {
                f"num_unknown_{name}s": unknown.height,
                f"num_events_of_unknown_{name}s": num,
            }
    return facts
