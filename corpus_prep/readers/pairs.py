"""Pairs of sentences."""

from __future__ import annotations

from collections.abc import Iterator

from corpus_prep.readers.base import Option, Options, RawDocument, Reader, Record
from corpus_prep.rows import HEADER, QUOTES, Row, format_of, format_option, framing_of


def _parse(record: Record, options: Options) -> Iterator[RawDocument]:
    """Yield a pair, with its label as the file has it.

    Example (jsonl; label: label): ``{"sentence1": "甲", "sentence2": "乙", "label": 1}`` -> paragraphs ("甲", "乙"), label "1".
    """
    row = Row(record, options["format"], options)
    texts = (row.text(options["sentence1"]), row.text(options["sentence2"]))
    yield RawDocument("", 0, "", texts, "pair", ("sentence1", "sentence2"), row.scalar(options["label"]))


PAIRS = Reader(
    "pairs",
    "pairs of sentences, labelled or not",
    {
        "format": format_option(default="tsv"),
        "sentence1": Option("sentence1", "field of the first sentence", column=True),
        "sentence2": Option("sentence2", "field of the second", column=True),
        "label": Option("", "field of the label", column=True, scalar=True),
        "header": HEADER,
        "quotes": QUOTES,
    },
    lambda options: framing_of(format_of(options), options),
    _parse,
    format_of,
)
