"""Entities of a sentence: names of the user's gazetteer, then what rules find, then names by capitals, then by the dictionary's tags."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, compress

from corpus_prep.english import names
from ernie_core.normalise import Normaliser
from ernie_core.schemas import ENTITY, Unit

MAX_ENTITY_CHARS = 8  # of neighbours of one tag
_MAX_KNOWN = 1 << 18
# Tags of jieba's dictionary (ICTCLAS): nr person, nrt transliterated, nrfg full name; ns place; nt organisation; nz other proper name.
_ENTITY_TAG = re.compile(r"nr|ns|nt|nz")

_MONTH = (
    r"(?:january|february|march|april|may|june|july|august|september|october|november|december|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\b\.?"
)
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_RULES = re.compile(
    r"(?P<url>(?:https?://|www\.)[a-z0-9\-._~:/?#@!$&*+,;=%]*[a-z0-9/]|[a-z0-9._+-]+@[a-z0-9-]+(?:\.[a-z0-9-]+)+)"
    rf"|(?P<date>\d{{2,4}}年(?:\d{{1,2}}月(?:\d{{1,2}}[日号])?)?|\d{{1,2}}月\d{{1,2}}[日号]|\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}|\d{{1,2}}[:：]\d{{2}}(?:[:：]\d{{2}})?"
    rf"|\b{_MONTH} {_DAY}(?:,? \d{{4}})?\b|\b{_DAY} {_MONTH}(?:,? \d{{4}}\b)?|\b{_MONTH} \d{{4}}\b)"
    r"|(?P<model>(?<![a-z0-9])(?![a-z]+-?\d+s\b)[a-z]{1,12}-?\d{1,5}[a-z]{0,6}(?:-\d{1,5}[a-z]{0,3})?(?![a-z0-9]))"
    r"|(?P<number>第\d+|[$£€¥]?\d+(?:[.,]\d+)*(?:e[+-]?\d+\b)?(?:[十百千万亿]+)?(?:[%％‰]|美元|欧元|英镑|日元|元|公里|千米|平方米|公斤|千克|米|吨| ?(?:percent|per cent|million|billion|bn|km|kg)\b)?)"
)
_MAY_BEGIN = re.compile(r"[\da-z第$£€¥._+-]")  # a rule; most Chinese characters are passed over so
_MAY_HOLD = re.compile(r"\d|://|www\.|@")


class EntityTags(dict[str, str]):
    """Word -> nr, ns, nt or nz if it may be an entity or part of one, else "": two characters or more, no punctuation, so tagged.

    Each word is looked at once, which spares most of the time that entities take; of very many words all are forgotten now and then.
    """

    def __init__(self, tag_of: Callable[[str], str]) -> None:
        super().__init__()
        self._tag_of = tag_of

    def __missing__(self, word: str) -> str:
        if len(self) >= _MAX_KNOWN:
            self.clear()
        match = _ENTITY_TAG.match(self._tag_of(word)) if len(word) > 1 and word.isalnum() else None
        tag = self[word] = match.group() if match else ""
        return tag


class Gazetteer:
    """Names to be found in normalised text, the longest at each place, between borders of words.

    Example: ``Gazetteer(["上海 合作组织", "new york"])`` finds both in 在new york的上海 合作组织.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        self._by_start: dict[str, list[str]] = {}
        for entry in sorted({e for e in entries if e}, key=lambda e: (-len(e), e)):
            self._by_start.setdefault(entry[:2], []).append(entry)

    @staticmethod
    def from_bytes(data: bytes, normaliser: Normaliser) -> Gazetteer:
        """Return the names of a file, one a line, in UTF-8; normalised as text is.

        Raises:
            UnicodeDecodeError: it is not UTF-8.
        """
        return Gazetteer([normaliser(line)[0] for line in data.decode("utf-8-sig").split("\n")])

    def spans(self, text: str, starts: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Yield (start, end) of names in characters. `starts`: where words start, and the text's length."""
        borders, free = set(starts), 0
        for start in starts:
            if start < free:
                continue
            for entry in (*self._by_start.get(text[start : start + 2], ()), *self._by_start.get(text[start : start + 1], ())):
                if text.startswith(entry, start) and start + len(entry) in borders:
                    yield start, start + len(entry)
                    free = start + len(entry)
                    break


@dataclass(frozen=True, eq=False)
class Entities:
    """Finds the entities of sentences.

    Args:
        tags: of the segmenter's dictionary.
        gazetteer: the user's names.
    """

    tags: EntityTags
    gazetteer: Gazetteer | None = None

    def of(self, lower: str, original: str, words: Sequence[str]) -> tuple[Unit, ...]:
        """Return the entities of a sentence, in order, none overlapping another.

        Args:
            lower: normalised text.
            original: the same in its own case.
            words: they join to `lower`.

        Example: words (2018, 年, 3, 月, 在, 哈尔滨), the last one tagged ns -> (Unit(0, 4, ENTITY), Unit(5, 6, ENTITY)).
        """
        by_tags = tagged(words, self.tags)
        special = _MAY_HOLD.search(lower) is not None
        if self.gazetteer is None and not special and original == lower:
            return by_tags
        starts = [*accumulate(map(len, words), initial=0)]
        found: list[tuple[int, int]] = []
        if self.gazetteer is not None:
            found += (_of_words(span, starts) for span in self.gazetteer.spans(lower, starts))
        if special:
            found += ruled(lower, starts)
        if original != lower:
            found += names(words, original)
        found += ((u.start, u.end) for u in by_tags)
        return _without_overlaps(found)


def ruled(text: str, starts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield URLs, dates, model names and numbers of several words, as (first, end) numbers of words: whole words that a rule touches.

    Example: "iphone 6s卖3.5万元" -> 6s, 3.5万元.
    """
    at = 0
    while (begin := _MAY_BEGIN.search(text, at)) and (match := _RULES.search(text, begin.start())):
        at = match.end()
        first, end = _of_words(match.span(), starts)
        if end - first > 1 or match.lastgroup in ("url", "model"):
            yield first, end


def _of_words(span: tuple[int, int], starts: Sequence[int]) -> tuple[int, int]:
    """Return the words that a span of characters touches, as (first, end)."""
    return bisect_right(starts, span[0]) - 1, bisect_left(starts, span[1])


def _without_overlaps(found: Sequence[tuple[int, int]]) -> tuple[Unit, ...]:
    """Return units in order of place; of two that overlap the one that stands earlier in `found` stays."""
    taken: set[int] = set()
    kept: list[tuple[int, int]] = []
    for first, end in found:
        if taken.isdisjoint(range(first, end)):
            taken.update(range(first, end))
            kept.append((first, end))
    return tuple(Unit(first, end, ENTITY) for first, end in sorted(kept))


def tagged(words: Sequence[str], tags: EntityTags) -> tuple[Unit, ...]:
    """Return the entities that tags tell: neighbours of one tag are one entity, up to 8 characters.

    Example: words (中国, 哈尔滨, 是), tags (ns, ns, v) -> (Unit(0, 2, ENTITY),).
    """
    found_tags = list(map(tags.__getitem__, words))
    found: list[Unit] = []
    last_tag, last_end, num_chars = "", -1, 0
    for i in compress(range(len(found_tags)), found_tags):
        tag = found_tags[i]
        if tag == last_tag and last_end == i and num_chars + len(words[i]) <= MAX_ENTITY_CHARS:
            found[-1] = Unit(found[-1].start, i + 1, ENTITY)
            num_chars += len(words[i])
        else:
            found.append(Unit(i, i + 1, ENTITY))
            num_chars = len(words[i])
        last_tag, last_end = tag, i + 1
    return tuple(found)
