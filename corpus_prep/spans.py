"""From words to sentences: words that tokenization cannot split apart are joined, entities are found."""

from __future__ import annotations

import re

from corpus_prep.entities import Entities
from ernie_core.normalise import RUN_CHARACTER
from ernie_core.schemas import Sentence

_BETWEEN = "\x7f"  # normalised text holds none
_INSIDE_RUN = re.compile(f"{_BETWEEN}(?<={RUN_CHARACTER}{_BETWEEN})(?={RUN_CHARACTER})")
_PLAIN = re.compile(r"[\u4e00-\u9fff，。、！？；：“”（）《》]*")


def merge_runs(words: list[str]) -> list[str]:
    """Return the words with those joined whose border lies inside one basic token (letters and digits run together).

    Example: ``merge_runs(["iphone", "6s", "很", "好"])`` -> ``["iphone6s", "很", "好"]``.
    """
    joined = _BETWEEN.join(words)
    merged = _INSIDE_RUN.sub("", joined)
    return words if len(merged) == len(joined) else merged.split(_BETWEEN)


def make_sentence(lower: str, original: str, words: list[str], entities: Entities) -> Sentence:
    """Return a sentence of its words, with its entities.

    Args:
        lower: normalised text.
        original: the same in original case, equal in length.
        words: its words; they join to `lower`.
        entities: finds them.
    """
    if not _PLAIN.fullmatch(lower):
        words = merge_runs(words)
    return Sentence(tuple(words), entities.of(lower, original, words), original)
