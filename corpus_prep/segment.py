"""Chinese word segmentation: exactly the words of jieba 0.42.1 (dictionary and HMM), many texts at once. The only place that imports it.

jieba's own loader reads a marshal cache from a shared temporary folder, so that whoever writes there changes the words
(reliability P13, S8). Here the dictionary is parsed anew in every process and no cache is read or written at all.

The best path through the dictionary is rjieba's, over a dictionary that we give it word by word; all else in which rjieba differs
is done here or hidden from it. pipelines/docs/segmentation.md says why the words are equal for any text and any dictionary.
"""

from __future__ import annotations

import functools
import hashlib
import io
import logging
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import jieba
import numpy as np
import rjieba
from jieba import finalseg
from numpy.typing import NDArray

from corpus_prep.hmm import Hmm
from ernie_core.schemas import BETWEEN_WORDS

logging.getLogger("jieba").setLevel(logging.WARNING)

BATCH_CHARS = 1 << 17  # bounds the memory of one search (reliability F53), but for a single text longer than this
_HAN, _ALNUM, _MARK = 1, 2, 3  # kinds of characters in jieba's blocks; 0 is every other
_FILLER = 0  # what rjieba sees of characters that are in no block for jieba but might be for it
_ASCII_SHOWN_AT = 0x3400  # what it sees of a block's ASCII character c is this + c: rjieba takes these for Chinese, so joins no letters itself
_SLOTS = 1 << 23
_UNUSED = "\ue000"  # in no block: a word that is never found


def _tables() -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Return for every code point its kind and what rjieba is shown of it."""
    kinds = np.zeros(0x110000, np.uint8)
    kinds[0x4E00:0x9FD6] = _HAN
    ascii_chars = [i for i in range(128) if jieba.re_han_default.fullmatch(chr(i))]
    kinds[ascii_chars] = [_ALNUM if chr(i).isalnum() else _MARK for i in ascii_chars]
    shown = np.full(0x110000, _FILLER, np.uint16)
    # The rest is rare, and some of it is Chinese for rjieba.
    shown[:0x3400] = np.arange(0x3400)
    shown[0xFF00:0xFFF0] = np.arange(0xFF00, 0xFFF0)
    shown[0x4E00:0x9FD6] = np.arange(0x4E00, 0x9FD6)
    shown[ascii_chars] = np.array(ascii_chars) + _ASCII_SHOWN_AT
    return kinds, shown


_KINDS, _SHOWN = _tables()
_SHOWN_ASCII = {i: int(c) for i, c in enumerate(_SHOWN[:128]) if _KINDS[i] >= _ALNUM}


class Segmenter(Protocol):
    """What preparation needs of a segmenter; pipelines/docs/segmentation.md shows how another one is plugged in."""

    @property
    def name(self) -> str:
        """The segmenter, its version and its dictionary's hash, for the record: other words must have another name."""

    def words(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the words of each normalised text; they join back to it, white space included."""

    def __hash__(self) -> int:
        """Return what object has: one segmenter serves a whole process."""

    def tag(self, word: str) -> str:
        """Return a word's part-of-speech tag, of jieba's kind (nr, ns, nt, nz and others), "" if there is none."""


def joined_words(segmenter: Segmenter, texts: Sequence[str]) -> list[str]:
    """Return the words of each normalised text, joined by BETWEEN_WORDS; of jieba's without making a string of each."""
    if isinstance(segmenter, JiebaSegmenter):
        return segmenter.joined(texts, BETWEEN_WORDS)
    return list(map(BETWEEN_WORDS.join, segmenter.words(texts)))


def with_spaces(text: str, words: Sequence[str]) -> list[str]:
    """Return a segmenter's words with the white space that it dropped put back as words of its own, so that they join to the text.

    Raises:
        ValueError: the words are not the text's.

    Example: ``with_spaces("iPhone 好 用", ["iPhone", "好", "用"])`` -> ``["iPhone", " ", "好", " ", "用"]``.
    """
    found: list[str] = []
    at = 0
    for word in words:
        start = text.find(word, at)
        if not word or start < 0 or text[at:start].strip():
            raise ValueError(f"word {word!r} does not stand at character {at} of {text!r}")
        found += [text[at:start], word] if start > at else [word]
        at = start + len(word)
    if text[at:].strip():
        raise ValueError(f"no word for {text[at:]!r} of {text!r}")
    return [*found, text[at:]] if at < len(text) else found


class JiebaSegmenter:
    """Cuts normalised text into jieba's words, and knows the dictionary's tags.

    Args:
        dictionary: file in jieba's format: word, frequency and tag, separated by spaces. jieba's own by default.
        user_dictionary: further words in the format of jieba's user dictionaries (frequency and tag may be missing), added as
            jieba's `load_userdict` adds them: a frequency of 0 makes the HMM split the word.

    Raises:
        ValueError: a line of a dictionary that jieba cannot read, named by jieba.
    """

    def __init__(self, dictionary: Path | None = None, user_dictionary: bytes = b"") -> None:
        data = (dictionary or dictionary_path()).read_bytes()
        self.name = segmenter_name(dictionary, user_dictionary)
        loaded, self._forced = _load(data, user_dictionary)
        rows = (line.split(" ") for line in data.decode("utf-8").split("\n") if line)
        self._tags: dict[str, str] = {row[0]: row[2].strip() for row in rows if len(row) > 2} | loaded.user_word_tag_tab
        self.frequencies: dict[str, int] = loaded.FREQ
        # a cheap look at what might be a word: most runs of single characters are none
        listed = [word for word, frequency in loaded.FREQ.items() if frequency]
        ends = np.array([(ord(word[0]), ord(word[-1]), len(word)) for word in listed], np.int64).reshape(-1, 3)
        self._may_be_listed = np.zeros(_SLOTS, bool)
        self._may_be_listed[_slot(*ends.T)] = True
        self._hmm = Hmm(finalseg.start_P, finalseg.trans_P, finalseg.emit_P)
        self._search = _searcher({word: frequency for word, frequency in loaded.FREQ.items() if frequency}, loaded.total)

    def words(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the words of each normalised text; they join back to it, white space included. Many texts in one call are faster.

        Example: ``words(["哈尔滨是黑龙江的省会"])`` -> ``[["哈尔滨", "是", "黑龙江", "的", "省会"]]``.
        """
        between = next(_unused_characters("".join(texts)))
        return [line.split(between) if line else [] for line in self.joined(texts, between)]

    def joined(self, texts: Sequence[str], between: str) -> list[str]:
        """Return the words of each text, joined by a character that stands in none.

        Example: ``joined(["哈尔滨是黑龙江的省会"], "|")`` -> ``["哈尔滨|是|黑龙江|的|省会"]``.
        """
        found: list[str] = []
        start = size = 0
        for i, text in enumerate(texts, 1):
            size += len(text)
            if size > BATCH_CHARS or i == len(texts):
                found += self._cut(texts[start:i], between)
                start, size = i, 0
        return found

    def tag(self, word: str) -> str:
        """Return the dictionary's part-of-speech tag of a word, "" if it is not listed.

        Example: ``tag("哈尔滨")`` -> ``"ns"``.
        """
        return self._tags.get(word, "")

    def _cut(self, texts: Sequence[str], between: str) -> list[str]:
        line_end = next(c for c in _unused_characters("".join(texts)) if c != between)
        text = line_end.join([*texts, ""])
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        starts = _starts(self._search.cut(_SHOWN[codes].tobytes().decode("utf-16-le"), False))
        behind = starts[1:][self._word_ends(text, codes, starts)]  # where each word ends, behind its last character
        # all texts as one, with a character more where a word ends, but for the ends of texts
        line_ends = np.flatnonzero(codes == ord(line_end))
        is_end = np.zeros(len(codes) + 1, bool)
        is_end[behind] = True
        is_end[line_ends] = is_end[line_ends + 1] = False
        pairs = np.empty((len(codes), 2), np.uint32)
        pairs[:, 0], pairs[:, 1] = ord(between), codes
        is_shown = np.ones((len(codes), 2), bool)
        is_shown[:, 0] = is_end[:-1]
        marked = pairs[is_shown]
        return marked.tobytes().decode("utf-32-le", "surrogatepass").split(line_end)[:-1]

    def _word_ends(self, text: str, codes: NDArray[np.uint32], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return for each token of the path whether a word ends with it, bool[tokens]. `starts`: their offsets and the text's length."""
        found = np.ones(len(starts) - 1, bool)
        initials = codes[starts[:-1]]
        kinds = _KINDS[initials]
        kinds[np.diff(starts) > 1] = 0
        # jieba cuts each run of single characters anew, unless the run is a word of the dictionary.
        first, end = _runs(kinds > 0)
        begin, behind = starts[first], starts[end]
        likely = np.flatnonzero(self._may_be_listed[_slot(codes[begin], codes[behind - 1], behind - begin)])
        for i, a, b in _columns(likely, begin[likely], behind[likely]):
            if self.frequencies.get(text[a:b]):
                kinds[first[i] : end[i]] = 0
        first, end = _runs(kinds == _HAN)
        found &= ~_covered(first, end, len(found))
        found |= self._hmm.word_ends(initials, first, end - first)
        if self._forced:
            for a, b in _words(found, first, end):
                found[a:b] |= text[starts[a] : starts[b]] in self._forced
        first, end = _runs(kinds >= _ALNUM)
        found &= ~_covered(first, end, len(found))
        found[end - 1] = True
        marks = np.concatenate([[0], np.cumsum(kinds == _MARK)])
        marked = marks[end] > marks[first]
        for a, start, stop in _columns(first[marked], starts[first[marked]], starts[end[marked]]):
            at = a
            for piece in finalseg.re_skip.split(text[start:stop]):
                at += len(piece)
                found[at - 1] = True
        return found


def _unused_characters(text: str) -> Iterator[str]:
    """Yield characters that are not in the text and in no block of jieba's: of the basic plane if one can."""
    return (c for c in map(chr, chain((0xFFFF, 0xFFFE), range(0xFDD0, 0xFDF0), range(0xF0000, 0x110000))) if c not in text)


def _starts(tokens: list[str]) -> NDArray[np.int64]:
    """Return where each token starts in their text, and the text's length: int64[tokens + 1]. (A length at a time is three times as slow.)

    Example: ``_starts(["ab", "c"])`` -> ``[0, 2, 3]``.
    """
    codes = np.frombuffer(_UNUSED.join(tokens).encode("utf-16-le"), np.uint16)
    begin = np.flatnonzero(codes == ord(_UNUSED)) - np.arange(len(tokens) - 1)
    return np.concatenate([[0], begin, [len(codes) - len(tokens) + 1]])


def _slot(first: NDArray[Any], last: NDArray[Any], length: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a number below `_SLOTS` for words with these ends and length."""
    return (first.astype(np.int64) * 40_503 + last.astype(np.int64) * 977 + length) % _SLOTS


def _covered(first: NDArray[np.int64], end: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    """Return which of `size` places lie in runs that neither overlap nor touch."""
    steps = np.zeros(size + 1, np.int8)
    steps[first], steps[end] = 1, -1
    return np.cumsum(steps[:-1], dtype=np.int8).astype(bool)


def _columns(*arrays: NDArray[np.int64]) -> Iterator[tuple[int, ...]]:
    return zip(*(a.tolist() for a in arrays), strict=True)


def _runs(flags: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where runs of two or more True begin and end (behind their last)."""
    steps = np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8))
    first, end = np.flatnonzero(steps > 0), np.flatnonzero(steps < 0)
    several = end - first > 1
    return first[several], end[several]


def _words(ends_word: NDArray[np.bool_], first: NDArray[np.int64], end: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield the words of two tokens or more inside runs."""
    for a, b in _columns(first, end):
        at = a
        for last in (np.flatnonzero(ends_word[a:b]) + a).tolist():
            if last > at:
                yield at, last + 1
            at = last + 1


def _load(dictionary: bytes, user_dictionary: bytes = b"") -> tuple[jieba.Tokenizer, frozenset[str]]:
    """Return jieba's own reading of the dictionaries, without its cache, and the words that its HMM may not make."""
    tokenizer = jieba.Tokenizer()
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(io.BytesIO(dictionary))
    tokenizer.initialized = True
    others = finalseg.Force_Split_Words  # one set for the whole process: left as it was found
    finalseg.Force_Split_Words = set()
    try:
        tokenizer.load_userdict(io.BytesIO(user_dictionary))
        return tokenizer, frozenset(finalseg.Force_Split_Words)
    finally:
        finalseg.Force_Split_Words = others


def _searcher(frequencies: dict[str, int], total: int) -> rjieba.Jieba:
    """Return rjieba with just these words, and the same total: a user's frequency does not take the place of the old one in jieba's."""
    searcher: rjieba.Jieba = rjieba.Jieba.empty()  # type: ignore[no-untyped-call]
    for word in sorted(frequencies, key=lambda w: (len(w), w)):  # this order makes its table quick to search
        searcher.add_word(word.translate(_SHOWN_ASCII), frequencies[word], None)
    rest = total - sum(frequencies.values())
    if rest:
        searcher.add_word(_UNUSED, rest, None)
    return searcher


def dictionary_path() -> Path:
    """Return the dictionary that comes with jieba."""
    return Path(jieba.__file__).parent / "dict.txt"


@functools.lru_cache(maxsize=2)
def segmenter_name(dictionary: Path | None = None, user_dictionary: bytes = b"") -> str:
    """Return the name for the record of the segmenter that `load_segmenter` returns, without building it."""
    held = [(dictionary or dictionary_path()).read_bytes(), *([user_dictionary] if user_dictionary else [])]
    hashes = " + ".join(hashlib.sha256(data).hexdigest() for data in held)
    return f"jieba {jieba.__version__} hmm, dictionary sha256 {hashes}"


@functools.lru_cache(maxsize=2)
def load_segmenter(dictionary: Path | None = None, user_dictionary: bytes = b"") -> JiebaSegmenter:
    """Return the segmenter of a dictionary (jieba's own by default), built once per process."""
    return JiebaSegmenter(dictionary, user_dictionary)
