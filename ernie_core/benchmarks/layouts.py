"""Tables in which rows are published: tab-separated or CSV, with a header or without (ernie.md 7.1, 7.3). For JSON see `json_layouts`."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ernie_core.benchmarks.base import OWN_FILES, Benchmark, Subset, bad_row, empty
from ernie_core.benchmarks.columns import Columns
from ernie_core.benchmarks.packed import existing, file_text
from ernie_core.errors import InputError, printable


@dataclass(frozen=True)
class Table(Columns):
    """A table, one row a line; only "\\n" ends a line, and quote characters mean nothing unless `quoted`.

    Args:
        header: whether the first line names the columns; without one `columns` are numbers.
        delimiter: between fields.
        quoted: fields may stand in double quotes and then hold delimiters, line ends and doubled quotes (CSV).
        encoding: of the file.
        others: whether the header may name columns that are not ours.
        widths: how many fields a row may have; () for as many as the header has, or as the last numbered column asks for.
        where: column -> its value in our rows; other rows, such as other languages, belong to something else.

    Example: ``Table({"label": "label", "text_a": "text_a"})`` reads ``label\\ttext_a\\n1\\t好\\n`` as ``Subset((Example(("好",), (1,), id="0"),))``.
    """

    header: bool = True
    delimiter: str = "\t"
    quoted: bool = False
    encoding: str = "utf-8"
    others: bool = True
    widths: tuple[int, ...] = ()
    where: Mapping[str, str] = field(default_factory=dict)

    def read(self, path: Path, benchmark: Benchmark) -> Subset:
        """Read one file.

        Raises:
            InputError: E-BENCH-MISSING, E-BENCH-PACKED, E-BENCH-EMPTY, E-BENCH-HEADER, E-BENCH-ROW (number of fields, encoding, text, label).
        """
        return self.parse(file_text(path, self.encoding), existing(path), benchmark)

    def parse(self, text: str, path: Path, benchmark: Benchmark) -> Subset:
        """Read a file's text; errors are those of `read`."""
        if not text.strip():
            raise empty(benchmark, path, found="an empty file")
        records = self._records(text, path, benchmark)
        header = next(records, (1, []))[1] if self.header else []
        try:
            places = self.places(header)
        except ValueError as e:
            raise wrong_header(benchmark, path, *e.args) from None
        widths = self.widths or (len(header) if self.header else max(places.values()) + 1,)
        chosen = {header.index(column): value for column, value in self.where.items()}
        ours = ((f"{path}:{n}", r) for n, r in records if len(r) not in widths or all(r[i] == v for i, v in chosen.items()))

        def values(record: Sequence[str]) -> dict[str, str]:
            if len(record) not in widths:
                raise ValueError(f"{' or '.join(map(str, widths))} columns", f"{len(record)}: {self.delimiter.join(record)}")
            return {name: record[i] for name, i in places.items()}

        return self.collect(ours, values, path, benchmark)

    def fits(self, text: str) -> bool:
        """Say whether the first line of a text names these columns; a table without header fits any."""
        try:
            self.places(text.split("\n", 1)[0].split(self.delimiter) if self.header else [])
        except ValueError:
            return False
        return True

    def places(self, header: Sequence[str]) -> dict[str, int]:
        """Return where each field stands; ValueError(columns expected, columns found) where the header does not name it once."""
        found = {f: c if isinstance(c, int) else header.index(c) for f, c in self.read_columns.items() if isinstance(c, int) or c in header}
        missing = [f for f in self.read_columns if f not in found and f not in self.optional]
        named = [*(self.columns[f] for f in found), *self.where]
        absent = missing or any(isinstance(c, str) and header.count(c) != 1 for c in named)
        if absent or (not self.others and set(header) - set(self.columns.values())):
            raise ValueError(self.expected, " TAB ".join(header) or "nothing")
        return found

    @property
    def expected(self) -> str:
        """The header in words."""
        needed = [str(c) for f, c in self.read_columns.items() if f not in self.optional]
        more = [str(c) for f, c in self.read_columns.items() if f in self.optional]
        return " TAB ".join([*needed, *self.where]) + (f" (and {', '.join(more)} if there)" if more else "") + " in any order"

    def _records(self, text: str, path: Path, benchmark: Benchmark) -> Iterator[tuple[int, list[str]]]:
        """Yield (number of the record's first line, its fields)."""
        lines = text.removesuffix("\n").split("\n") if text else []
        if not self.quoted:
            yield from ((number, line.split(self.delimiter)) for number, line in enumerate(lines, 1))
            return
        reader = csv.reader((line + "\n" for line in lines), delimiter=self.delimiter, strict=True)
        start = 1
        try:
            for record in reader:
                yield start, record
                start = reader.line_num + 1
        except csv.Error as e:
            raise bad_row(benchmark, f"{path}:{start}", "CSV, a quote inside a quoted field doubled", str(e)) from None


@dataclass(frozen=True)
class Either:
    """Tables that stand under one file name, such as the publisher's dev.tsv and ERNIE's: the first whose header fits is read.

    Args:
        tables: of one encoding; one without header stands last, where nothing else fits.
    """

    tables: tuple[Table, ...]

    def read(self, path: Path, benchmark: Benchmark) -> Subset:
        """Read one file; errors are those of `Table.read`."""
        text = file_text(path, self.tables[0].encoding)
        for table in self.tables:
            if table.fits(text) or not text.strip():
                return table.parse(text, existing(path), benchmark)
        expected = "; or ".join(t.expected for t in self.tables)
        raise wrong_header(benchmark, existing(path), expected, " TAB ".join(text.split("\n", 1)[0].split("\t")) or "nothing")


_OR_SAY = "; or say under custom which column is what: `columns: {text_a: NAME, label: NAME}`, or `header: false` and numbers from 0"


def wrong_header(benchmark: Benchmark, path: Path, expected: str, found: str) -> InputError:
    """Return the error of a first line that does not name the columns."""
    return InputError(
        "E-BENCH-HEADER", f"the first line of benchmark {benchmark.name} must name its columns", where=f"{path}:1",
        expected=expected, found=printable(found), fix="correct the file's first line" + (_OR_SAY if benchmark.source == OWN_FILES else ""),
    )  # fmt: skip


def unlabelled(table: Table) -> Table:
    """Return the same table for files whose labels are hidden."""
    return replace(table, labelled=False)


ERNIE_TEXT = Table({"label": "label", "text_a": "text_a", "id": "qid"}, optional=("id",), others=False)
ERNIE_PAIR = Table({"label": "label", "text_a": "text_a", "text_b": "text_b", "id": "qid"}, optional=("id",), others=False)
ERNIE = Table({"label": "label", "text_a": "text_a", "text_b": "text_b", "group": "qid"}, optional=("text_b", "group"), others=False)
