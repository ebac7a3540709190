"""Tables: columns separated by commas or tabs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from corpus_prep.framing import LINES
from corpus_prep.paragraphs import PARAGRAPHS, paragraphs
from corpus_prep.readers.base import Option, Options, RawDocument, Reader, Record
from corpus_prep.rows import HEADER, QUOTES, Row, framing_of

_FIELDS = {
    "text": Option("text", "column of the text, by name or number from 1", column=True),
    "title": Option("", "column of the title, if there is one", column=True),
    "paragraphs": PARAGRAPHS,
    "header": HEADER,
}


def _parse(form: str) -> Callable[[Record, Options], Iterator[RawDocument]]:
    def parse(record: Record, options: Options) -> Iterator[RawDocument]:
        """Yield the document of a row.

        Example (text: 2, csv without header): ``7,"a, b"`` -> paragraphs ("a, b",).
        """
        row = Row(record, form, options)
        yield RawDocument("", 0, row.text(options["title"]), paragraphs(row.text(options["text"]), options["paragraphs"]))

    return parse


CSV = Reader(
    "csv", "columns separated by commas, a document a row", {**_FIELDS, "quotes": QUOTES},
    lambda options: framing_of("csv", options), _parse("csv"), lambda _: "csv",
)  # fmt: skip
TSV = Reader("tsv", "columns separated by tabs, a document a row; quotation marks are text", _FIELDS, lambda _: LINES, _parse("tsv"), lambda _: "tsv")
