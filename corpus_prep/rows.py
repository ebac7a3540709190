"""Rows of JSON lines, Parquet and CSV: one way to ask for a field, whatever holds it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import Any

from corpus_prep.framing import LINES, QUOTED, ROWS, Framing
from corpus_prep.readers.base import Option, Options, Record, no_surrogates, parse_json

csv.field_size_limit(1 << 30)  # records are bounded before they come here
FORMATS: dict[str, Framing] = {"jsonl": LINES, "parquet": ROWS, "csv": QUOTED, "tsv": LINES}
TABLES = ("csv", "tsv")
HEADER = Option(True, "csv and tsv: the first line names the columns; without, give columns by number")
QUOTES = Option(True, 'csv: a field may stand in "", with line breaks in it')


def format_option(*others: str, default: str = "jsonl") -> Option:
    return Option(default, "what a record is: a JSON line, a row of a table, a row of a Parquet file", (*FORMATS, *others))


def format_of(options: Options) -> str:
    """Return the format that a recipe chose, for readers that leave the choice."""
    return str(options["format"])


def framing_of(form: str, options: Options) -> Framing:
    """Return how files of a format are cut."""
    return LINES if form == "csv" and not options["quotes"] else FORMATS[form]


def cells(text: str, form: str, options: Options) -> list[str]:
    """Return the cells of a table's row.

    Raises:
        ValueError: quotation marks that do not fit.

    Example: ``cells('a,"b ""c"", d"', "csv", {"quotes": True})`` -> ``["a", 'b "c", d']``.
    """
    if form == "tsv":
        return text.split("\t")
    if not options["quotes"]:
        return text.split(",")
    try:
        return next(csv.reader([text], strict=True))
    except csv.Error as e:
        raise ValueError(f"no row of a CSV file ({e})") from e


class Row:
    """One row; `field` gives a value by key, column name, or column number from 1."""

    def __init__(self, record: Record, form: str, options: Options) -> None:
        self._values: Mapping[str | int, Any]
        text = record.text.removeprefix("\ufeff")
        if form in TABLES:
            found = cells(text, form, options)
            if record.columns and len(found) != len(record.columns):
                raise ValueError(f"{len(found)} columns where the header has {len(record.columns)}")
            self._values = {**dict(enumerate(found, 1)), **dict(zip(record.columns, found, strict=False))}
            return
        value = parse_json(text)
        if not isinstance(value, dict):
            raise ValueError("no JSON object")  # noqa: TRY004 - every rejection is a ValueError
        self._values = value

    def field(self, name: str | int) -> Any:
        if name not in self._values:
            raise ValueError(f"no field {name!r}")
        return self._values[name]

    def text(self, name: str | int, default: str | None = None) -> str:
        """Return a field that must be text; "" if no field is asked for; `default`, if given, where it is missing or null."""
        if name == "":
            return ""
        value = self._values.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise ValueError(f"no text under the key {name!r}")  # noqa: TRY004
        no_surrogates(iter([value]))
        return value

    def scalar(self, name: str | int) -> str:
        """Return a field that is text, a number or true or false, as text; "" if none is asked for."""
        value = "" if name == "" else self.field(name)
        if not isinstance(value, str | int | float):
            raise ValueError(f"no text or number under the key {name!r}")  # noqa: TRY004
        return str(value).strip()

    def texts(self, name: str | int) -> list[str]:
        """Return a field that is text, or a list of texts."""
        value = self.field(name)
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(v, str) for v in values):
            raise ValueError(f"no text or list of texts under the key {name!r}")
        no_surrogates(iter(values))
        return values
