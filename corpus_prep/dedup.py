"""What must not be trained on: documents that stand twice, and documents that share a 13-token run with a benchmark's dev or test text."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corpus_prep.token_stream import TokenStream, token_stream
from ernie_core.normalise import Normaliser

RUN_TOKENS = 13  # TASKS, Contamination
SORTED_AT_ONCE = 1 << 23
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so multiplication loses nothing


def run_hashes(token_hashes: NDArray[np.uint64], width: int = RUN_TOKENS) -> NDArray[np.uint64]:
    """Return a hash of every run of `width` tokens, uint64[n - width + 1] (a polynomial over random 64-bit values, modulo 2**64).

    Example: 15 tokens -> 3 hashes; 12 tokens -> none.
    """
    return _hashes_at(token_hashes, np.arange(max(0, len(token_hashes) - width + 1)), width)


def _hashes_at(token_hashes: NDArray[np.uint64], starts: NDArray[np.int64], width: int) -> NDArray[np.uint64]:
    out = np.zeros(len(starts), np.uint64)
    with np.errstate(over="ignore"):
        for i in range(width):
            out = (out + token_hashes[starts + i]) * _MULTIPLIER
    return out


def compared_runs(stream: TokenStream, apart: Collection[int] = ()) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the hashes by which documents are compared, and the number of the document that each belongs to.

    They are a document's 13-token runs, or one hash of its whole where it is shorter; and, of the documents in `apart`, one of each
    paragraph that is shorter, so that a question is found whatever its answers are.
    """
    document_of = np.repeat(np.arange(len(stream.document_starts) - 1), np.diff(stream.document_starts))
    runs = run_hashes(stream.hashes)
    inside = np.flatnonzero(document_of[: len(runs)] == document_of[RUN_TOKENS - 1 :])
    hashes, owners = [runs[inside]], [document_of[inside]]
    starts, lengths = stream.document_starts[:-1], np.diff(stream.document_starts)
    if apart:
        held = np.diff(stream.paragraph_starts) > 0
        places = stream.paragraph_starts[:-1][held]
        mine = np.isin(document_of[places], list(apart))
        starts = np.concatenate([starts, places[mine]])
        lengths = np.concatenate([lengths, np.diff(stream.paragraph_starts)[held][mine]])
    for width in range(1, RUN_TOKENS):
        short = starts[lengths == width]
        hashes.append(_hashes_at(stream.hashes, short, width))
        owners.append(document_of[short])
    return np.concatenate(hashes), np.concatenate(owners)


@dataclass(frozen=True)
class Contamination:
    """Runs of benchmark texts. `hashes`: sorted uint64; `owners`: int16, which of `names` each comes from (the first, where several)."""

    names: tuple[str, ...]
    hashes: NDArray[np.uint64]
    owners: NDArray[np.int16]

    @cached_property
    def _marks(self) -> NDArray[np.bool_]:
        """Of the first bits of a hash, whether the table may hold it: spares the search for nearly all runs."""
        marks = np.zeros(1 << self._num_bits, bool)
        marks[self.hashes >> np.uint64(64 - self._num_bits)] = True
        return marks

    @property
    def _num_bits(self) -> int:
        return min(26, len(self.hashes).bit_length() + 5)

    def owners_of(self, stream: TokenStream, apart: Collection[int] = ()) -> list[str | None]:
        """Return for each document the first benchmark, by name, that it shares a run with, or None.

        A document under 13 tokens counts only if it is equal to a benchmark's text; so does each paragraph of the documents in `apart`.
        """
        found: list[str | None] = [None] * (len(stream.document_starts) - 1)
        if not len(self.hashes):
            return found
        runs, document_of = compared_runs(stream, apart)
        likely = np.flatnonzero(self._marks[runs >> np.uint64(64 - self._num_bits)])
        at = np.minimum(np.searchsorted(self.hashes, runs[likely]), len(self.hashes) - 1)
        hit = self.hashes[at] == runs[likely]
        for document, owner in zip(document_of[likely[hit]].tolist(), self.owners[at[hit]].tolist(), strict=True):
            found[document] = min(found[document] or self.names[owner], self.names[owner])
        return found

    def to_bytes(self) -> bytes:
        """Return the table as two npy arrays, one after the other."""
        buffer = io.BytesIO()
        for array in (self.hashes, self.owners):
            np.save(buffer, array, allow_pickle=False)
        return buffer.getvalue()

    @staticmethod
    def from_bytes(data: bytes, names: Sequence[str]) -> Contamination:
        buffer = io.BytesIO(data)
        hashes = np.load(buffer, allow_pickle=False)
        return Contamination(tuple(names), hashes, np.load(buffer, allow_pickle=False))


def contamination_table(texts: Mapping[str, Sequence[str]], normaliser: Normaliser) -> Contamination:
    """Return the runs of all texts of each benchmark, normalised as the corpus is.

    Example: ``contamination_table({"b": ["很好"]}, Normaliser())`` -> one hash, of the whole text.
    """
    names = tuple(sorted(texts))
    hashes, owners = [np.zeros(0, np.uint64)], [np.zeros(0, np.int16)]
    for owner, name in enumerate(names):
        runs = np.unique(compared_runs(token_stream([[normaliser(text)[0]] for text in texts[name]]))[0])
        hashes.append(runs)
        owners.append(np.full(len(runs), owner, np.int16))
    unique, first = np.unique(np.concatenate(hashes), return_index=True)
    return Contamination(names, unique, np.concatenate(owners)[first])


def benchmark_texts(path: Path) -> list[str]:
    """Return the texts of a benchmark's rows, as the import step writes them; the characters of a tagged sentence are joined.

    Example: ``{"id": "0", "texts": ["谁写的？", "鲁迅写的。"]}`` -> ``["谁写的？", "鲁迅写的。"]``.
    """
    rows = (json.loads(line)["texts"] for line in path.read_bytes().split(b"\n") if line)
    return [text for texts in rows for text in (["".join(texts)] if len(texts) > 2 or all(len(t) == 1 for t in texts) else texts)]


def cross_split_duplicates(ids: Mapping[int, NDArray[np.uint64]], at_once: int = SORTED_AT_ONCE) -> dict[int, NDArray[np.int32]]:
    """Return, for each split number, the indexes of documents that stand in an earlier split already, sorted.

    Within a split ids are unique (`selection`). Memory: a byte a document, and 32 for each of some `at_once` documents.

    Args:
        ids: split number -> the number that each document's id spells.
        at_once: documents whose ids are sorted together.

    Example: ids of ``{0: ["a", "b"], 1: ["b", "c"]}`` -> ``{0: [], 1: [0]}``.
    """
    numbers = sorted(ids)
    firsts = np.concatenate([[0], np.cumsum([len(ids[n]) for n in numbers])]).astype(np.int64)
    again = np.zeros(int(firsts[-1]), bool)
    parts = np.uint64(-(-len(again) // at_once))
    for part in range(int(parts)):
        values, places = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        for first, number in zip(firsts.tolist(), numbers, strict=False):
            mine = np.flatnonzero(ids[number] % parts == np.uint64(part))
            values.append(ids[number][mine])
            places.append(mine + first)
        together, of = np.concatenate(values), np.concatenate(places)
        order = np.argsort(together, kind="stable")  # of equal ones the first stays first
        together = together[order]
        again[of[order[1:][together[1:] == together[:-1]]]] = True
    return {n: np.flatnonzero(again[a:b]).astype(np.int32) for n, (a, b) in zip(numbers, pairwise(firsts.tolist()), strict=True)}
