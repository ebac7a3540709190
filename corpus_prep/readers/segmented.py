"""Text that is cut into words already."""

from __future__ import annotations

from collections.abc import Iterator

from corpus_prep.framing import BLOCKS, LINES, WHOLE
from corpus_prep.readers.base import Option, Options, RawDocument, Reader, Record

_FRAMINGS = {"blank_line": BLOCKS, "file": WHOLE, "line": LINES}


def _parse(record: Record, options: Options) -> Iterator[RawDocument]:
    """Yield the document of a record; its words are kept as they are.

    Example (tags: /): ``迈向/v  新/a  世纪/n`` -> paragraphs ("迈向新世纪",), words (("迈向", "新", "世纪"),).
    """
    mark = options["tags"]
    lines = [tuple(_word(item, mark) for item in line.split()) for line in record.text.removeprefix("\ufeff").split("\n")]
    words = tuple(tuple(filter(None, line)) for line in lines if line)
    yield RawDocument("", 0, "", tuple(map("".join, words)), words=words)


def _word(item: str, mark: str) -> str:
    return item.rpartition(mark)[0] if mark and mark in item else item


SEGMENTED = Reader(
    "segmented",
    "text cut into words by spaces, a paragraph a line; the words are kept, no segmenter runs",
    {
        "documents": Option("blank_line", "what is a document: lines up to a blank one, a file, a line", tuple(_FRAMINGS)),
        "tags": Option("", "what stands between a word and its part of speech, as / in 世纪/n; the tag is left out"),
    },
    lambda options: _FRAMINGS[options["documents"]],
    _parse,
)
