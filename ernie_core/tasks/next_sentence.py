"""Next sentence: does the second text follow the first (ERNIE 1.0; TASKS, ERNIE 1.0). Label 1 = next, 0 = not, as in the seed's data."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

from ernie_core.schemas import Document, Sample, Sentence
from ernie_core.seeding import key
from ernie_core.tasks.base import BuildContext, Task, assemble, encode_sentences

GROUP_CHARS = 60
NEAR_DUPLICATE = 0.5  # share of common character pairs (Jaccard) from which two texts count as one


def groups(document: Document) -> list[tuple[Sentence, ...]]:
    """Return the document as consecutive groups of whole sentences of one paragraph, at most 60 characters where sentences allow.

    Both halves of a pair and the negative pool are such groups, so their form tells nothing. The pool of a subset is made of that
    subset's documents alone: a held-out true half met as a negative in training would count against itself (measured: the second
    half alone then scores 0.42 where 0.5 is chance).

    Example: a paragraph with sentences of 20, 30, 40, 70 characters -> [(20, 30), (40,), (70,)].
    """
    found: list[tuple[Sentence, ...]] = []
    for paragraph in document.paragraphs:
        group: list[Sentence] = []
        filled = 0
        for sentence in paragraph:
            length = len(sentence.original)
            if group and filled + length > GROUP_CHARS:
                found.append(tuple(group))
                group, filled = [], 0
            group.append(sentence)
            filled += length
        if group:
            found.append(tuple(group))
    return found


def near_duplicates(left: str, right: str) -> bool:
    """Whether two texts share at least half of their character pairs.

    Example: ``near_duplicates("本报讯昨日大雨", "本报讯今日大雨")`` -> ``True``.
    """
    a, b = (set(itertools.pairwise(text)) for text in (left, right))
    common = len(a & b)
    return left == right or common >= NEAR_DUPLICATE * max(1, len(a) + len(b) - common)


def build(documents: Sequence[Document], context: BuildContext, drops: Counter[str]) -> Iterator[Sample]:
    """Yield one row for every two adjacent groups: the true pair, or the first with a negative, by a fair coin.

    A negative is drawn for every pair *before* the coin falls, and whatever rules it out drops the pair for either outcome;
    otherwise the rows that stay positive would differ in length and genre from the others. Drops: "single_group" (a document
    without a pair), "no_negative", "near_duplicate", "too_long".

    Example: groups 天下雨。 | 地很湿。 -> [CLS] 天 下 雨 。 [SEP] 地 很 湿 。 [SEP], label 1.
    """
    limit = context.max_seq_len - 3
    for document in documents:
        parts = groups(document)
        drops["single_group"] += len(parts) == 1
        encoded = [encode_sentences(part, context.encode) for part in parts]
        texts = ["".join(s.text for s in part) for part in parts]
        for i in range(len(parts) - 1):
            draw_key = key(context.seed, "next_sentence", document.doc_id, i)
            span = context.pool.draw(document.source, sum(len(s.original) for s in parts[i + 1]), document.doc_id, draw_key)
            if span is None:
                drops["no_negative"] += 1
                continue
            other = encode_sentences(span.sentences, context.encode)
            if len(encoded[i][0]) + max(len(encoded[i + 1][0]), len(other[0])) > limit:
                drops["too_long"] += 1
                continue
            wrong = "".join(s.text for s in span.sentences)
            if near_duplicates(texts[i + 1], wrong) or near_duplicates(texts[i], wrong) or near_duplicates(texts[i], texts[i + 1]):
                drops["near_duplicate"] += 1
                continue
            label = key(draw_key, "coin") & 1
            yield assemble([encoded[i], encoded[i + 1] if label else other], context, label)


TASK = Task("next_sentence", 7, "sentence", 2, build, "Sun et al. 2019 (ERNIE 1.0), label 1 = next as in the seed's README")
