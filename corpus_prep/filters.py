"""Which documents are too poor to learn from: named rules, each switched by one number in the recipe, counted by name.

Measures follow Gopher's quality and repetition filters (Rae et al. 2021, https://arxiv.org/abs/2112.11446, table A1), with basic tokens
(a Chinese character, a Latin word) in the place of words, which are not known yet. Repetition is measured as coverage, so that every
figure lies between 0 and 1.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corpus_prep.dedup import run_hashes
from corpus_prep.sentences import split_sentences
from ernie_core.errors import RecipeError
from ernie_core.normalise import num_cjk

MIN_REPEATED_CHARS = 5
"""Shorter sentences and lines repeat in good text too: 好的。"""
TOP_RUN, REPEATED_RUN = 4, 10  # tokens: Gopher's longest top n-gram, and its longest repeated one
_LATIN = re.compile("[a-zß-öø-ſ]")
_SENTENCE_BREAK = re.compile("[。！？!?](?<=[\u4e00-\u9fff].)(?=[\u4e00-\u9fff])")  # begins with a set of characters, which is searched fast
MIN_BROKEN = 3
"""Sentence ends inside words; fewer are chance."""
COMMON = 50
"""Of jieba's frequencies: rarer words of two characters are mostly names, and stand at every other border of words."""
MIN_ADVERT_WORDS = 2
"""Different ones; one word alone is no advertisement."""


@dataclass(frozen=True)
class Measured:
    """What a measure sees of a document.

    Args:
        paragraphs: normalised, lower-cased.
        hashes: uint64[N], of its basic tokens.
        language: of its corpus: zh, en, or mixed for both.
    """

    paragraphs: Sequence[str]
    hashes: NDArray[np.uint64]
    language: str


@dataclass(frozen=True)
class Filter:
    """A rule: documents whose `measure` is beyond the recipe's number are left out.

    Args:
        name: key in the recipe's `prepare.filters`, and in every count.
        measure: a figure of the document.
        at_least: whether the number is the least allowed figure, else the largest.
        largest: bound of the number that a recipe may give.
        meaning: what the figure is, with its unit.
    """

    name: str
    measure: Callable[[Measured], float]
    at_least: bool
    largest: float
    meaning: str


def num_chars(document: Measured) -> int:
    """Return the characters of a document, white space left out.

    Example: paragraphs ("你好。", "a b") -> ``5``.
    """
    return sum(len(p) - p.count(" ") for p in document.paragraphs)


def language_share(document: Measured) -> float:
    """Return the share of the corpus's script among all letters: Chinese characters, Latin letters, or both; 0 without any letter.

    Digits and signs do not count.

    Example: ("买 iphone 吧") -> 0.25 for zh, 0.75 for en, 1.0 for mixed.
    """
    letters = sum(sum(map(str.isalpha, p)) for p in document.paragraphs)
    own = sum(map(num_cjk, document.paragraphs)) if document.language != "en" else 0
    if document.language != "zh":
        own += sum(len(_LATIN.findall(p)) for p in document.paragraphs)
    return min(1.0, own / letters) if letters else 0.0


def repeated_sentences(document: Measured) -> float:
    """Return the share of characters that stand in sentences which stood in the document before; sentences under 5 characters do not count.

    Example: paragraph "点击这里。点击这里。" -> ``0.5``.
    """
    return _repeated([sentence.strip() for p in document.paragraphs for sentence in split_sentences(p)])


def repeated_lines(document: Measured) -> float:
    """Return the share of characters that stand in paragraphs which stood in the document before; those under 5 characters do not count.

    Example: paragraphs ("点击这里", "点击这里") -> ``0.5``.
    """
    return _repeated(document.paragraphs)


def _repeated(pieces: Sequence[str]) -> float:
    seen: set[str] = set()
    total = repeated = 0
    for piece in pieces:
        total += len(piece)
        if piece in seen:
            repeated += len(piece)
        elif len(piece) >= MIN_REPEATED_CHARS:
            seen.add(piece)
    return repeated / total if total else 0.0


def longest_line(document: Measured) -> float:
    """Return the characters of the longest paragraph: pages whose paragraphs were lost, and digests run together, have long ones.

    Example: paragraphs ("你好。", "a b") -> ``3``.
    """
    return max(map(len, document.paragraphs), default=0)


def broken_sentences(document: Measured) -> float:
    """Return the share of sentence ends that stand inside a word, of those between two Chinese characters; 0 for under 3.

    Pages copied by machines have full stops set into their words, so that they are not found again. In good text a character and the
    next sentence's first one are a word of the dictionary in 1 to 3 % of cases.

    Example: paragraph "降。雨过。程持。续到今。天。" -> ``1.0``: 降雨, 过程, 持续 and 今天 are words.
    """
    from corpus_prep.segment import load_segmenter

    text = "\n".join(document.paragraphs)
    ends = [text[m.start() - 1] + text[m.end()] for m in _SENTENCE_BREAK.finditer(text)]
    if len(ends) < MIN_BROKEN:
        return 0.0
    frequencies = load_segmenter().frequencies
    inside = sum(frequencies.get(word, 0) >= COMMON for word in ends)
    return inside / len(ends) if inside >= MIN_BROKEN else 0.0


@functools.lru_cache(maxsize=1)
def _advert_words() -> tuple[tuple[str, re.Pattern[str] | None], ...]:
    """Return the listed words, those of Latin letters with a pattern that finds them whole."""
    lines = (Path(__file__).parent / "advert_words.txt").read_text(encoding="utf-8").splitlines()
    words = [line for line in lines if line and not line.startswith("#")]
    return tuple((word, re.compile(rf"\b{word}\b") if word.isascii() else None) for word in words)


def advert_words(document: Measured) -> float:
    """Return the words of advertisements (advert_words.txt) per 1,000 characters, white space left out; 0 where there are not two different ones.

    Example: paragraph "一款轻松的游戏。" -> ``250.0``.
    """
    text = "\n".join(document.paragraphs)
    found = [len(whole.findall(text)) if whole else text.count(word) for word, whole in _advert_words() if word in text]
    found = [times for times in found if times]
    return 1000 * sum(found) / num_chars(document) if len(found) >= MIN_ADVERT_WORDS else 0.0


def top_char(document: Measured) -> float:
    """Return the share of the most frequent character, white space left out.

    Example: paragraph "哈哈哈！" -> ``0.75``.
    """
    counts = Counter("".join(document.paragraphs))
    del counts[" "]
    return max(counts.values()) / counts.total() if counts else 0.0


def top_run(document: Measured) -> float:
    """Return the share of tokens that the most frequent 4-token run covers; 0 where no run stands twice.

    Example: paragraph "一二三四五一二三四" -> 8/9.
    """
    runs = run_hashes(document.hashes, TOP_RUN)
    values, at, counts = np.unique(runs, return_index=True, return_counts=True)
    if not len(values) or counts.max() < 2:
        return 0.0
    most = np.flatnonzero(counts == counts.max())
    chosen = most[np.argmin(at[most])]  # of equally frequent ones the first
    return _covered(runs == values[chosen], TOP_RUN, len(document.hashes))


def repeated_runs(document: Measured) -> float:
    """Return the share of tokens in 10-token runs that stood in the document before.

    Example: paragraph of 20 tokens, the last ten as the first ten -> ``0.5``.
    """
    runs = run_hashes(document.hashes, REPEATED_RUN)
    again = np.ones(len(runs), bool)
    again[np.unique(runs, return_index=True)[1]] = False
    return _covered(again, REPEATED_RUN, len(document.hashes))


def _covered(starts: NDArray[np.bool_], width: int, num_tokens: int) -> float:
    covered = np.zeros(num_tokens, bool)
    at = np.flatnonzero(starts)
    for i in range(width):
        covered[at + i] = True
    return float(np.count_nonzero(covered)) / num_tokens if num_tokens else 0.0


FILTERS = {
    f.name: f
    for f in (
        Filter("min_chars", num_chars, True, 1e9, "characters in a document, at least"),
        Filter("max_chars", num_chars, False, 1e9, "characters in a document, at most"),
        Filter("max_line_chars", longest_line, False, 1e9, "characters in a document's longest paragraph, at most"),
        Filter("min_language_share", language_share, True, 1.0, "share of the corpus's script among a document's letters, at least"),
        Filter("max_repeated_sentences", repeated_sentences, False, 1.0, "share of a document's characters in sentences it repeats, at most"),
        Filter("max_repeated_lines", repeated_lines, False, 1.0, "share of a document's characters in paragraphs it repeats, at most"),
        Filter("max_top_char", top_char, False, 1.0, "share of a document's most frequent character, at most"),
        Filter("max_top_run", top_run, False, 1.0, "share of a document's tokens covered by its most frequent 4-token run, at most"),
        Filter("max_broken_sentences", broken_sentences, False, 1.0, "share of a document's sentence ends that stand inside a word, at most"),
        Filter("max_advert_words", advert_words, False, 1000.0, "words of advertisements per 1,000 characters of a document, at most"),
        Filter("max_repeated_runs", repeated_runs, False, 1.0, "share of a document's tokens in 10-token runs it repeats, at most"),
    )
}


def check_filters(bounds: Mapping[str, float]) -> None:
    """Refuse numbers that no document, or every document, would meet.

    Raises:
        RecipeError: E-FILTER, a number outside 0 to the filter's `largest`, or min_chars beyond max_chars.
    """
    for name, bound in bounds.items():
        if not 0 <= bound <= FILTERS[name].largest:
            raise RecipeError("E-FILTER", f"filter {name} cannot be {bound:g}", where="prepare.filters", expected=f"0 to {FILTERS[name].largest:g}")
    if bounds.get("min_chars", 0) > bounds.get("max_chars", float("inf")):
        raise RecipeError("E-FILTER", "no document has so few and so many characters", where="prepare.filters", found="min_chars beyond max_chars")


def filtered_by(document: Measured, bounds: Mapping[str, float]) -> str | None:
    """Return the name of the first rule, in order of their names, that leaves a document out, or None.

    Args:
        document: what the measures see.
        bounds: filter name -> the recipe's number; filters not named are off.

    Example: a document of two characters, ``{"min_chars": 10}`` -> ``"min_chars"``.
    """
    for name in sorted(bounds):
        rule = FILTERS[name]
        figure = rule.measure(document)
        if figure < bounds[name] if rule.at_least else figure > bounds[name]:
            return name
    return None
