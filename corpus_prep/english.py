"""English words: BERT's basic tokens with white space between, and names by their capitals."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate

from corpus_prep.phrases import function_words
from ernie_core.normalise import RUN_CHARACTER, num_cjk
from ernie_core.tasks.capitalization import mostly_capitals

_WORD = re.compile(rf"\s+|{RUN_CHARACTER}+|.", re.DOTALL)
_NAME = "english 1"
_INSIDE_NAMES = frozenset(["of", "de", "del", "der", "van", "von", "la", "le", "al", "bin", "ibn"])
_JOINED_BY = frozenset("-'’")
_TITLES = frozenset(["mr", "mrs", "ms", "dr", "st", "jr", "sr", "prof", "gen", "col", "lt", "sir"])
_AROUND_NAMES = frozenset("\"'“‘„«([")
MAX_NAME_WORDS = 8


class EnglishSegmenter:
    """Cuts text into runs of letters and digits, white space, and single marks. CJK characters are words of their own."""

    name = _NAME

    def words(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the words of each normalised text; they join back to it.

        Example: ``words(["it's 3.5 km"])`` -> ``[["it", "'", "s", " ", "3", ".", "5", " ", "km"]]``.
        """
        return list(map(_WORD.findall, texts))

    def tag(self, word: str) -> str:  # noqa: ARG002 - the protocol's
        """Return "": names are told by their capitals."""
        return ""


def names(words: Sequence[str], original: str) -> Iterator[tuple[int, int]]:
    """Yield (first, end) of the runs of capitalised words, as numbers of words.

    A sentence's first word counts if the next one is capitalised too or if it is an acronym, for a capital there says nothing, unless there
    are CJK characters in the sentence; function words and I never do, unless they are all capitals (US), nor does a letter by itself.
    `of`, `van` and the like, `-`, `&` and the stop of an initial or title stand inside a name. None in text that is mostly capitals.

    Args:
        words: of a normalised sentence, white space among them.
        original: the sentence in its own case.

    Example: The Bank of England said Mr. Brown lost -> Bank of England, Mr. Brown.
    """
    if mostly_capitals(original):
        return
    starts = [*accumulate(map(len, words), initial=0)]
    first, last = -1, -1  # the open run's first word and its last capitalised one
    opens = not num_cjk(original)  # whether nothing stood before in the sentence

    def closed() -> Iterator[tuple[int, int]]:
        if first >= 0 and (last > first or not (alone or len(words[first]) == 1)):
            yield first, last + 1

    alone = False  # whether the open run's first word opens the sentence and is no acronym
    for i, word in enumerate(words):
        if word.isspace():
            continue
        shown = original[starts[i] : starts[i + 1]]
        if _is_name(word, shown):
            if first < 0:
                first, alone = i, opens and not (len(shown) > 1 and shown.isupper())
            last = i
            if len([w for w in words[first : last + 1] if not w.isspace()]) >= MAX_NAME_WORDS:
                yield from closed()
                first = -1
        elif first >= 0 and not _goes_on(words, i, last):
            yield from closed()
            first = -1
        opens = opens and word in _AROUND_NAMES
    yield from closed()


def _is_name(word: str, shown: str) -> bool:
    """Whether a word looks like a part of a name: London, BBC, iPhone, US; not The or I."""
    capitals = shown.isupper() and word not in ("i", "a")  # US, and the initials of U.S.
    return any(map(str.isupper, shown)) and (capitals or word not in function_words()) and not num_cjk(word)


def _goes_on(words: Sequence[str], i: int, last: int) -> bool:
    """Return whether word `i`, which is no name, may stand between two parts of one whose last part so far is word `last`."""
    if words[i] == ".":
        return i == last + 1 and (len(words[last]) == 1 or words[last] in _TITLES)
    if words[i] in _JOINED_BY:
        return i == last + 1 and i + 1 < len(words) and not words[i + 1].isspace()
    return words[i] == "&" or words[i] in _INSIDE_NAMES
