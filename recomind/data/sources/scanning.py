"""Files of any kind and number as one lazy table, and whose fault it is where that fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from recomind.data.parquet import UNREADABLE, check_parquet
from recomind.data.sources.expressions import expression
from recomind.data.sources.finding import Files, find_paths, kind_of
from recomind.data.sources.text import check_encoding, check_lines, first_line, unreadable
from recomind.errors import ConfigError, SchemaError

FILE, ROW = "_file", "_row"  # which file a row came from, and its number over all of them
_SAMPLE = 10_000  # rows that the types of a CSV's columns are told from


class Table:
    """A lazy table over the files of `Files`; rows carry their file and number.

    Args:
        files: where it lies.
        setting: its name in the config, such as "data.log".
        ids: columns that hold ids, which a CSV's digits must not turn into numbers.
    """

    def __init__(self, files: Files, setting: str, ids: tuple[str, ...] = ()) -> None:
        self.files, self.setting, self._ids = files, setting, ids
        self._settings: dict[str, str] = {}  # column -> where the config names it
        self.paths = find_paths(files.path, f"{setting}.path")
        self.kind = kind_of(files, self.paths, setting)
        if self.kind == "csv":
            check_encoding(self.paths[0])
        self.lazy = self._scan(self.paths).with_row_index(ROW)
        try:
            self.columns = [n for n in self.lazy.collect_schema().names() if n not in (FILE, ROW)]
        except UNREADABLE as error:
            raise self.fault(error) from error
        self._refuse_twins()
        self._refuse_one_column()
        if files.explode:
            self._explode(files.explode)
        for name, text in files.columns.items():
            derived = expression(text, self.columns, f"{setting}.columns.{name}", setting)
            self.lazy = self.lazy.with_columns(derived.alias(name))
            self.columns.append(name)
        if files.where:
            condition = expression(files.where, self.columns, f"{setting}.where", setting)
            self.lazy = self.lazy.filter(condition)

    def _explode(self, name: str) -> None:
        expression(name, self.columns, f"{self.setting}.explode", self.setting)
        if self.lazy.collect_schema()[name] == pl.String:
            self.lazy = self.lazy.with_columns(pl.col(name).str.strip_chars().str.split(" "))
        self.lazy = self.lazy.explode(name)

    def expression(self, text: object, column: str, setting: str = "") -> pl.Expr:
        """`text` as an expression over this table.

        Args:
            text: a column, or SQL.
            column: what the result will be called.
            setting: where the config has it; the table's own setting of that name if empty.
        """
        self._settings[column] = setting or f"{self.setting}.{column}"
        return expression(text, self.columns, self._settings[column], self.setting)

    def collect(self, columns: dict[str, pl.Expr]) -> pl.DataFrame:
        """Read `columns`, each row with its `FILE` and `ROW`.

        Raises:
            SchemaError: a file cannot be read, or an expression cannot be computed.
        """
        try:
            frame = self._selected(columns).collect(engine="streaming")
        except UNREADABLE as error:
            raise self.fault(error) from error
        self._require_rows(frame.height)
        self._check_lines()
        return frame.sort(ROW, maintain_order=True)

    def batches(self, columns: dict[str, pl.Expr], num_rows: int) -> Iterator[pl.DataFrame]:
        """What `collect` reads, in the order of the files, `num_rows` at a time.

        Raises:
            SchemaError: as `collect` does.
        """
        self._check_lines()
        batches = self._selected(columns).collect_batches(chunk_size=num_rows, maintain_order=True)
        found = 0
        while True:
            try:
                batch = next(batches, None)
            except UNREADABLE as error:
                raise self.fault(error) from error
            if batch is None:
                break
            if batch.height:
                found += batch.height
                yield batch
        self._require_rows(found)

    def head(self, expression: pl.Expr, num_rows: int) -> pl.Series:
        """The first values of an expression.

        Raises:
            SchemaError: as `collect` does.
        """
        try:
            found = self.lazy.select(expression).head(num_rows).collect().to_series()
        except UNREADABLE as error:
            raise self.fault(error) from error
        self._require_rows(len(found))
        return found

    def _selected(self, columns: dict[str, pl.Expr]) -> pl.LazyFrame:
        wanted = [value.alias(name) for name, value in columns.items()]
        return self.lazy.select(*wanted, pl.col(FILE).cast(pl.Categorical), pl.col(ROW))

    def _require_rows(self, found: int) -> None:
        if not found:
            raise SchemaError(f"{self.setting} is empty", got=f"0 rows in {self._said()}")

    def require(
        self, frame: pl.DataFrame, column: str, holds: pl.Expr, expected: str, mend: str = ""
    ) -> None:
        """Raise SchemaError at the first row of `frame` where `holds` is not True."""
        bad = frame.filter(holds.fill_null(False).not_())
        if bad.height:
            raise self.refused(bad, column, expected, mend=mend)

    def refused(
        self,
        bad: pl.DataFrame,
        column: str,
        expected: object,
        *,
        why: str = "",
        mend: str = "",
        num: int = 0,
    ) -> SchemaError:
        """The error that names file, row and value of the first of the rows `bad`, of `num`."""
        file, row = bad[FILE][0], int(bad[ROW][0])
        value = bad[column][0] if column in bad.columns else None
        value = value.to_list() if isinstance(value, pl.Series) else value
        line = f", line {self._in_file(file, row) + 2}" if self.kind == "csv" else ""
        return SchemaError(
            f"{self._settings.get(column, column)} has a value it may not have",
            got=f"{repr(value)[:200]}{why} in {file}, row {self._in_file(file, row)}{line} "
            f"({num or bad.height} such rows)",
            expected=expected,
            mend=mend,
        )

    def fault(self, error: BaseException) -> SchemaError:
        """What is wrong, with the first file that cannot be read by itself."""
        if isinstance(error, SchemaError):
            return error
        self._check_lines()
        for path in self.paths:
            try:
                self._scan([path]).collect(engine="streaming")
            except UNREADABLE as own:
                return unreadable(path, own)
        mend = "columns must have one type in all files; cast them in the files, or name fewer"
        if len(self.paths) == 1:
            mend = (
                "an expression computes with text: cast it, as in CAST(price AS DOUBLE); a CSV of "
                "decimal commas is read by csv: {decimal_comma: true}"
            )
        elif difference := self._difference():
            return SchemaError(
                f"files of {self.setting} have other columns",
                got=difference,
                mend=f"name only files that are alike in {self.setting}.path, or write the others "
                "anew",
            )
        return SchemaError(
            f"{self.setting} cannot be read as one table",
            got=f"{self._said()}: {first_line(error)}",
            mend=mend,
        )

    def _difference(self) -> str:
        """The first file whose columns are not those of the first, in its order; "" for none."""
        first: list[str] = []
        for path in self.paths:
            names = [n for n in self._scan([path]).collect_schema().names() if n != FILE]
            first = first or names
            for sign, lacking in (
                ("lacks", set(first) - set(names)),
                ("alone has", set(names) - set(first)),
            ):
                if lacking and not (sign == "alone has" and self.kind == "parquet"):
                    return f"{path} {sign} {', '.join(sorted(lacking))}, unlike {self.paths[0]}"
            if names != first and self.kind == "csv":
                return f"{path} has the columns in another order than {self.paths[0]}"
        return ""

    def _check_lines(self) -> None:
        """A CSV's lines must have the header's fields: polars fills or cuts what has not."""
        if self.kind == "csv":
            for path in self.paths:
                check_lines(path, self._dialect(path))

    def _dialect(self, path: str) -> dict[str, Any]:
        settings: dict[str, Any] = {"infer_schema_length": _SAMPLE, "try_parse_dates": False}
        if path.removesuffix(".gz").endswith(".tsv"):
            settings["separator"] = "\t"
        return settings | self.files.csv

    def _in_file(self, file: str, row: int) -> int:
        before = self.paths[: self.paths.index(file)] if file in self.paths else []
        return row - sum(self._scan([p]).select(pl.len()).collect().item() for p in before)

    def _said(self) -> str:
        return self.paths[0] if len(self.paths) == 1 else f"{len(self.paths)} files"

    def _scan(self, paths: list[str]) -> pl.LazyFrame:
        if self.kind == "parquet":
            for path in paths:
                _check_file(path)
            return pl.scan_parquet(
                paths,
                include_file_paths=FILE,
                hive_partitioning=True,
                try_parse_hive_dates=False,
                extra_columns="ignore",
                cast_options=pl.ScanCastOptions(integer_cast="upcast", float_cast="upcast"),
            )
        if self.kind == "ndjson":
            return pl.scan_ndjson(paths, include_file_paths=FILE, infer_schema_length=_SAMPLE)
        settings = self._dialect(paths[0])
        try:
            texts = dict.fromkeys(self._ids, pl.String)
            header = pl.scan_csv(paths[0], **settings).collect_schema().names()
            overrides = {name: texts[name] for name in texts if name in header}
            return pl.scan_csv(
                paths, include_file_paths=FILE, schema_overrides=overrides, **settings
            )
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"{self.setting}.csv is no dialect",
                got=f"{dict(self.files.csv)}: {first_line(error)}",
                expected="arguments of polars.scan_csv, such as separator or quote_char",
            ) from error
        except UNREADABLE as error:
            raise unreadable(paths[0], error) from error

    def _refuse_one_column(self) -> None:
        """One column whose name holds a separator: the dialect is another."""
        if self.kind != "csv" or len(self.columns) != 1:
            return
        for separator in ";\t|,":
            if separator in self.columns[0]:
                raise SchemaError(
                    f"{self.setting} has one column only, separated by something else",
                    got=f"{self.columns[0][:80]!r} in {self.paths[0]}",
                    mend=f"set {self.setting}.csv={{separator: {separator!r}}}",
                )

    def _refuse_twins(self) -> None:
        for name in self.columns:
            before, _, number = name.rpartition("_duplicated_")
            if before in self.columns and number.isdigit():
                raise SchemaError(
                    f"{self.setting} has a column twice", got=f"{before!r} in {self.paths[0]}"
                )


def _check_file(path: str) -> None:
    if "://" in path:
        return  # polars alone reads what lies elsewhere
    try:
        check_parquet(Path(path))
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
