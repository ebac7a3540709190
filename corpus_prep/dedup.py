"""What must not be trained on: documents that stand twice, and documents that share a 13-token run with a benchmark's dev or test text."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ernie_core.errors import InputError
from ernie_core.normalise import basic_tokens, normalise
from ernie_core.seeding import key

RUN_TOKENS = 13  # TASKS, Contamination
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so multiplication loses nothing


class TokenHashes(dict[str, int]):
    """Basic token -> 64-bit hash, remembered."""

    def __missing__(self, token: str) -> int:
        value = key("token", token)
        self[token] = value
        return value

    def array(self, tokens: Sequence[str]) -> NDArray[np.uint64]:
        """Return uint64[len(tokens)]."""
        return np.fromiter(map(self.__getitem__, tokens), np.uint64, len(tokens))


def run_hashes(token_hashes: NDArray[np.uint64], width: int = RUN_TOKENS) -> NDArray[np.uint64]:
    """Return a hash of every run of `width` tokens, uint64[n - width + 1] (a polynomial over random 64-bit values, modulo 2**64).

    Example: 15 tokens -> 3 hashes; 12 tokens -> none.
    """
    out = np.zeros(max(0, len(token_hashes) - width + 1), np.uint64)
    if len(out):
        with np.errstate(over="ignore"):
            for i in range(width):
                out = (out + token_hashes[i : i + len(out)]) * _MULTIPLIER
    return out


def text_hashes(token_hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the hashes by which a text is compared: its runs, or one of its whole where it is shorter than a run."""
    short = len(token_hashes) < RUN_TOKENS
    return run_hashes(token_hashes, max(1, len(token_hashes))) if short else run_hashes(token_hashes)


@dataclass(frozen=True)
class Contamination:
    """Runs of benchmark texts. `hashes`: sorted uint64; `owners`: int16, which of `names` each comes from (the first, where several)."""

    names: tuple[str, ...]
    hashes: NDArray[np.uint64]
    owners: NDArray[np.int16]

    def owners_of(self, texts: Sequence[NDArray[np.uint64]]) -> list[str | None]:
        """Return for each text (token hashes) the benchmark that it shares a run with, or None.

        A text under 13 tokens counts only if it is equal to a benchmark's text of its own length.
        """
        if not len(self.hashes):
            return [None] * len(texts)
        runs, text_of_run = _runs_of_all(texts)
        at = np.minimum(np.searchsorted(self.hashes, runs), len(self.hashes) - 1)
        hits = np.flatnonzero(self.hashes[at] == runs)
        found: list[str | None] = [None] * len(texts)
        for hit in hits[::-1]:
            found[int(text_of_run[hit])] = self.names[int(self.owners[at[hit]])]
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


def _runs_of_all(texts: Sequence[NDArray[np.uint64]]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the hashes of all texts and the index of the text each comes from; long texts are hashed as one array."""
    lengths = np.array([len(t) for t in texts], np.int64)
    text_of_token = np.repeat(np.arange(len(texts)), lengths)
    joined = np.concatenate([np.zeros(0, np.uint64), *texts])
    runs = run_hashes(joined)
    inside = text_of_token[: len(runs)] == text_of_token[len(joined) - len(runs) :]
    short = np.flatnonzero((lengths > 0) & (lengths < RUN_TOKENS))
    wholes = [text_hashes(texts[i]) for i in short.tolist()]
    return np.concatenate([runs[inside], *wholes]), np.concatenate([text_of_token[: len(runs)][inside], short])


def contamination_table(texts: Mapping[str, Iterable[str]]) -> Contamination:
    """Return the table of all runs of the texts of each benchmark, by name."""
    hashes = TokenHashes()
    names = tuple(sorted(texts))
    found: dict[int, int] = {}
    for owner, name in enumerate(names):
        for text in texts[name]:
            for run in text_hashes(hashes.array(basic_tokens(normalise(text)[0]))).tolist():
                found.setdefault(run, owner)
    ordered = np.array(sorted(found), np.uint64)
    return Contamination(names, ordered, np.array([found[int(h)] for h in ordered], np.int16))


def benchmark_texts(path: Path) -> list[str]:
    """Return the texts of a TSV in ERNIE's layout: columns whose header begins with "text", U+0002 between characters removed.

    Raises:
        InputError: E-BENCHMARK-HEADER, no such column.
    """
    lines = path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
    columns = [i for i, name in enumerate(lines[0].split("\t")) if name.startswith("text")]
    if not columns:
        raise InputError(
            "E-BENCHMARK-HEADER",
            "no text column",
            where=str(path),
            expected="a header with text_a",
            found=repr(lines[0][:80]),
            fix="add a header line",
        )
    rows = (line.split("\t") for line in lines[1:])
    return [row[i].replace("\x02", "") for row in rows for i in columns if i < len(row)]


def cross_split_duplicates(doc_ids: Mapping[int, Sequence[str]]) -> dict[int, list[int]]:
    """Return, for each split number, the indexes of documents that stand in an earlier split already.

    Example: ``{0: ["a", "b"], 1: ["b", "c"]}`` -> ``{0: [], 1: [0]}``.
    """
    seen: set[str] = set()
    dropped: dict[int, list[int]] = {}
    for number in sorted(doc_ids):
        dropped[number] = [i for i, doc_id in enumerate(doc_ids[number]) if doc_id in seen]
        seen.update(doc_ids[number])
    return dropped
