"""Dialogue LM: three utterances of a conversation, one of them perhaps from another (ERNIE 1.0, section 3.3; TASKS, ERNIE 1.0). Label 1 = real, 0 = fake.

Role ids, 0 and 1, stand in the place of sentence types: QRQ is 0 1 0, QQR 0 0 1, QRR 0 1 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ernie_core.errors import RecipeError
from ernie_core.schemas import Document, Sample, Sentence
from ernie_core.seeding import key
from ernie_core.tasks.base import BuildContext, PoolSpan, Task, assemble, encode_sentences
from ernie_core.tasks.pairs import head, near_duplicates, no_beginnings, tail

NAME = "dialogue"
FAKE, REAL = 0, 1
UTTERANCES = 3
MIN_LETTERS = 2  # a shorter utterance says nothing
MIN_WORDS = 2  # the default of min_words: an utterance of fewer words of two characters (好吧, 你说什么) stands anywhere, and nobody can tell whether it is real
CANDIDATES = 64  # draws among which a replacement is chosen; of 16, common words gave 0.57 of the labels of short chats away, of 64 0.55
_MARKS = "。！？!?….~～"


def count_classes(options: Mapping[str, Any]) -> int:
    """Return the size of the head: 2.

    Raises:
        RecipeError: E-TASK-OPTION, `min_words` is no number from 0 on.
    """
    if type(least := options["min_words"]) is not int or least < 0:
        raise RecipeError(
            "E-TASK-OPTION", "dialogue cannot take this min_words", expected="a number from 0 on", found=repr(least), fix="correct it in the recipe"
        )
    return 2


class Triple(NamedTuple):
    """Three utterances that follow each other, each with the role of who says it; `place` counts them in their conversation."""

    texts: tuple[PoolSpan, PoolSpan, PoolSpan]
    roles: tuple[int, int, int]
    place: int


def triples(document: Document, seed: int, drops: Counter[str]) -> Iterator[Triple]:
    """Yield threes of utterances so that each two neighbouring turns stand in one of them.

    Turns 0 1 2, 2 3 4 and so on; the last two, where they are left, become three if one of them has two sentences and can be cut at
    a sentence end: QQR or QRR. Without speakers turns alternate (QRQ); with them the roles are the speakers'.
    Drops: "one_turn", "no_third" (two turns left, neither can be cut), "one_speaker", "three_speakers".

    Example: turns 你好 | 好。你呢？ | 很好 -> QRQ; turns 你好 | 好。你呢？ -> QRR 你好 | 好。 | 你呢？.
    """
    speakers = document.roles if any(document.roles) else tuple(str(i % 2) for i in range(len(document.paragraphs)))
    turns = [(turn, speaker) for turn, speaker in zip(document.paragraphs, speakers, strict=True) if turn]
    drops["one_turn"] += len(turns) < 2
    for start in range(0, len(turns) - 1, UTTERANCES - 1):
        window = turns[start : start + UTTERANCES]
        if len(window) < UTTERANCES:
            window = _cut_one(window, key(seed, NAME, document.doc_id, start, "cut"))
        names = list(dict.fromkeys(speaker for _, speaker in window))
        if len(window) < UTTERANCES:
            drops["no_third"] += 1
        elif len(names) != 2:
            drops["one_speaker" if len(names) == 1 else "three_speakers"] += 1
        else:
            a, b, c = (PoolSpan(document.doc_id, document.source, document.work, turn) for turn, _ in window)
            first, second, third = (names.index(speaker) for _, speaker in window)
            yield Triple((a, b, c), (first, second, third), start)


def _cut_one(window: list[tuple[tuple[Sentence, ...], str]], draw_key: int) -> list[tuple[tuple[Sentence, ...], str]]:
    """Return two turns as three utterances, one turn cut at a sentence end, every such place equally likely; unchanged where there is none."""
    places = [(i, k) for i, (turn, _) in enumerate(window) for k in range(1, len(turn))]
    if not places:
        return window
    i, k = places[draw_key % len(places)]
    turn, speaker = window[i]
    return [*window[:i], (turn[:k], speaker), (turn[k:], speaker), *window[i + 1 :]]


def replacement(texts: Sequence[PoolSpan], position: int, context: BuildContext, draw_key: int) -> PoolSpan | None:
    """Return an utterance for the place of one: of another conversation, of the same source and length bin, ending with a mark if it did, with enough words.

    Of 64 draws it is the one that shares as many words with each of the other two as the true one does, or nearly.

    Returns:
        None where the pool holds none.
    """
    true, others = texts[position], [text.every_word for i, text in enumerate(texts) if i != position]
    wanted = [_common(true, other) for other in others]
    words = sorted({w for i, text in enumerate(texts) if i != position for w in text.words & true.words})
    best, best_gap = None, 1 << 30
    for i in range(CANDIDATES):
        draw = key(draw_key, i)
        word = words[draw % len(words)] if words and i % 2 else ""
        span = context.pool.draw(true.source, true.num_chars, true.doc_id, draw // 1024, "", word) if word else None
        span = span or context.pool.draw(true.source, true.num_chars, true.doc_id, draw)
        if span is None:
            break
        if says_little(span, context) or (span.text[-1:] in _MARKS) != (true.text[-1:] in _MARKS):
            continue
        gap = sum(abs(a - b) for other, pair in zip(others, wanted, strict=True) for a, b in zip(_common(span, other), pair, strict=True))
        if gap < best_gap:
            best, best_gap = span, gap
        if not gap:
            break
    return best


def _common(span: PoolSpan, other: frozenset[str]) -> tuple[int, int]:
    """Return how many words they share, and how many of two characters or more."""
    return len(span.every_word & other), len(span.words & other)


def says_little(utterance: PoolSpan, context: BuildContext) -> bool:
    """Whether an utterance has fewer than `min_words` different words of two characters or more."""
    return len(utterance.words) < int(context.options["min_words"])


def ruled_out(texts: Sequence[PoolSpan], other: PoolSpan, whole: str, context: BuildContext) -> str:
    """Return the reason why these utterances make no sample, whatever its label; "" if there is none.

    "short_text": one has fewer than 2 letters; "frequent_line": one holds a line found in too many conversations; "near_duplicate":
    the replacement stands in the conversation too, or is like one of the three.
    """
    everything = (*texts, other)
    if any(sum(map(str.isalpha, span.text)) < MIN_LETTERS for span in everything):
        return "short_text"
    if context.frequent_lines and any(s.text in context.frequent_lines for span in everything for s in span.sentences):
        return "frequent_line"
    return "near_duplicate" if other.text in whole or any(near_duplicates(other.text, text.text) for text in texts) else ""


def build(documents: Sequence[Document], context: BuildContext, drops: Counter[str]) -> Iterator[Sample]:
    """Yield one row for every three utterances, half of them fake: one of the three, each equally often, is another conversation's.

    Position and replacement are drawn before the label, and what rules one out drops the three for either label.
    Drops: "not_dialogue", "few_words" (an utterance has fewer than `min_words` words), "no_negative", "too_long" (a single word fills a row), and those of `triples` and `ruled_out`.

    Example: 你好 | 好呀 | 吃了吗 -> [CLS] 你 好 [SEP] 好 呀 [SEP] 吃 了 吗 [SEP], sentence types 0 0 0 0 1 1 1 0 0 0 0, label 1.
    """
    for document in documents:
        if document.kind != "dialogue":
            drops["not_dialogue"] += 1
            continue
        whole = "".join("".join(s.text for turn in document.paragraphs for s in turn).split())
        for triple in triples(document, context.seed, drops):
            if any(says_little(text, context) for text in triple.texts):
                drops["few_words"] += 1
                continue
            draw_key = key(context.seed, NAME, document.doc_id, triple.place)
            position = key(draw_key, "position") % UTTERANCES
            other = replacement(triple.texts, position, context, draw_key)
            reason = "no_negative" if other is None else ruled_out(triple.texts, other, whole, context)
            if other is None or reason:
                drops[reason] += 1
                continue
            label = key(draw_key, "label") % 2
            texts = list(triple.texts)
            if label == FAKE:
                texts[position] = other
            row = row_of(texts, triple.roles, context, label)
            if row is None:
                drops["too_long"] += 1
            else:
                yield row


def row_of(texts: Sequence[PoolSpan], roles: Sequence[int], context: BuildContext, label: int) -> Sample | None:
    """Return the row of three utterances; the longest lose what does not fit: the first its beginning, the others their end, by whole units.

    Returns:
        None where nothing of an utterance is left.
    """
    encoded = [encode_sentences(text.sentences, context.encode) for text in texts]
    room = room_each([len(ids) for ids, *_ in encoded], context.max_seq_len - 1 - UTTERANCES)
    encoded = [head(text, room) if i else tail(text, room, no_beginnings(context)) for i, text in enumerate(encoded)]
    if not all(ids for ids, *_ in encoded):
        return None
    row = assemble(encoded, context, label)
    row.sentence_type_ids = [roles[segment] for segment in row.sentence_type_ids]
    return row


def room_each(lengths: Sequence[int], limit: int) -> int:
    """Return the most tokens that each may keep so that all fit.

    Example: ``room_each([10, 90, 60], 100)`` -> ``45``.
    """
    for i, length in enumerate(ordered := sorted(lengths)):
        room = (limit - sum(ordered[:i])) // (len(ordered) - i)
        if length > room:
            return room
    return max(lengths)


TASK = Task(
    NAME, 12, "sentence", 2, build, "Sun et al. 2019 (ERNIE 1.0), section 3.3", label_names=("fake", "real"), options={"min_words": MIN_WORDS},
    count_classes=count_classes,
)  # fmt: skip
