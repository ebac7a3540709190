"""Markdown, by markdown-it."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from corpus_prep.framing import WHOLE
from corpus_prep.paragraphs import paragraphs
from corpus_prep.readers.base import Option, Options, RawDocument, Reader, Record, join_lines

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

MOSTLY_LINKS = 0.5
MAX_BRACKETS = 10_000
"""In one paragraph: a parser's work grows with the square of those that are not closed."""
_URL = re.compile(r"(?:https?|ftp)://[^\s<>()（）]+")
_RUBY = re.compile(r"<(/?)r[tp]\b")


@functools.lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"maxNesting": 100}).enable("table")


def _parse(record: Record, options: Options) -> Iterator[RawDocument]:
    """Yield a file's headings, paragraphs and list items as paragraphs; code, tables, images and blocks of mostly links are left out.

    Example: ``# 题\\n\\n用 `ls` [看][1]。\\n\\n    code\\n`` -> title "题", paragraphs ("用 ls 看。",).
    """
    if max(block.count("[") for block in record.text.split("\n\n")) > MAX_BRACKETS:
        raise ValueError("too many brackets in a paragraph")
    title = ""
    found: list[str] = []
    tokens = _parser().parse(record.text.removeprefix("\ufeff"))
    tables = 0
    for before, token in zip([None, *tokens], tokens, strict=False):
        tables += token.nesting if token.type in {"table_open", "table_close"} else 0
        if token.type in {"fence", "code_block"} and options["code"] == "text":
            found += paragraphs(token.content, "wrapped")
        elif token.type == "inline" and not tables:
            text, linked = _inline(token.children or [])
            if linked >= MOSTLY_LINKS * len(text):
                continue
            if not title and not found and before is not None and before.tag == "h1":
                title = text
            else:
                found.append(text)
    yield RawDocument("", 0, title, tuple(found))


def _inline(children: Sequence[Token]) -> tuple[str, int]:
    """Return the text of a paragraph, and how many of its characters are a link's text or a URL."""
    lines = [""]
    links = hidden = linked = 0
    for child in children:
        if child.type in {"link_open", "link_close"}:
            links += child.nesting
        elif child.type == "html_inline" and (tag := _RUBY.match(child.content)):
            hidden = max(0, hidden + (-1 if tag[1] else 1))  # the reading beside a ruby word
        elif child.type in {"softbreak", "hardbreak"}:
            lines.append("")
        elif child.type in {"text", "code_inline"} and not hidden:
            lines[-1] += child.content
            linked += len(child.content) if links else sum(len(m.group()) for m in _URL.finditer(child.content))
    return join_lines(lines), linked


MARKDOWN = Reader(
    "markdown",
    "Markdown files, a document each; code, tables, images and link lists are left out",
    {
        "code": Option(
            "drop", "code blocks: drop; text: keep their lines, those of equal width joined, where a whole text stands in one", ("drop", "text")
        )
    },
    lambda _: WHOLE,
    _parse,
)
