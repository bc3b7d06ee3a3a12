"""The table of outcomes: what users did with what they were shown, by decision id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from recomind.data.ids import as_ids
from recomind.data.sources.finding import Files
from recomind.data.sources.scanning import Table
from recomind.data.sources.served.joining import LEFT
from recomind.data.times import to_milliseconds
from recomind.errors import SchemaError


@dataclass(kw_only=True, slots=True)
class OutcomeTable(Files):
    """Outcomes, a row each, in any order; tasks are columns of their names."""

    decision: str = "decision_id"  # the answer's decision_id; here and below a column or SQL
    time: str = "time_ms"  # when it was known
    time_unit: str = ""  # unit of numbers: s, ms, us, ns; empty: guessed
    time_zone: str = "UTC"  # zone of times without one
    dwell_s: str = "dwell_s"  # seconds spent
    left: str = ""  # whether the user left after it; empty or null: by data.gap


def read_outcomes(table: OutcomeTable, tasks: Sequence[str]) -> pl.DataFrame:
    """`decision_id`, `time_ms`, `dwell_s`, the tasks and, where the table has it, `left`.

    Raises:
        ConfigError: there is no such file, or an expression cannot be read.
        SchemaError: a file is damaged, or a value is not what it must be.
    """
    found = Table(table, "data.outcomes", ids=(table.decision,))
    named = {"decision": table.decision, "time": table.time, "dwell_s": table.dwell_s}
    columns = {name: found.expression(text, name) for name, text in named.items()}
    if table.left:
        columns[LEFT] = found.expression(table.left, LEFT)
    columns |= {task: found.expression(task, task, f"data.outcomes: {task}") for task in tasks}
    frame = found.collect(columns)
    times, _ = to_milliseconds(frame["time"], table.time_unit, table.time_zone)
    frame = frame.with_columns(times.alias("time_ms"), as_ids(frame["decision"], "the outcomes"))
    found.require(frame, "decision", pl.col("decision").is_not_null(), "a decision's id")
    found.require(frame.with_columns(time=times), "time", pl.col("time").is_finite(), "a time")
    try:
        return frame.select(
            pl.col("decision").alias("decision_id"),
            pl.col("time_ms").round().cast(pl.Int64),
            pl.col("dwell_s").cast(pl.Float64),
            *(pl.col(task).cast(pl.UInt8) for task in tasks),
            *([pl.col(LEFT).cast(pl.Boolean)] if table.left else []),
        )
    except pl.exceptions.PolarsError as error:
        raise SchemaError("the outcomes", got=str(error).splitlines()[0]) from error
