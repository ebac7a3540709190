"""Queries with titles of results, clicked or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from corpus_prep.readers.base import Option, Options, RawDocument, Reader, Record
from corpus_prep.rows import HEADER, QUOTES, Row, format_of, format_option, framing_of


def _parse(record: Record, options: Options) -> Iterator[RawDocument]:
    """Yield a query and its titles; roles are "query", then "clicked" or "shown", or "title" without click labels.

    Example (tsv without header; query: 1, title: 2, clicked: 3): ``天气 TAB 北京天气预报 TAB 1`` -> paragraphs ("天气", "北京天气预报"),
    roles ("query", "clicked").
    """
    row = Row(record, options["format"], options)
    titles = row.texts(options["title"])
    roles = ["title"] * len(titles)
    if options["clicked"] != "":
        value = row.field(options["clicked"])
        clicks = [_clicked(item) for item in (value if isinstance(value, list) else [value])]
        if len(clicks) != len(titles):
            raise ValueError(f"{len(titles)} titles and {len(clicks)} click labels")
        roles = ["clicked" if click else "shown" for click in clicks]
    yield RawDocument("", 0, "", (row.text(options["query"]), *titles), "query", ("query", *roles))


def _clicked(value: Any) -> bool:
    number = str(value).strip().lower()
    if number in {"0", "1", "true", "false"}:
        return number in {"1", "true"}
    raise ValueError("a click label that is not 0 or 1")


QUERY_TITLE = Reader(
    "query_title",
    "queries with the titles that were shown for them",
    {
        "format": format_option(),
        "query": Option("query", "field of the query", column=True),
        "title": Option("title", "field of the title, or of a list of titles", column=True),
        "clicked": Option("", "field of 0 or 1, or of a list of them: was the title clicked", column=True, scalar=True),
        "header": HEADER,
        "quotes": QUOTES,
    },
    lambda options: framing_of(format_of(options), options),
    _parse,
    format_of,
)
