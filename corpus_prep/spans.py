"""From words to units: words that tokenization cannot split apart are joined, entities come from the dictionary's tags."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import compress

from ernie_core.normalise import RUN_CHARACTER
from ernie_core.schemas import ENTITY, Sentence, Unit

MAX_ENTITY_CHARS = 8
_MAX_KNOWN = 1 << 18
_BETWEEN = "\x7f"  # normalised text holds none
_INSIDE_RUN = re.compile(f"{_BETWEEN}(?<={RUN_CHARACTER}{_BETWEEN})(?={RUN_CHARACTER})")
# Tags of jieba's dictionary (ICTCLAS): nr person, nrt transliterated, nrfg full name; ns place; nt organisation; nz other proper name.
_ENTITY_TAG = re.compile(r"nr|ns|nt|nz")
_PLAIN = re.compile(r"[\u4e00-\u9fff，。、！？；：“”（）《》]*")


def merge_runs(words: list[str]) -> list[str]:
    """Return the words with those joined whose border lies inside one basic token (letters and digits run together).

    Example: ``merge_runs(["iphone", "6s", "很", "好"])`` -> ``["iphone6s", "很", "好"]``.
    """
    joined = _BETWEEN.join(words)
    merged = _INSIDE_RUN.sub("", joined)
    return words if len(merged) == len(joined) else merged.split(_BETWEEN)


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


def entities(words: Sequence[str], tags: EntityTags) -> tuple[Unit, ...]:
    """Return the entities among the words: neighbours of one tag are one entity, up to 8 characters.

    Example: words (中国, 哈尔滨, 是), tags (ns, ns, v) -> (Unit(0, 2, ENTITY),).
    """
    tagged = list(map(tags.__getitem__, words))
    found: list[Unit] = []
    last_tag, last_end, num_chars = "", -1, 0
    for i in compress(range(len(tagged)), tagged):
        tag = tagged[i]
        if tag == last_tag and last_end == i and num_chars + len(words[i]) <= MAX_ENTITY_CHARS:
            found[-1] = Unit(found[-1].start, i + 1, ENTITY)
            num_chars += len(words[i])
        else:
            found.append(Unit(i, i + 1, ENTITY))
            num_chars = len(words[i])
        last_tag, last_end = tag, i + 1
    return tuple(found)


def make_sentence(lower: str, original: str, words: list[str], tags: EntityTags) -> Sentence:
    """Return a sentence of its words, with its entities.

    Args:
        lower: normalised text.
        original: the same in original case, equal in length.
        words: its words; they join to `lower`.
        tags: of the segmenter's dictionary.
    """
    if not _PLAIN.fullmatch(lower):
        words = merge_runs(words)
    return Sentence(tuple(words), entities(words, tags), original)
