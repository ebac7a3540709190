"""Which documents are too poor to learn from: named rules, each switched by one number in the recipe, counted by name.

Measures follow Gopher's quality filters (Rae et al. 2021, https://arxiv.org/abs/2112.11446, table A1) where they apply to Chinese: words
are not known yet, so sizes are in characters and repetition is of whole sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from corpus_prep.sentences import split_sentences
from ernie_core.errors import RecipeError
from ernie_core.normalise import num_cjk

MIN_REPEATED_CHARS = 5
"""Shorter sentences repeat in good text too: 好的。"""


@dataclass(frozen=True)
class Filter:
    """A rule: documents whose `measure` is beyond the recipe's number are left out.

    Args:
        name: key in the recipe's `prepare.filters`, and in every count.
        measure: (normalised, lower-cased paragraphs) -> a figure of the document.
        at_least: whether the number is the least allowed figure, else the largest.
        largest: bound of the number that a recipe may give.
        meaning: what the figure is, with its unit.
    """

    name: str
    measure: Callable[[Sequence[str]], float]
    at_least: bool
    largest: float
    meaning: str


def num_chars(paragraphs: Sequence[str]) -> int:
    """Return the characters of a document, white space left out.

    Example: ``num_chars(["你好。", "a b"])`` -> ``5``.
    """
    return sum(len(p) - p.count(" ") for p in paragraphs)


def chinese_share(paragraphs: Sequence[str]) -> float:
    """Return the share of Chinese characters among all letters; 0 without any letter. Digits and signs do not count.

    Example: ``chinese_share(["买 iphone 吧"])`` -> ``0.25``.
    """
    letters = sum(sum(map(str.isalpha, p)) for p in paragraphs)
    return sum(map(num_cjk, paragraphs)) / letters if letters else 0.0


def repeated_share(paragraphs: Sequence[str]) -> float:
    """Return the share of characters that stand in sentences which stood in the document before; sentences under 5 characters do not count.

    Example: ``repeated_share(["点击这里。点击这里。"])`` -> ``0.5``.
    """
    seen: set[str] = set()
    total = repeated = 0
    for paragraph in paragraphs:
        for sentence in map(str.strip, split_sentences(paragraph)):
            total += len(sentence)
            if sentence in seen:
                repeated += len(sentence)
            elif len(sentence) >= MIN_REPEATED_CHARS:
                seen.add(sentence)
    return repeated / total if total else 0.0


FILTERS = {
    f.name: f
    for f in (
        Filter("min_chars", num_chars, True, 1e9, "characters in a document, at least"),
        Filter("max_chars", num_chars, False, 1e9, "characters in a document, at most"),
        Filter("min_chinese_share", chinese_share, True, 1.0, "share of Chinese characters among a document's letters, at least"),
        Filter("max_repeated_share", repeated_share, False, 1.0, "share of a document's characters in sentences it repeats, at most"),
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


def filtered_by(paragraphs: Sequence[str], bounds: Mapping[str, float]) -> str | None:
    """Return the name of the first rule that leaves a document out, or None.

    Args:
        paragraphs: normalised, lower-cased.
        bounds: filter name -> the recipe's number; filters not named are off.

    Example: ``filtered_by(["你好"], {"min_chars": 10})`` -> ``"min_chars"``.
    """
    for name in sorted(bounds):
        rule = FILTERS[name]
        figure = rule.measure(paragraphs)
        if figure < bounds[name] if rule.at_least else figure > bounds[name]:
            return name
    return None
