"""The basic tokens of many documents at once, as arrays: CJK text one code point a table look-up, only Latin runs as strings.

Equal to `normalise.basic_tokens` of each paragraph (a test says so), at several times its speed.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ernie_core.normalise import RUN, SINGLE, basic_classes
from ernie_core.seeding import key


@dataclass(frozen=True)
class TokenStream:
    """Hashes of all basic tokens of some documents, one after the other.

    Args:
        hashes: uint64[N], equal for equal tokens.
        paragraph_starts: int64[P + 1], where each paragraph's tokens begin; the last is N.
        document_starts: int64[D + 1], where each document's tokens begin.
        singles: uint32[N], the code point of a one-character token, 0 for a run.
        runs: the tokens of several characters, or of one letter, in order; `singles` is 0 exactly at theirs.
    """

    hashes: NDArray[np.uint64]
    paragraph_starts: NDArray[np.int64]
    document_starts: NDArray[np.int64]
    singles: NDArray[np.uint32]
    runs: Sequence[str]

    def of(self, document: int) -> NDArray[np.uint64]:
        """Return the token hashes of one document."""
        return self.hashes[self.document_starts[document] : self.document_starts[document + 1]]

    def counts(self, kept: Sequence[int]) -> Counter[str]:
        """Return how often each token stands in the documents of the given numbers."""
        mask = np.zeros(len(self.document_starts) - 1, bool)
        mask[list(kept)] = True
        of_token = np.repeat(mask, np.diff(self.document_starts))
        points, numbers = np.unique(self.singles[of_token & (self.singles > 0)], return_counts=True)
        found = Counter(dict(zip(map(chr, points.tolist()), numbers.tolist(), strict=True)))
        in_kept = of_token[self.singles == 0]
        found.update(self.runs if in_kept.all() else [run for run, held in zip(self.runs, in_kept.tolist(), strict=True) if held])
        return found


def token_hash(token: str) -> int:
    """Return the 64-bit hash of a basic token."""
    return key("token", token)


class _RunHashes(dict[str, int]):
    """Run -> hash, remembered for one split."""

    def __missing__(self, token: str) -> int:
        value = self[token] = token_hash(token)
        return value


class _CharHashes:
    """Hash of every one-character token met so far, by code point."""

    def __init__(self) -> None:
        self._known = np.zeros(0x110000, np.uint64)  # 9 MB, 0 = not met; whatever hashes to 0 is hashed again each time

    def of(self, points: NDArray[np.uint32]) -> NDArray[np.uint64]:
        """Return uint64[len(points)]."""
        found = self._known[points]
        new = np.unique(points[found == 0])
        if len(new):
            self._known[new] = np.fromiter((token_hash(chr(p)) for p in new.tolist()), np.uint64, len(new))
            found = self._known[points]
        return found


@functools.lru_cache(maxsize=1)
def _char_hashes() -> _CharHashes:
    return _CharHashes()


def token_stream(documents: Sequence[Sequence[str]]) -> TokenStream:
    """Return the basic tokens of normalised paragraphs, as arrays.

    Example: ``token_stream([["买 gpt4", "好"], []])`` -> hashes of 买, gpt4, 好; paragraph_starts [0, 2, 3]; document_starts [0, 3, 3].
    """
    # every paragraph ends in a line break, which normalised text never holds
    text = "".join(f"{paragraph}\n" for document in documents for paragraph in document)
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    classes = basic_classes()[points]
    run = classes == RUN
    runs = np.where(run, points, np.uint32(ord(" "))).tobytes().decode("utf-32-le").split()
    begins = classes == SINGLE
    begins |= run & ~np.concatenate([[False], run[:-1]])
    places = np.flatnonzero(begins)
    singles = np.where(run, np.uint32(0), points)[places]
    hashes = np.zeros(len(singles), np.uint64)
    is_run = singles == 0
    hashes[~is_run] = _char_hashes().of(singles[~is_run])
    hashes[is_run] = np.fromiter(map(_RunHashes().__getitem__, runs), np.uint64, len(runs))
    paragraph_starts = np.concatenate([[0], np.searchsorted(places, np.flatnonzero(points == ord("\n")))]).astype(np.int64)
    paragraphs_until = np.concatenate([[0], np.cumsum([len(d) for d in documents])]).astype(np.int64)
    return TokenStream(hashes, paragraph_starts, paragraph_starts[paragraphs_until], singles, runs)
