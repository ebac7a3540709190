"""From words to units: words that tokenization cannot split apart are joined, entities come from the dictionary's tags."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence

from ernie_core.normalise import is_run_char
from ernie_core.schemas import ENTITY, Sentence, Unit

MAX_ENTITY_CHARS = 8
_run_char = functools.lru_cache(maxsize=1 << 16)(is_run_char)
# Tags of jieba's dictionary (ICTCLAS): nr person, nrt transliterated, nrfg full name; ns place; nt organisation; nz other proper name.
_ENTITY_TAG = re.compile(r"nr|ns|nt|nz")
_PLAIN = re.compile(r"[\u4e00-\u9fff，。、！？；：“”（）《》]*")


def merge_runs(words: Sequence[str]) -> list[str]:
    """Return the words with those joined whose border lies inside one basic token (letters and digits run together).

    Example: ``merge_runs(["iphone", "6s", "很", "好"])`` -> ``["iphone6s", "很", "好"]``.
    """
    merged: list[str] = []
    last = " "
    for word in words:
        if _run_char(word[0]) and _run_char(last):
            merged[-1] += word
        else:
            merged.append(word)
        last = word[-1]
    return merged


def entities(words: Sequence[str], tag_of: Callable[[str], str]) -> tuple[Unit, ...]:
    """Return the entities among the words: two characters or more, tagged nr, ns, nt or nz, no punctuation;
    neighbours of one tag are one entity, up to 8 characters.

    Example: words (中国, 哈尔滨, 是), tags (ns, ns, v) -> (Unit(0, 2, ENTITY),).
    """
    found: list[Unit] = []
    last_tag, last_end, num_chars = "", -1, 0
    for i, word in enumerate(words):
        match = _ENTITY_TAG.match(tag_of(word)) if len(word) > 1 and word.isalnum() else None
        if match is None:
            continue
        tag = match.group()
        if tag == last_tag and last_end == i and num_chars + len(word) <= MAX_ENTITY_CHARS:
            found[-1] = Unit(found[-1].start, i + 1, ENTITY)
            num_chars += len(word)
        else:
            found.append(Unit(i, i + 1, ENTITY))
            num_chars = len(word)
        last_tag, last_end = tag, i + 1
    return tuple(found)


def make_sentence(lower: str, original: str, words: list[str], tag_of: Callable[[str], str]) -> Sentence:
    """Return a sentence of its words, with its entities.

    Args:
        lower: normalised text.
        original: the same in original case, equal in length.
        words: its words; they join to `lower`.
        tag_of: word -> dictionary tag, "" for none.
    """
    if not _PLAIN.fullmatch(lower):
        words = merge_runs(words)
    return Sentence(tuple(words), entities(words, tag_of), original)
