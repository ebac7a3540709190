"""Conversations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from corpus_prep.framing import CONVERSATIONS, WHOLE, Framing
from corpus_prep.readers.base import FIRST_CJK, Option, Options, RawDocument, Reader, Record, no_surrogates, parse_json
from corpus_prep.rows import FORMATS, Row, format_of

_OTHERS = {"marks": CONVERSATIONS, "json": WHOLE}


def _parse(record: Record, options: Options) -> Iterator[RawDocument]:
    """Yield the conversations of a record; a turn is a paragraph, its speaker the role.

    Example (jsonl): ``{"turns": [{"speaker": "A", "text": "你好"}, {"speaker": "B", "text": "好"}]}`` -> paragraphs ("你好", "好"),
    roles ("A", "B"). marks: ``E\\nM 你好\\nM 好``. tsv: ``你好 TAB 好``. json: ``{"train": [["你好", "好"]]}``.
    """
    text = record.text.removeprefix("\ufeff")
    if options["format"] == "tsv":
        yield _document([("", turn) for turn in text.split("\t")], options)
    elif options["format"] == "marks":
        yield _document([("", line[2:]) for line in map(str.strip, text.split("\n")) if line.startswith("M ")], options)
    elif options["format"] == "json":
        found = list(_lists(parse_json(text)))
        if not found:
            raise ValueError("no list of turns in this file")
        yield from (_document([("", turn) for turn in turns], options) for turns in found)
    else:
        turns = Row(record, options["format"], options).field(options["turns"])
        if not isinstance(turns, list) or not turns:
            raise ValueError(f"no list of turns under the key {options['turns']!r}")
        yield _document([_turn(turn, options) for turn in turns], options)


def _turn(turn: Any, options: Options) -> tuple[str, str]:
    if isinstance(turn, str):
        return "", turn
    text = turn.get(options["text"]) if isinstance(turn, dict) else None
    speaker = turn.get(options["speaker"], "") if isinstance(turn, dict) else None
    if not isinstance(text, str) or not isinstance(speaker, str | int):
        raise ValueError(f"a turn without {options['text']!r}, or whose {options['speaker']!r} is no name")  # noqa: TRY004
    return str(speaker), text


def _lists(value: Any) -> Iterator[list[str]]:
    """Yield every list of texts in a JSON value, at any depth."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list) and item and all(isinstance(turn, str) for turn in item):
            yield item
        elif isinstance(item, list | dict):
            waiting += reversed(list(item.values()) if isinstance(item, dict) else item)


def _document(turns: Iterable[tuple[str, str]], options: Options) -> RawDocument:
    speakers, texts = zip(*turns, strict=True) if (turns := list(turns)) else ((), ())
    no_surrogates(iter(texts))
    if options["spaced"]:
        texts = tuple(map(_together, texts))
    return RawDocument("", 0, "", tuple(texts), "dialogue", tuple(speakers))


def _together(text: str) -> str:
    """Return text whose characters stood apart; Latin words keep a space between them, digits do not.

    Example: ``_together("我 有 1 0 个 iPhone case")`` -> ``"我有10个iPhone case"``.
    """
    joined = ""
    single = False
    for item in text.split():
        apart = joined and max(joined[-1], item[0]) < FIRST_CJK and not (single and len(item) == 1)
        joined += " " + item if apart else item
        single = len(item) == 1
    return joined


def _framing(options: Options) -> Framing:
    form = format_of(options)
    return _OTHERS[form] if form in _OTHERS else FORMATS[form]


DIALOGUE = Reader(
    "dialogue",
    "conversations, turn by turn, with speakers or without",
    {
        "format": Option("jsonl", "jsonl or parquet: a conversation a row; json: lists of turns anywhere in a file; tsv: turns separated by tabs; "
                         "marks: a line E before each conversation, M before each turn", ("jsonl", "parquet", "json", "tsv", "marks")),
        "turns": Option("turns", "jsonl and parquet: field of the turns: texts, or objects with a text and a speaker", column=True),
        "text": Option("text", "key of a turn's text"),
        "speaker": Option("speaker", "key of a turn's speaker"),
        "spaced": Option(False, "characters are separated by spaces, as in LCCC: put them together"),
    },
    _framing,
    _parse,
    lambda options: "" if options["format"] == "tsv" else str(options["format"]),
)  # fmt: skip
