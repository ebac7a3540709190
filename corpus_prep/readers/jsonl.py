"""JSON lines, and rows of Parquet files."""

from __future__ import annotations

from collections.abc import Iterator

from corpus_prep.framing import LINES, ROWS
from corpus_prep.paragraphs import PARAGRAPHS, paragraphs
from corpus_prep.readers.base import Option, Options, RawDocument, Reader, Record
from corpus_prep.rows import Row

_FIELDS = {
    "text": Option("text", "field of the text, with a line break between paragraphs, or a list of paragraphs", column=True),
    "title": Option("", "field of the title; where it is missing or null there is none", column=True),
    "paragraphs": PARAGRAPHS,
}


def _parse(record: Record, options: Options) -> Iterator[RawDocument]:
    """Yield the document of a row.

    Example (title: title): ``{"title": "T", "text": "a\\nb"}`` -> title "T", paragraphs ("a", "b").
    """
    row = Row(record, "jsonl", options)
    title = row.text(options["title"], "")
    texts = row.texts(options["text"])
    yield RawDocument("", 0, title, tuple(p for text in texts for p in paragraphs(text, options["paragraphs"])))


JSONL = Reader("jsonl", "JSON lines, a document each", _FIELDS, lambda _: LINES, _parse, lambda _: "jsonl")
PARQUET = Reader("parquet", "Parquet files, a document a row", _FIELDS, lambda _: ROWS, _parse, lambda _: "parquet")
