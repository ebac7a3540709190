"""Parts of a sentence between any two characters, with words and units derived anew: the ground of tasks that take text out of sentences."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, chain
from typing import NamedTuple

from ernie_core.schemas import Sentence, Unit

Range = tuple[int, int]


class Cut(NamedTuple):
    """A sentence, its text, the characters before each of its words and in all, and the part of it that is meant."""

    sentence: Sentence
    whole: str
    bounds: list[int]
    start: int
    end: int

    @property
    def text(self) -> str:
        return self.whole[self.start : self.end]


def cuts(sentence: Sentence, ends: Sequence[int]) -> list[Cut]:
    """Return the parts of a sentence that end at `ends`, without the white space around each; a part of white space alone is none.

    Example: words (他, 来, ，, 我, 走), ends (3, 5) -> parts 他来， and 我走.
    """
    bounds = list(accumulate(map(len, sentence.words), initial=0))
    text = sentence.text
    found = []
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        part = text[start:end]
        if part.strip():
            found.append(Cut(sentence, text, bounds, start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())))
    return found


def whole(sentence: Sentence) -> tuple[Cut, list[Range]]:
    """Return a sentence as a part of itself, white space and all, with all of it left."""
    bounds = list(accumulate(map(len, sentence.words), initial=0))
    return Cut(sentence, sentence.text, bounds, 0, bounds[-1]), [(0, bounds[-1])]


def holds_words(cut: Cut, ranges: Sequence[Range]) -> bool:
    """Return whether no range of a part's characters begins or ends inside a word, so that `kept` returns a sentence."""
    return all(_place(cut.bounds, cut.start + at) is not None for ends in ranges for at in ends)


def kept(cut: Cut, ranges: Sequence[Range]) -> Sentence | None:
    """Return what is left of a part: the words within `ranges`, and the units whose words all stand side by side as before.

    Where its beginning was taken away and had been a capital, what is left begins with one, and its first word, now the first of the
    text, has no label in `Sentence.labels`.

    Args:
        cut: the part.
        ranges: characters of the part, ascending.

    Returns:
        None where a range begins or ends inside a word.

    Example: words (但, ，, he, 来), ranges ((2, 5),) -> words (he, 来).
    """
    words: list[str] = []
    units: list[Unit] = []
    original = ""
    labels: list[list[int]] = [[] for _ in cut.sentence.labels]
    for start, end in ((cut.start + a, cut.start + b) for a, b in ranges):
        first, last = _place(cut.bounds, start), _place(cut.bounds, end)
        if first is None or last is None:
            return None
        shift = len(words) - first
        units += [Unit(u.start + shift, u.end + shift, u.kind) for u in cut.sentence.units if first <= u.start and u.end <= last]
        words += cut.sentence.words[first:last]
        original += cut.sentence.original[start:end]
        for kept_labels, column in zip(labels, cut.sentence.labels, strict=True):
            kept_labels += column[first:last]
    if ranges and ranges[0][0] > 0 and cut.sentence.original[cut.start].isupper() and len(first_letter := original[:1].upper()) == 1:
        original = first_letter + original[1:]
    if ranges and ranges[0][0] > 0 and words:
        labels = [[-1, *column[1:]] for column in labels]
    return Sentence(tuple(words), tuple(units), original, tuple(map(tuple, labels)))


def _place(bounds: Sequence[int], at: int) -> int | None:
    """Return the number of the word that begins at a character; None if none does."""
    place = bisect_left(bounds, at)
    return place if bounds[place] == at else None


def joined(sentences: Sequence[Sentence]) -> Sentence:
    """Return sentences as one, units and all.

    Example: words (a, .) and (b,), a unit of the second -> words (a, ., b), unit 2:3.
    """
    starts = list(accumulate((len(s.words) for s in sentences), initial=0))
    units = [Unit(u.start + first, u.end + first, u.kind) for s, first in zip(sentences, starts, strict=False) for u in s.units]
    labels = tuple(tuple(chain.from_iterable(columns)) for columns in zip(*(s.labels for s in sentences), strict=True))
    return Sentence(tuple(w for s in sentences for w in s.words), tuple(units), "".join(s.original for s in sentences), labels)
