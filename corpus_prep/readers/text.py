"""Plain text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from corpus_prep.framing import BLOCKS, HEADINGS, LINES, WHOLE
from corpus_prep.paragraphs import PARAGRAPHS, paragraphs
from corpus_prep.readers.base import Option, Options, RawDocument, Reader, Record

_FRAMINGS = {"blank_line": BLOCKS, "file": WHOLE, "line": LINES, "heading": HEADINGS}
_HEADING = re.compile(r"= (.*) =")


def _parse(record: Record, options: Options) -> Iterator[RawDocument]:
    """Yield the document of a record.

    Example: ``一。\\n二。`` -> paragraphs ("一。", "二。").
    """
    text = record.text.removeprefix("\ufeff")
    title = ""
    heading = options["documents"] == "heading" and _HEADING.fullmatch(text.lstrip().split("\n", 1)[0].strip())
    if heading or options["title"] == "first_line":
        title, _, text = text.lstrip().partition("\n")
        title = heading[1] if heading else title.strip()
    yield RawDocument("", 0, title, paragraphs(text, options["paragraphs"]))


TEXT = Reader(
    "text",
    "plain text, a blank line between documents",
    {
        "documents": Option("blank_line", "what is a document: lines up to a blank one, a file, a line, lines from a heading `= Title =` on (WikiText)", tuple(_FRAMINGS)),
        "paragraphs": PARAGRAPHS,
        "title": Option("none", "whether a document's first line is its title", ("none", "first_line")),
    },
    lambda options: _FRAMINGS[options["documents"]],
    _parse,
)  # fmt: skip
