"""What a reader is: options, how bytes are cut into records, and how a record becomes documents. One reader a file beside this one."""

from __future__ import annotations

import functools
import importlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from corpus_prep.framing import Framing
from ernie_core.errors import RecipeError, closest
from ernie_core.registry import scan

Options = Mapping[str, Any]
FIRST_CJK = "\u2e80"
"""From here on scripts and marks are written without spaces (Korean is, and is not meant here)."""
MAX_JSON_DEPTH = 100
_JSON_STRING, _JSON_MARK = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL), re.compile(r"[\[\]{}]")


@dataclass(frozen=True)
class RawDocument:
    """A document as it stands in its file.

    Args:
        work: the file's name, or what the corpus counts as one work.
        offset: byte where it begins; of a Parquet file the row.
        title: "" for none.
        paragraphs: see `schemas.Document`, as `kind`, `roles` and `label`.
        words: for each paragraph its words, none empty, where the file has them cut already; () where the segmenter is to cut.
    """

    work: str
    offset: int
    title: str
    paragraphs: tuple[str, ...]
    kind: str = "text"
    roles: tuple[str, ...] = ()
    label: str = ""
    words: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Reject:
    """A record that is no document: where, why, its first 80 bytes, and the encoding it seems to have, if any."""

    path: str
    offset: int
    reason: str
    head_hex: str
    encoding: str


@dataclass(frozen=True)
class Option:
    """What a recipe may say to a reader.

    Args:
        default: also says the type: text, true or false.
        about: its meaning.
        choices: the only values, if any are listed.
        column: it names a field: a key, or in a table a column's name or number from 1; "" for none.
        scalar: a field that may hold numbers.
    """

    default: str | bool
    about: str
    choices: tuple[str, ...] = ()
    column: bool = False
    scalar: bool = False

    def allows(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        return type(value) is type(self.default) or (self.column and type(value) is int and value > 0)

    @property
    def valid(self) -> str:
        if self.choices:
            return ", ".join(self.choices)
        return "a name, or a column's number from 1" if self.column else "true or false" if isinstance(self.default, bool) else "text"


@dataclass(frozen=True)
class Record:
    """One record, decoded. `columns`: the header of its table, () without one."""

    text: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reader:
    """How the files of a corpus are read.

    Args:
        name: as the recipe says it.
        about: what the files look like.
        options: what a recipe may say, by name.
        framing: options -> how a file is cut into records.
        parse: (record, options) -> its documents, with neither work nor offset; raises ValueError with the reason of a rejection.
        row_format: options -> one of `rows.FORMATS`, or "" where records are no rows.
    """

    name: str
    about: str
    options: Mapping[str, Option]
    framing: Callable[[Options], Framing]
    parse: Callable[[Record, Options], Iterable[RawDocument]]
    row_format: Callable[[Options], str] = lambda _: ""

    def complete(self, options: Options) -> dict[str, Any]:
        """Return the defaults overlaid with a recipe's options.

        Raises:
            RecipeError: E-READER-OPTION, an unknown option or a value that it cannot take.

        Example: ``csv.complete({"text": 2})`` -> ``{"text": 2, "title": "", "header": True, …}``.
        """
        for name, value in options.items():
            if name not in self.options:
                valid = closest(name, self.options) or "none: this reader has no options"
                raise RecipeError(
                    "E-READER-OPTION", f"reader {self.name} has no option {name!r}", expected=valid, fix="correct or remove it in the recipe"
                )
            if not self.options[name].allows(value):
                raise RecipeError("E-READER-OPTION", f"option {name} of reader {self.name}", expected=self.options[name].valid, found=repr(value))
        complete = {**{name: option.default for name, option in self.options.items()}, **options}
        self._check_columns(complete)
        return complete

    def _check_columns(self, options: Options) -> None:
        """Numbers name columns of tables only, and names those of a header only."""
        table = self.row_format(options) in {"csv", "tsv"}
        for name, value in ((name, options[name]) for name, option in self.options.items() if option.column and options[name] != ""):
            expected = ""
            if isinstance(value, int) and not table:
                expected = "a name: only csv and tsv have columns by number"
            elif isinstance(value, str) and table and not options["header"]:
                expected = "a column's number, since header is false"
            if expected:
                raise RecipeError("E-READER-OPTION", f"option {name} of reader {self.name}", expected=expected, found=repr(value))

    def columns(self, options: Options) -> dict[str, bool]:
        """Return the named fields that a table must have -> whether numbers will do."""
        return {
            options[name]: option.scalar
            for name, option in self.options.items()
            if option.column and isinstance(options[name], str) and options[name]
        }

    def explain(self) -> list[str]:
        """Return one line for the reader and one for each option."""
        lines = [f"{self.name}: {self.about}"]
        for name, option in self.options.items():
            choices = f" ({', '.join(option.choices)})" if option.choices else ""
            lines.append(f"  {name}: {option.about}{choices}; default {str(option.default).lower() or 'none'}")
        return lines


@functools.lru_cache(maxsize=1)
def all_readers() -> dict[str, Reader]:
    """Return every reader by its name."""
    return scan(importlib.import_module("corpus_prep.readers"), Reader)


def join_words(words: Iterable[str]) -> list[str]:
    """Return words with a space as a word of its own wherever the text between them had one: not beside Chinese characters or marks.

    Example: ``join_words(["用", "Word", "写", "Hello", "World"])`` -> ``["用", "Word", "写", "Hello", " ", "World"]``.
    """
    joined: list[str] = []
    for word in words:
        if joined and max(joined[-1][-1], word[0]) < FIRST_CJK:
            joined.append(" ")
        joined.append(word)
    return joined


def join_lines(lines: Iterable[str]) -> str:
    """Return lines as one text: a space between two, but not beside Chinese characters or marks.

    Example: ``join_lines(["他说", "你好。", "Good", "day"])`` -> ``"他说你好。Good day"``.
    """
    return "".join(join_words(line for line in map(str.strip, lines) if line))


def parse_json(text: str) -> Any:
    """Return a JSON value of at most 100 levels. (json's own bound is what is left of Python's stack, which is another in every process.)

    Raises:
        ValueError: no JSON, or nested deeper.

    Example: ``parse_json('{"a": [1]}')`` -> ``{"a": [1]}``.
    """
    if text.count("[") + text.count("{") > MAX_JSON_DEPTH:
        marks = _JSON_MARK.findall(_JSON_STRING.sub("", text))
        if max(accumulate(1 if mark in "[{" else -1 for mark in marks), default=0) > MAX_JSON_DEPTH:
            raise ValueError("nested too deeply")
    return json.loads(text)


def no_surrogates(values: Iterator[str]) -> None:
    """Raise ValueError where JSON's escapes left half a character (reliability F48)."""
    try:
        for value in values:
            value.encode()
    except UnicodeEncodeError:
        raise ValueError("lone surrogate") from None
