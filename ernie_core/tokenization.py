"""BERT's WordPiece over the one normaliser (reference ernie.md 9): CJK characters are single tokens, never ``##x``.

Special tokens are never made from text: ``[MASK]`` in a document is three basic tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ernie_core.errors import IntegrityError
from ernie_core.normalise import NORMALISER_NAME, Normaliser, basic_spans, basic_tokens, is_run_char, normalise
from ernie_core.vocab import Vocab

_MAX_CHARS = 100  # BERT's: a longer run becomes [UNK]
_MEMO_SIZE = 1 << 18


class Tokenizer:
    """Text to ids and back for one vocabulary. Holds memos of words seen, bounded in number."""

    def __init__(self, vocab: Vocab, normaliser: Normaliser = normalise) -> None:
        self.vocab, self.normaliser = vocab, normaliser
        self._words: dict[str, list[int]] = {}
        self._longest = max(map(len, vocab.tokens))

    def encode_word(self, word: str) -> list[int]:
        """Return the ids of one normalised word, or of any normalised text; white space gives []. Do not change the list: it is shared.

        Example: 哈尔滨 -> three ids; "gpt4" -> the pieces gp ##t ##4, or whatever the vocabulary holds.
        """
        ids = self._words.get(word)
        if ids is None:
            ids = [i for token in basic_tokens(word) for i, _ in self._pieces(token)]
            if len(self._words) >= _MEMO_SIZE:
                self._words.clear()
            self._words[word] = ids
        return ids

    def _pieces(self, token: str) -> list[tuple[int, int]]:
        """Return (id, end offset within the token) of each greedy longest piece; [UNK] for the whole where one does not match."""
        ids = self.vocab.ids
        unknown = [(self.vocab.unk_id, len(token))]
        if len(token) > _MAX_CHARS:
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
