"""Rows as text that a person can read: words, units and token-level labels, and what masking hides of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ernie_core.data.masking import Masked
from ernie_core.errors import printable
from ernie_core.schemas import ENTITY, PHRASE, WORD, Sample
from ernie_core.vocab import Vocab

LEGEND = (
    "Words are separated by spaces, entities stand in 【】 and phrases in 〈〉; under a token-level task `+` marks a word labelled 1 and `-` one "
    "labelled 0, the others are not scored."
)
_BRACKETS = {PHRASE: "〈{}〉", ENTITY: "【{}】"}
SPECIAL = -1


@dataclass(frozen=True)
class Piece:
    """A special token or a unit of a row: its text, brackets included, its kind (WORD, PHRASE, ENTITY, or SPECIAL) and its tokens start:end."""

    text: str
    kind: int
    start: int
    end: int


def pieces(sample: Sample, vocab: Vocab, task: str) -> list[Piece]:
    """Return a row's special tokens and units in order.

    Args:
        sample: the row; units as `data.rows.Rows.sample` gives them.
        vocab: turns ids back into text.
        task: whose token-level labels are shown, if the row has them.

    Example ([CLS] 哈尔滨 是, the first word an entity): texts ``"[CLS]"``, ``"【哈尔滨】"``, ``"是"``.
    """
    labels = sample.token_labels.get(task)
    found: list[Piece] = []
    i = 0
    while i < len(sample.token_ids):
        end = i + 1
        if sample.seg_labels[i] < 0:
            found.append(Piece(vocab.tokens[sample.token_ids[i]], SPECIAL, i, end))
        else:
            while end < len(sample.token_ids) and sample.unit_labels[end] == 1:
                end += 1
            kind = sample.unit_kind[i]
            found.append(Piece(_BRACKETS.get(kind, "{}").format(" ".join(_words(sample, vocab, labels, i, end))), kind, i, end))
        i = end
    return found


def readable(sample: Sample, vocab: Vocab, task: str) -> str:
    """Return one row as a line of text.

    Example: ``0: [CLS] 【哈尔滨】 是 【黑龙江】 的 省会 [SEP]``.
    """
    return printable(f"{sample.label}: " + " ".join(p.text for p in pieces(sample, vocab, task)), 8000)


def segments(parts: list[Piece], sample: Sample) -> Iterator[tuple[int, list[Piece]]]:
    """Yield (sentence type, pieces) of each segment: up to its [SEP], with it.

    Example: [CLS] 好 [SEP] 是 [SEP] -> (0, [CLS] 好 [SEP]), (1, 是 [SEP]).
    """
    start = 0
    for i, piece in enumerate(parts, 1):
        if (piece.kind == SPECIAL and i > 1) or i == len(parts):
            yield sample.sentence_type_ids[piece.start], parts[start:i]
            start = i


def seen(sample: Sample, masked: Masked, piece: Piece, vocab: Vocab) -> tuple[str, bool]:
    """Return what the model sees of a piece of a row masked alone, and whether any of it is to be predicted.

    A token to be predicted is [MASK], another token with `~` behind it, or the same with `=` behind it (80, 10 and 10 %).

    Example (哈尔滨 hidden, the second token drawn at random, the third left): ``("[MASK]好~滨=", True)``.
    """
    targets = set(masked.targets.tolist()).intersection(range(piece.start, piece.end))
    text = ""
    for i in range(piece.start, piece.end):
        now, was = int(masked.token_ids[i]), sample.token_ids[i]
        mark = "" if i not in targets or now == vocab.mask_id else "=" if now == was else "~"
        text += (" " if text and sample.seg_labels[i] == 0 else "") + vocab.tokens[now].removeprefix("##") + mark
    return (text, True) if targets else (piece.text, False)


def kind_name(kind: int) -> str:
    """Return "word", "phrase", "entity" or "special"."""
    return {WORD: "word", PHRASE: "phrase", ENTITY: "entity", SPECIAL: "special"}[kind]


def _words(sample: Sample, vocab: Vocab, labels: list[int] | None, start: int, end: int) -> list[str]:
    """Return the words of one unit, with their token-level label."""
    words: list[str] = []
    for i in range(start, end):
        piece = vocab.tokens[sample.token_ids[i]].removeprefix("##")
        if sample.seg_labels[i] == 0 or not words:
            words.append(piece)
        else:
            words[-1] += piece
        last_of_word = i + 1 == end or sample.seg_labels[i + 1] == 0
        if labels is not None and last_of_word and labels[i] >= 0:
            words[-1] += "+" if labels[i] else "-"
    return words
