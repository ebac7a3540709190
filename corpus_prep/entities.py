"""Entities of a sentence: names of the user's gazetteer, then what rules find, then names by capitals, then by the dictionary's tags."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np

from corpus_prep.english import names
from corpus_prep.words import BORDER, Words
from ernie_core.normalise import Normaliser
from ernie_core.schemas import BETWEEN_WORDS, ENTITY

MAX_ENTITY_CHARS = 8  # of neighbours of one tag
_MAX_KNOWN = 1 << 18
# Tags of jieba's dictionary (ICTCLAS): nr person, nrt transliterated, nrfg full name; ns place; nt organisation; nz other proper name.
_ENTITY_TAGS = ("nr", "ns", "nt", "nz")

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


class EntityTags(dict[str, int]):
    """Word -> 1 to 4 for nr, ns, nt and nz if it may be an entity or part of one, else 0: two characters or more, no punctuation, so tagged.

    Each word is looked at once, which spares most of the time that entities take; of very many words all are forgotten now and then.
    """

    def __init__(self, tag_of: Callable[[str], str]) -> None:
        super().__init__()
        self._tag_of = tag_of

    def __missing__(self, word: str) -> int:
        if len(self) >= _MAX_KNOWN:
            self.clear()
        tag = self._tag_of(word)[:2] if len(word) > 1 and word.isalnum() else ""
        number = self[word] = _ENTITY_TAGS.index(tag) + 1 if tag in _ENTITY_TAGS else 0
        return number


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
        free = 0
        for start in starts:
            if start < free:
                continue
            for entry in (*self._by_start.get(text[start : start + 2], ()), *self._by_start.get(text[start : start + 1], ())):
                if text.startswith(entry, start) and starts[bisect_left(starts, start + len(entry))] == start + len(entry):
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

    def of(self, words: Words, originals: Sequence[str | None]) -> list[list[int]]:
        """Return the entities of each sentence, in order, none overlapping another: first word, the word behind the last one, ENTITY, and so on.

        Args:
            words: of S sentences.
            originals: S of them in their own case, None where that is lower case.

        Example: words (2018, 年, 3, 月, 在, 哈尔滨), the last one tagged ns -> ``[[0, 4, ENTITY, 5, 6, ENTITY]]``.
        """
        names_of_user = () if self.gazetteer is None else words.touched(list(self.gazetteer.spans(words.text, words.starts.tolist())))
        begun, inside = 1, b"\2"
        marks = bytearray(len(words.ids) + 1)
        for first, end in chain(names_of_user, ruled(words), capitalised(words, originals), tagged(words, self.tags)):
            if not any(marks[first:end]):  # of two that overlap the one found first stays
                marks[first] = begun
                marks[first + 1 : end] = inside * (end - first - 1)
        held = np.frombuffer(marks, np.uint8)
        firsts = np.flatnonzero(held == begun)
        ends = np.flatnonzero((held[:-1] > 0) & (held[1:] != ord(inside))) + 1
        sentences = words.sentence_of(firsts)
        units = np.stack([firsts, ends, np.full(len(firsts), ENTITY)], 1)
        units[:, :2] -= words.firsts[sentences][:, None]
        numbers = units.ravel().tolist()
        bounds = 3 * np.searchsorted(sentences, np.arange(len(words.firsts)))
        return [numbers[a:b] for a, b in pairwise(bounds.tolist())]


def ruled(words: Words) -> Iterator[tuple[int, int]]:
    """Yield URLs, dates, model names and numbers of several words, as (first, end) numbers of words: whole words that a rule touches.

    Example: "iphone 6s卖3.5万元" -> 6s, 3.5万元.
    """
    text, at = words.text, 0
    found: list[re.Match[str]] = []
    while held := _MAY_HOLD.search(text, at):
        at, end = text.rfind(BORDER, 0, held.start()) + 1, text.index(BORDER, held.start())  # its sentence
        while (begin := _MAY_BEGIN.search(text, at, end)) and (match := _RULES.search(text, begin.start(), end)):
            found.append(match)
            at = match.end()
        at = end
    for match, (first, end) in zip(found, words.touched([match.span() for match in found]), strict=True):
        if end - first > 1 or match.lastgroup in ("url", "model"):
            yield first, end


def capitalised(words: Words, originals: Sequence[str | None]) -> Iterator[tuple[int, int]]:
    """Yield names by their capitals (`english.names`), as (first, end) numbers of words. `originals`: as `Entities.of` has them."""
    for i, original in enumerate(originals):
        if original is not None:
            begin = int(words.firsts[i])
            yield from ((begin + first, begin + end) for first, end in names(words.joined[i].split(BETWEEN_WORDS), original))


def tagged(words: Words, tags: EntityTags) -> Iterator[tuple[int, int]]:
    """Yield the entities that tags tell, as (first, end) numbers of words: neighbours of one tag are one entity, up to 8 characters.

    Example: words (中国, 哈尔滨, 是), tags (ns, ns, v) -> (0, 2).
    """
    tag_of = words.look_up(tags)
    at = np.flatnonzero(tag_of)
    lengths = words.starts[at + 1] - words.starts[at]
    first, end, last_tag, num_chars = -1, -1, 0, 0
    for i, tag, length in zip(at.tolist(), tag_of[at].tolist(), lengths.tolist(), strict=True):
        if i == end and tag == last_tag and num_chars + length <= MAX_ENTITY_CHARS:
            num_chars += length
        else:
            if first >= 0:
                yield first, end
            first, last_tag, num_chars = i, tag, length
        end = i + 1
    if first >= 0:
        yield first, end
