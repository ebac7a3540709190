"""Ground of the tasks on pairs of texts: groups of whole sentences, negatives as like the true text as the pool allows, rows cut to length."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Sequence
from itertools import chain

import numpy as np

from ernie_core.schemas import Document, Sample
from ernie_core.seeding import key
from ernie_core.tasks.base import BuildContext, Encoded, PoolSpan, assemble, encode_sentences

NEAR_DUPLICATE = 0.5  # share of common character pairs (Jaccard) from which two texts count as one
MIN_LETTERS = 4  # a shorter text says nothing
NO_BEGINNINGS = "，、。；：！？…”’」』）》】,.;:!?)]}%"
_UNKNOWN = "\ue000"  # in no vocabulary
CANDIDATES = 16  # draws among which a negative is chosen
_SPECIALS = 3


def span_chars(max_seq_len: int) -> int:
    """Return the characters that one side of a pair may have where sentences allow: half a row.

    Example: ``span_chars(128)`` -> ``62``.
    """
    return (max_seq_len - _SPECIALS) // 2


def spans(document: Document, max_seq_len: int) -> list[PoolSpan]:
    """Return the document as consecutive spans of whole sentences of one paragraph, at most half a row long where sentences allow.

    Both sides of a pair and the negative pool are such spans, so their form tells nothing. The pool of a subset is made of that
    subset's documents alone: a held-out true side met as a negative in training would count against itself (measured: the second
    half alone then scores 0.42 where 0.5 is chance).

    Example: a paragraph with sentences of 20, 30, 40, 70 characters and rows of 128 -> spans of the sentences (20, 30), (40,), (70,).
    """
    most = span_chars(max_seq_len)
    bounds = [(p, a, b) for p in document.paragraphs for a, b in span_bounds([len(s.original) for s in p], most)]
    return [PoolSpan(document.doc_id, document.source, document.work, p[a:b]) for p, a, b in bounds]


def span_bounds(lengths: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Return the spans of a paragraph, as (first, end) numbers of sentences, from the characters of its sentences; `most`: of a span.

    Example: ``span_bounds([20, 30, 40, 70], 62)`` -> ``[(0, 2), (2, 3), (3, 4)]``.
    """
    starts: list[int] = []
    filled = most + 1  # a paragraph begins a span
    for i, length in enumerate(lengths):
        if filled + length > most:
            starts.append(i)
            filled = 0
        filled += length
    return list(itertools.pairwise([*starts, len(lengths)])) if starts else []


def ruled_out(texts: Sequence[PoolSpan], other: PoolSpan, whole: str, context: BuildContext) -> str:
    """Return the reason why these texts make no sample, whatever its label; "" if there is none.

    "short_text": one has fewer than 4 letters; "enumeration": one holds an item of a list, whose number or bullet tells what stands beside
    it; "frequent_line": one holds a line found in too many documents; "near_duplicate": two of them are, or `other` stands in the document too.

    Args:
        texts: of one document.
        other: of another one.
        whole: the text of the document, without white space.
        context: holds the frequent lines.
    """
    everything = (*texts, other)
    if min(span.num_letters for span in everything) < MIN_LETTERS:
        return "short_text"
    if any(span.has_items for span in everything):
        return "enumeration"
    if context.frequent_lines and not all(map(context.frequent_lines.isdisjoint, (span.lines for span in everything))):
        return "frequent_line"
    if other.text in whole or any(near_duplicates(a.text, b.text) for a, b in itertools.combinations(everything, 2)):
        return "near_duplicate"
    return ""


def near_duplicates(left: str, right: str) -> bool:
    """Whether two texts share at least half of their character pairs.

    Example: ``near_duplicates("本报讯昨日大雨", "本报讯今日大雨")`` -> ``True``.
    """
    if left == right:
        return True
    one, other = _bits_of_pairs(left), _bits_of_pairs(right)
    both = (one & other).bit_count()
    only_left, only_right = one.bit_count() - both, other.bit_count() - both  # at least so many pairs stand in one text alone
    if only_left + only_right > min(len(left) - only_left, len(right) - only_right):  # more than can stand in both: most pairs of texts end here
        return False
    a, b = _character_pairs(left), _character_pairs(right)
    common = len(a & b)
    return common >= NEAR_DUPLICATE * max(1, len(a) + len(b) - common)


@functools.lru_cache(maxsize=1 << 10)
def _bits_of_pairs(text: str) -> int:
    """Return a bit set for each character pair; pairs may share one."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    bits = np.zeros(512, bool)
    bits[(points[:-1] * np.uint32(31) + points[1:]) % 512] = True
    return int.from_bytes(np.packbits(bits).tobytes(), "little")


@functools.lru_cache(maxsize=1 << 10)
def _character_pairs(text: str) -> frozenset[tuple[str, str]]:
    return frozenset(itertools.pairwise(text))


def negative(anchor: PoolSpan, true: PoolSpan, context: BuildContext, draw_key: int, work: str = "") -> PoolSpan | None:
    """Return a span to stand in the place of `true` beside `anchor`: of another document, of the source and length bin of `true`.

    Of 16 draws it is the one that shares as many words of two characters or more with the anchor as `true` does, or nearly; where
    they share any, every second draw is among the spans with a word of the anchor. A text of another topic shares fewer words, and
    counting them gave 0.81 of the labels of news pairs away, now 0.69. (Matching single characters too lets the second half alone
    reach 0.56: it favours spans full of common words.)

    Args:
        anchor: the side that stays.
        true: the side to replace, of the same document.
        context: holds the pool.
        draw_key: what the choice depends on.
        work: only spans of this work; "" for any.

    Returns:
        None where the pool holds none.
    """
    wanted = len(anchor.words & true.words)
    words = sorted(anchor.words) if wanted else []
    best, best_gap = None, 1 << 30
    for i in range(CANDIDATES):
        draw = key(draw_key, i)
        word = words[draw % len(words)] if words and i % 2 else ""
        span = context.pool.draw(true.source, true.num_chars, true.doc_id, draw // 1024, work, word) if word else None
        span = span or context.pool.draw(true.source, true.num_chars, true.doc_id, draw, work)
        gap = abs(len(anchor.words & span.words) - wanted) if span is not None else best_gap
        if gap < best_gap:
            best, best_gap = span, gap
        if not best_gap or span is None:
            break
    return best


def pair_row(first: PoolSpan, second: PoolSpan, context: BuildContext, label: int) -> Sample | None:
    """Return the row of a pair; one longer than a row loses the beginning of its first text and the end of its second, by whole units.

    Returns:
        None where nothing of a side is left: a single word fills it.

    Example: 天下雨。 | 地很湿。 -> [CLS] 天 下 雨 。 [SEP] 地 很 湿 。 [SEP].
    """
    left, right = (encode_sentences(span.sentences, context.encode) for span in (first, second))
    keep, keep_right = rooms(len(left[0]), len(right[0]), context.max_seq_len - _SPECIALS)
    left, right = tail(left, keep, no_beginnings(context)), head(right, keep_right)
    return assemble([left, right], context, label) if left[0] and right[0] else None


def no_beginnings(context: BuildContext) -> frozenset[int]:
    """Return the tokens of marks that no text begins with: 。，、”) and the like; not [UNK], which may be a word."""
    return frozenset(chain.from_iterable(map(context.encode, NO_BEGINNINGS))).difference(context.encode(_UNKNOWN))


def rooms(first: int, second: int, limit: int) -> tuple[int, int]:
    """Return how many tokens each side keeps so that both fit `limit`: a short side all of its own, a long one what that leaves, or half.

    Example: ``rooms(90, 40, 125)`` -> ``(85, 40)``; ``rooms(90, 80, 125)`` -> ``(62, 63)``.
    """
    if first + second <= limit:
        return first, second
    half = limit // 2
    if first <= half:
        return first, limit - first
    if second <= limit - half:
        return limit - second, second
    return half, limit - half


def head(text: Encoded, room: int) -> Encoded:
    """Return the first whole units of a text, at most `room` tokens.

    Example: units 北京 | 下 | 雨, room 3 -> 北京 | 下.
    """
    end = min(room, len(text[0]))
    while 0 < end < len(text[0]) and text[2][end]:
        end -= 1
    return tuple(column[:end] for column in text)


def tail(text: Encoded, room: int, no_beginnings: Collection[int] = ()) -> Encoded:
    """Return the last whole units of a text, at most `room` tokens; what is cut does not begin with one of `no_beginnings`.

    Example: units 北京 | ， | 下 | 雨, room 3 -> ， | 下 | 雨, and without the comma if that is no beginning.
    """
    start = max(0, len(text[0]) - room)
    while 0 < start < len(text[0]) and (text[2][start] or text[0][start] in no_beginnings):
        start += 1
    return tuple(column[start:] for column in text)
