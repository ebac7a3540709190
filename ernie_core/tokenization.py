"""BERT's WordPiece over the one normaliser (reference ernie.md 9): CJK characters are single tokens, never ``##x``.

Special tokens are never made from text: ``[MASK]`` in a document is three basic tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ernie_core.errors import IntegrityError
from ernie_core.normalise import NORMALISER_NAME, Normaliser, basic_spans, basic_tokens, is_run_char, normalise, single_characters
from ernie_core.vocab import Vocab

MAX_CHARS = 100  # BERT's: a longer run becomes [UNK]
_MEMO_SIZE = 1 << 18
_RUN, _SPACE = -1, -2  # in the table of code points, where no id stands
T = TypeVar("T")


@dataclass(frozen=True)
class Encodings:
    """Many texts' ids, one after the other.

    Args:
        ids: int32[N].
        starts, ends: int32[N], code point offsets of each id in its own text.
        bounds: int64[texts + 1]; text i has ids[bounds[i]:bounds[i + 1]].
    """

    ids: NDArray[np.int32]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]
    bounds: NDArray[np.int64]


class _Memo(dict[str, T]):
    """Text -> what a function makes of it, remembered: of very many texts all are forgotten now and then."""

    def __init__(self, make: Callable[[str], T]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, text: str) -> T:
        if len(self) >= _MEMO_SIZE:
            self.clear()
        value = self[text] = self._make(text)
        return value


class Tokenizer:
    """Text to ids and back for one vocabulary. Holds memos of words seen, bounded in number."""

    def __init__(self, vocab: Vocab, normaliser: Normaliser = normalise) -> None:
        self.vocab, self.normaliser = vocab, normaliser
        self._longest = max(map(len, vocab.tokens))
        self._run_pieces = _Memo(self._pieces).__getitem__
        self.encode_word = _Memo(self._word_ids).__getitem__
        """(word) -> the ids of one normalised word, or of any normalised text; white space gives []. Do not change the list: it is shared.

        Example: 哈尔滨 -> three ids; "gpt4" -> the pieces gp ##t ##4, or whatever the vocabulary holds.
        """

    def _word_ids(self, word: str) -> list[int]:
        return [i for token in basic_tokens(word) for i, _ in self._pieces(token)]

    def _pieces(self, token: str) -> list[tuple[int, int]]:
        """Return (id, end offset within the token) of each greedy longest piece; [UNK] for the whole where one does not match."""
        ids = self.vocab.ids
        unknown = [(self.vocab.unk_id, len(token))]
        if len(token) > MAX_CHARS:
            return unknown
        pieces: list[tuple[int, int]] = []
        start = 0
        while start < len(token):
            prefix = "##" if start else ""
            for end in range(min(len(token), start + self._longest), start, -1):
                found = ids.get(prefix + token[start:end])
                if found is not None:
                    break
            else:
                return unknown
            pieces.append((found, end))
            start = end
        return pieces

    def encode(self, text: str) -> list[int]:
        """Return the ids of any text, normalised first, without special tokens."""
        return [i for token in basic_tokens(self.normaliser(text)[0]) for i in self.encode_word(token)]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return (ids, their (start, end) code points in the normalised text).

        Example: ``"Ａb 好"`` -> offsets ``[(0, 2), (3, 4)]`` into ``"ab 好"`` where the vocabulary holds "ab".
        """
        normal = self.normaliser(text)[0]
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        for start, end in basic_spans(normal):
            at = start
            for i, piece_end in self._pieces(normal[start:end]):
                ids.append(i)
                offsets.append((at, start + piece_end))
                at = start + piece_end
        return ids, offsets

    @functools.cached_property
    def _table(self) -> NDArray[np.int32]:
        """Code point -> id of a character that is a token by itself, `_RUN` or `_SPACE`: int32[1114112]."""
        table = np.full(0x110000, _RUN, np.int32)
        table[ord(" ")] = _SPACE
        for character in single_characters():
            table[ord(character)] = self._pieces(character)[0][0]
        return table

    def encode_batch(self, texts: Sequence[str]) -> Encodings:
        """Return ids and offsets of many normalised texts: those of `encode_with_offsets`, many times as fast.

        Example: ``["ab 好", "好"]`` -> ids of ab, 好, 好, starts [0, 3, 0], ends [2, 4, 1], bounds [0, 2, 3].
        """
        text = " ".join([*texts, ""])
        char = self._table[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)]
        edges = np.flatnonzero(np.diff(char == _RUN, prepend=False, append=False))
        first = edges[::2]
        pieces = [self._run_pieces(text[a:b]) for a, b in zip(first.tolist(), edges[1::2].tolist(), strict=True)]
        counts = np.fromiter(map(len, pieces), np.int64, len(pieces))
        num_begun = (char >= 0).astype(np.int64)  # ids that begin at each code point
        num_begun[first] = counts
        place = np.concatenate([[0], np.cumsum(num_begun)])
        ids, starts, ends = (np.empty(int(place[-1]), np.int32) for _ in range(3))
        single = np.flatnonzero(char >= 0)
        ids[place[single]], starts[place[single]], ends[place[single]] = char[single], single, single + 1
        flat = np.array(list(chain.from_iterable(pieces)), np.int32).reshape(-1, 2)
        opening = np.cumsum(counts) - counts  # where each run's first piece stands in `flat`
        where = np.repeat(place[first] - opening, counts) + np.arange(len(flat))
        piece_ends = np.repeat(first, counts) + flat[:, 1]
        piece_starts = np.roll(piece_ends, 1)
        piece_starts[opening] = first
        ids[where], starts[where], ends[where] = flat[:, 0], piece_starts, piece_ends
        borders = np.concatenate([[0], np.cumsum(np.fromiter((len(t) + 1 for t in texts), np.int64, len(texts)))])
        bounds = place[borders]
        offset = np.repeat(borders[:-1], np.diff(bounds)).astype(np.int32)
        return Encodings(ids, starts - offset, ends - offset, bounds)

    def decode(self, ids: Sequence[int]) -> str:
        """Return readable text: pieces joined, one space between two runs, none beside CJK and punctuation. Special tokens stand by name.

        Example: ids of gp ##t 好 a b -> ``"gpt好a b"``.
        """
        text = ""
        for i in ids:
            token = self.vocab.tokens[i]
            if token.startswith("##") and len(token) > 2:
                text += token[2:]
            else:
                text += (" " if text and is_run_char(text[-1]) and is_run_char(token[0]) else "") + token
        return text


def load_tokenizer(vocab: Path) -> Tokenizer:
    """Return the tokenizer of a vocabulary file, with the normaliser that the file `normaliser.json` beside it records.

    Raises:
        InputError: E-VOCAB-MISSING, E-VOCAB-FORMAT.
        IntegrityError: E-NORMALISER, no such file, or this program would normalise otherwise.
    """
    path = vocab.with_name(NORMALISER_NAME)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise IntegrityError(
            "E-NORMALISER",
            "nothing says how the vocabulary's text was normalised",
            where=str(path),
            fix="give the folder as preparation or pretraining left it",
        ) from None
    return Tokenizer(Vocab.load(vocab), Normaliser.from_bytes(data, str(path)))
