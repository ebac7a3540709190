"""Cuts a document into runs of whole sentences that fill a row: the ground of knowledge masking and of the token-document relation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from ernie_core.schemas import Document, Sentence, Unit
from ernie_core.tasks.base import MAX_UNIT_TOKENS, BuildContext, Encoded, encode_sentences


class Piece(NamedTuple):
    """A sentence, or a part of one too long for a row: `sentence` holds the part, `whole` what it was cut from (mostly the same), from which word on.

    `number`: of the whole sentence in its document, from 0.
    """

    sentence: Sentence
    whole: Sentence
    first_word: int
    encoded: Encoded
    number: int


def runs(document: Document, context: BuildContext, drops: Counter[str]) -> Iterator[list[Piece]]:
    """Yield greedy runs of consecutive pieces of at most ``max_seq_len - 2`` tokens.

    Example: sentences of 50, 60, 30 tokens and max_seq_len 128 -> [50, 60], [30].
    """
    limit = context.max_seq_len - 2
    run: list[Piece] = []
    num_tokens = 0
    for piece in _pieces(document, context, limit, drops):
        length = len(piece.encoded[0])
        if run and num_tokens + length > limit:
            yield run
            run, num_tokens = [], 0
        run.append(piece)
        num_tokens += length
    if run:
        yield run


def _pieces(document: Document, context: BuildContext, limit: int, drops: Counter[str]) -> Iterator[Piece]:
    for number, sentence in enumerate(chain.from_iterable(document.paragraphs)):
        encoded = encode_sentences((sentence,), context.encode)
        if len(encoded[0]) > limit:
            for first, end in _cut(sentence, context, limit, drops):
                part = _part(sentence, first, end)
                yield Piece(part, sentence, first, encode_sentences((part,), context.encode), number)
        elif encoded[0]:
            yield Piece(sentence, sentence, 0, encoded, number)


def _cut(sentence: Sentence, context: BuildContext, limit: int, drops: Counter[str]) -> Iterator[tuple[int, int]]:
    """Yield, as ranges of words, parts of at most `limit` tokens, cut at word boundaries and not inside a unit; a word longer than a row is left out."""
    lengths = [len(context.encode(word)) for word in sentence.words]
    start = filled = 0
    for first, last in _atoms(sentence, lengths):
        length = sum(lengths[first:last])
        if length > limit:
            drops["word_longer_than_row"] += 1
        if filled + length > limit:
            if filled:
                yield start, first
            start, filled = (first, length) if length <= limit else (last, 0)
        else:
            filled += length
    if filled:
        yield start, len(sentence.words)


def _atoms(sentence: Sentence, lengths: list[int]) -> Iterator[tuple[int, int]]:
    """Yield word ranges that stay together: units that masking can hide as one, and the single words between them."""
    word = 0
    for unit in sentence.units:
        if sum(lengths[unit.start : unit.end]) <= MAX_UNIT_TOKENS:
            yield from ((i, i + 1) for i in range(word, unit.start))
            yield unit.start, unit.end
            word = unit.end
    yield from ((i, i + 1) for i in range(word, len(lengths)))


def _part(sentence: Sentence, start: int, end: int) -> Sentence:
    units = tuple(Unit(u.start - start, u.end - start, u.kind) for u in sentence.units if start <= u.start and u.end <= end)
    first = sum(map(len, sentence.words[:start]))
    return Sentence(sentence.words[start:end], units, sentence.original[first : first + sum(map(len, sentence.words[start:end]))])
