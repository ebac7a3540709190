"""What a reader gives: documents as they stand in their file, and records that are none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


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


FIRST_CJK = "\u2e80"
"""From here on scripts and marks are written without spaces (Korean is, and is not meant here)."""
