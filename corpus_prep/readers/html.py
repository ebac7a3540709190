"""HTML, by selectolax (the Lexbor parser)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate

from corpus_prep.framing import WHOLE
from corpus_prep.readers.base import Options, RawDocument, Reader, Record, join_lines

_LEFT_OUT = ("script", "style", "noscript", "template", "nav", "form", "pre", "table", "svg", "rt", "rp")
_BLOCKS = "p,div,section,article,header,footer,main,aside,h1,h2,h3,h4,h5,h6,ul,ol,li,dl,dt,dd,blockquote,figure,figcaption,hr,tr,td,title,body"
_PARAGRAPH, _BREAK = "\ufdd0", "\ufdd1"  # non-characters: taken out of the text first, so they mark nothing else
MAX_DEPTH = 5000
"""Of tags that wait for their end: a parser's work grows with the square of it (5 minutes at 300,000)."""
_WAITING = re.compile(
    r"<(/?)(?:div|span|a|b|i|u|em|strong|font|center|section|article|table|ul|ol|dl|blockquote|big|small|code|svg|math|template|nobr|tt|s)\b",
    re.IGNORECASE,
)
_MARKS = re.compile(f"[{_PARAGRAPH}{_BREAK}]")
_END = re.compile(f"{_PARAGRAPH}|{_BREAK}\\s*{_BREAK}")


def _parse(record: Record, options: Options) -> Iterator[RawDocument]:  # noqa: ARG001 - it has no options
    """Yield a file's text; block elements and two line breaks end a paragraph, scripts, tables, menus and forms are left out.

    Example: ``<title>题</title>一。<br><br>二。<p>三。</p>`` -> title "题", paragraphs ("一。", "二。", "三。").
    """
    from selectolax.lexbor import LexborHTMLParser

    if max(accumulate((-1 if tag[1] else 1 for tag in _WAITING.finditer(record.text)), initial=0)) > MAX_DEPTH:
        raise ValueError("tags nested too deeply")
    tree = LexborHTMLParser(_MARKS.sub("", record.text))
    head = tree.css_first("title")
    title = join_lines(head.text().split("\n")) if head is not None else ""
    tree.strip_tags(["title", *_LEFT_OUT])
    body = tree.body
    if body is None:
        raise ValueError("no text in this HTML file")
    for node in body.css("br"):
        node.replace_with(_BREAK)
    for node in body.css(_BLOCKS):
        if node.tag != "body":
            node.insert_before(_PARAGRAPH)
            node.insert_after(_PARAGRAPH)
    parts = _END.split(body.text())
    yield RawDocument("", 0, title, tuple(filter(None, (join_lines(re.split(f"[\n{_BREAK}]", part)) for part in parts))))


HTML = Reader("html", "HTML files, a document each", {}, lambda _: WHOLE, _parse)
