"""Which served sessions a round of training takes."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from recomind.data.times import duration_ms
from recomind.errors import SchemaError

BY_SCORER = "scorer"  # a window for each scorer that was served, in the order of their first use


@dataclass(frozen=True, slots=True)
class Window:
    """The sessions of one round, by their first decision.

    `kind` is `BY_SCORER`, or how long a window lasts, from the first decision of the log on.
    """

    index: int  # from 0
    kind: str

    def __call__(self, placed: pl.DataFrame) -> pl.DataFrame:
        """The window's rows of decisions in sessions, which have `begun_ms` and `begun_scorer`.

        Raises:
            SchemaError: the log has no such window.
        """
        number = self._by_scorer(placed) if self.kind == BY_SCORER else self._by_time()
        found = placed.filter(number == self.index)
        if not found.height:
            raise SchemaError(
                f"the served logs have no window {self.index + 1}",
                got=f"{placed.select(number.n_unique()).item()} windows by {self.kind}"
                if placed.height
                else "no decision",
                mend="serve the last round's policy first, or ask for fewer rounds",
            )
        return found

    def _by_time(self) -> pl.Expr:
        since_ms = pl.col("begun_ms") - pl.col("begun_ms").min()
        return since_ms // duration_ms(self.kind, "data.window")

    def _by_scorer(self, placed: pl.DataFrame) -> pl.Expr:
        first = placed.group_by("begun_scorer").agg(pl.col("begun_ms").min())
        order = first.sort("begun_ms", "begun_scorer")["begun_scorer"].to_list()
        number = pl.col("begun_scorer").replace_strict(
            order, list(range(len(order))), return_dtype=pl.Int64
        )
        return number
