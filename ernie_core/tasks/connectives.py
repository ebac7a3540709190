"""Connectives by relation, from the lists in `data/`: which one opens a text, what of it must go, and whether a text holds any."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

LANGUAGES = ("zh", "en")
_FOLLOWING = r"(?:[呢嘛啊呀](?=[，,]))?[，,、：:\s]*"
Range = tuple[int, int]


@dataclass(frozen=True)
class Connectives:
    """A language's list.

    Args:
        markers: those that open a second half, as the file lists them.
        group_of: marker -> its relation.
        partners: marker -> what goes from the first half with it.
        groups: the relations, as the file lists them.
        opening: matches the longest marker, or what only begins like one, at a place.
        anywhere: finds any marker or partner.
        short_opening: matches what stands before the comma that a text without a connective loses.
        min_words: between white space, that a half must keep: of fewer, in English, nothing can be said.
    """

    markers: tuple[str, ...]
    group_of: Mapping[str, str]
    partners: Mapping[str, tuple[str, ...]]
    groups: tuple[str, ...]
    opening: re.Pattern[str]
    anywhere: re.Pattern[str]
    short_opening: re.Pattern[str]
    min_words: int

    def marker_of(self, text: str) -> str:
        """Return the longest marker that a text opens with, "" for none.

        Where something longer of the list that is no connective stands there (only one, so far), there is none.

        Example: ``load_connectives("zh").marker_of("而且他来了。")`` -> ``"而且"``, not 而.
        """
        match = self.opening.match(text)
        return match.group() if match and match.group() in self.group_of else ""

    def without_marker(self, text: str, marker: str) -> list[Range]:
        """Return what is left of a second half: without the marker, wherever it stands, and the commas, colons and spaces behind it.

        Example: ``without_marker("但是，他来了，但是没说。", "但是")`` -> ``[(3, 7), (9, 12)]``, 他来了，没说。
        """
        return _left(text, _occurrences((marker,)))

    def without_partners(self, text: str, marker: str) -> list[Range]:
        """Return what is left of a first half without the partners of the second's marker.

        Example: ``without_partners("他虽然来了，", "但是")`` -> ``[(0, 1), (3, 6)]``, 他来了，
        """
        partners = self.partners[marker]
        return _left(text, _occurrences(partners)) if partners else [(0, len(text))]

    def without_comma(self, text: str) -> list[Range]:
        """Return what is left of a second half without a connective: a comma behind an opening of 4 characters, or an English word, goes.

        Example: ``without_comma("当天，他来了。")`` -> ``[(0, 2), (3, 7)]``.
        """
        match = self.short_opening.match(text)
        return [(0, match.end()), (match.end() + 1, len(text))] if match else [(0, len(text))]


def _left(text: str, unwanted: re.Pattern[str]) -> list[Range]:
    kept, start = [], 0
    for match in unwanted.finditer(text):
        if match.start() > start:
            kept.append((start, match.start()))
        start = match.end()
    return [*kept, (start, len(text))] if start < len(text) else kept


def _pattern(words: Iterable[str], after: str = "", ahead: Mapping[str, str] = MappingProxyType({})) -> re.Pattern[str]:
    """Return what matches the longest of the words; of Latin letters only whole words; one with an `ahead` only before what that matches."""
    longest = sorted(words, key=lambda word: (-len(word), word))
    found = f"(?:{'|'.join(re.escape(word) + ahead.get(word, '') for word in longest)})"
    return re.compile((rf"(?<![\w'’-]){found}(?![\w'’-])" if longest[0].isascii() else found) + after)


@functools.lru_cache(maxsize=1 << 10)
def _occurrences(words: tuple[str, ...]) -> re.Pattern[str]:
    return _pattern(words, _FOLLOWING)


@functools.lru_cache(maxsize=len(LANGUAGES))
def load_connectives(language: str) -> Connectives:
    """Return the list of "zh" or "en", from data/connectives_*.txt: group (- for what is none), marker, partners, next words, separated by tabs."""
    text = (Path(__file__).parent / "data" / f"connectives_{language}.txt").read_text(encoding="utf-8")
    rows = [(line + "\t\t").split("\t")[:4] for line in text.splitlines() if line and not line.startswith("#")]
    others_too = [marker for _, marker, *_ in rows]
    ahead = {marker: _ahead(following.split(";")) for *_, marker, _, following in rows if following}
    rows = [row for row in rows if row[0] != "-"]
    partners = {marker: tuple(filter(None, re.split(";" if language == "en" else " ", others))) for _, marker, others, _ in rows}
    group_of = {marker: group for group, marker, *_ in rows}
    return Connectives(
        tuple(group_of), group_of, partners, tuple(dict.fromkeys(group_of.values())), _pattern(others_too, ahead=ahead),
        _pattern({*group_of, *(other for others in partners.values() for other in others)}),
        re.compile(r"[a-z0-9'’-]+(?=,)" if language == "en" else r"[^，,\s]{1,4}(?=[，,])"), 4 if language == "en" else 1,
    )  # fmt: skip


def _ahead(words: Iterable[str]) -> str:
    """Return what a marker must stand before: one of the words, whole, or marks, after white space or not."""
    whole = r"(?![\w'’-])"
    return rf"(?=\s*(?:{'|'.join(re.escape(word) + (whole if word[-1].isalnum() else '') for word in words)}))"


@functools.lru_cache(maxsize=1)
def discovery_labels() -> tuple[str, ...]:
    """Return Discovery's 174 classes by number, from data/discovery_labels.txt."""
    text = (Path(__file__).parent / "data" / "discovery_labels.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))
