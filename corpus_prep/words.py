"""The words of many sentences at once, as arrays: where each begins, and which of the distinct words it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ernie_core.normalise import RUN, basic_classes
from ernie_core.schemas import BETWEEN_WORDS

BORDER = "\n"
"""Stands behind every sentence as a word of its own; normalised text holds none."""


@dataclass(frozen=True)
class Words:
    """W words of S sentences, the border behind each sentence among them.

    Args:
        joined: each sentence's words, joined by BETWEEN_WORDS.
        text: all sentences, BORDER behind each.
        starts: int64[W + 1], where each word begins in `text`, and its length.
        firsts: int64[S + 1], the number of each sentence's first word, and W.
        known: the distinct words.
        ids: int32[W], which of `known` each word is.
    """

    joined: list[str]
    text: str
    starts: NDArray[np.int64]
    firsts: NDArray[np.int64]
    known: list[str]
    ids: NDArray[np.int32]

    def look_up(self, table: Mapping[str, int]) -> NDArray[np.uint8]:
        """Return uint8[W]: what a table says of each word, asked once for each distinct one."""
        return np.fromiter(map(table.__getitem__, self.known), np.uint8, len(self.known))[self.ids]

    def sentence_of(self, words: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of the sentence that each of the given words stands in."""
        return np.searchsorted(self.firsts, words, "right") - 1

    def touched(self, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Yield the words that each span of `text` touches, as (first, end) numbers of words. `spans`: (start, end) in characters."""
        places = np.array(spans, np.int64).reshape(-1, 2)
        firsts = np.searchsorted(self.starts, places[:, 0], "right") - 1
        yield from zip(firsts.tolist(), np.searchsorted(self.starts, places[:, 1]).tolist(), strict=True)


def words_of(joined: Sequence[str]) -> Words:
    """Return the words of sentences of normalised text. `joined`: each sentence's words, joined by BETWEEN_WORDS.

    Example: ``words_of(["很\x7f好", "好"])`` -> known ["很", "好", "\n"], ids [0, 1, 2, 1, 2], firsts [0, 3, 5].
    """
    codes = np.frombuffer(BORDER.join([*joined, ""]).encode("utf-32-le"), np.uint32)
    mark, border = codes == ord(BETWEEN_WORDS), codes == ord(BORDER)
    begins = border.copy()  # a word begins with a border, behind one, and behind a mark
    begins[1:] |= mark[:-1] | border[:-1]
    begins[:1] = True
    shown = ~mark
    codes = codes[shown]
    starts = np.append(np.flatnonzero(begins[shown]), len(codes))
    buffers = [None, pa.py_buffer(4 * starts), pa.py_buffer(codes)]
    coded = pa.Array.from_buffers(pa.large_binary(), len(starts) - 1, buffers).dictionary_encode()
    ids = coded.indices.to_numpy()
    _, ends, data = coded.dictionary.buffers()
    spelled = data.to_pybytes().decode("utf-32-le")
    known = [spelled[a // 4 : b // 4] for a, b in pairwise(np.frombuffer(ends, np.int64, len(coded.dictionary) + 1).tolist())]
    borders = np.flatnonzero(ids == known.index(BORDER)) if known else np.zeros(0, np.int64)
    return Words(list(joined), codes.tobytes().decode("utf-32-le"), starts, np.append(0, borders + 1), known, ids)


def merge_runs(joined: Sequence[str]) -> list[str]:
    """Return sentences with those words made one whose border lies inside one basic token (letters and digits run together).

    Example: ``merge_runs(["iphone\x7f6s\x7f很\x7f好"])`` -> ``["iphone6s\x7f很\x7f好"]``.
    """
    codes = np.frombuffer(BORDER.join([*joined, ""]).encode("utf-32-le"), np.uint32)
    run = basic_classes()[codes] == RUN
    kept = np.ones(len(codes), bool)
    kept[1:-1] = (codes[1:-1] != ord(BETWEEN_WORDS)) | ~run[:-2] | ~run[2:]
    return codes[kept].tobytes().decode("utf-32-le").split(BORDER)[:-1]
