"""Lines and encodings of text files, and whose fault it is that they cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from recomind.errors import SchemaError


def unreadable(path: str | Path, error: BaseException) -> SchemaError:
    """A file that polars cannot read, with the line where text is at fault."""
    line = _line_not_utf8(Path(path))
    if line is not None:
        return SchemaError(
            "a file holds bytes that are not UTF-8",
            got=f"{path}, line {line}",
            mend="convert it, such as with iconv, or set csv.encoding=utf8-lossy",
        )
    return SchemaError(
        "a file cannot be read",
        got=f"{path}: {first_line(error)}",
        mend="it may be cut, of another format, or have columns of other types than its neighbours",
    )


def check_lines(path: str, dialect: dict[str, Any]) -> None:
    """Raise SchemaError at the first line of a CSV with too few or too many fields.

    A line with quotes is looked at only where the quotes of the whole file do not pair.
    """
    separator, quote = dialect.get("separator", ","), dialect.get("quote_char", '"')
    if "://" in path or len(separator) != 1 or dialect.get("truncate_ragged_lines"):
        return
    line = pl.col("line")
    lines = (
        pl.scan_csv(
            path,
            has_header=False,
            separator="\x1f",
            quote_char=None,
            infer_schema=False,
            new_columns=["line"],
            encoding="utf8-lossy",
            skip_rows=dialect.get("skip_rows", 0),
        )
        .select(line.fill_null(""))
        .with_row_index("number", offset=1)
    )
    fields = line.str.count_matches(separator, literal=True)
    quotes = line.str.count_matches(quote, literal=True) if quote else pl.lit(0)
    header = lines.filter(line != "").head(1).select(fields).collect().item()
    pairs = lines.select((quotes.sum() % 2) == 0).collect(engine="streaming").item()
    wrong = (line != "") & (quotes == 0) & (fields != header)
    why = f"expected {header + 1} fields"
    if not pairs:
        wrong, why = quotes % 2 == 1, f"a {quote} that nothing closes"
    bad = lines.filter(wrong).head(1).collect(engine="streaming")
    if bad.height:
        raise SchemaError(
            "a line of a file does not fit its header",
            got=f"{path}, line {bad['number'][0]}: {bad['line'][0][:120]!r}, {why}",
            mend="mend the line, or say how the file is written in csv: {separator, quote_char}",
        )


def check_encoding(path: str) -> None:
    """UTF-16 begins with a mark, and its columns would have odd names."""
    if "://" in path:
        return
    with Path(path).open("rb") as file:
        if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise SchemaError("a file is UTF-16", got=path, mend="convert it to UTF-8, as by iconv")


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _line_not_utf8(path: Path) -> int | None:
    """The first line, from 1, that is no UTF-8; None where all are, or it is no text file."""
    if path.suffix not in (".csv", ".tsv", ".txt", ".ndjson", ".jsonl") or not path.is_file():
        return None
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return None
