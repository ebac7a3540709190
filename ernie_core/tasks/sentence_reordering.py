"""Sentence reordering: in which order do these segments of a paragraph stand (ERNIE 2.0, section 4.2.2; TASKS, Structure-aware).

Classes: the orders of 1 segment, then of 2, of 3, …, each in lexicographic order. Class 0 is (0,); 1, 2 are (0, 1), (1, 0); 3 is (0, 1, 2).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, combinations, islice, pairwise, permutations
from math import factorial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ernie_core.errors import RecipeError
from ernie_core.schemas import Document, Sample, Sentence
from ernie_core.seeding import key
from ernie_core.tasks.base import BuildContext, Encoded, Task, assemble, encode_sentences, merge, running_text
from ernie_core.tasks.enumerations import tells_order

MAX_RATIO = 2  # longest to shortest segment, in tokens
MAX_SURPLUS = 4  # rows by which one number of segments may lead within a split
MAX_ATOMS = 12  # a window looks at no more closed sentences than this, which bounds the search for cuts
_DATE = re.compile(
    r"[“‘\"'（(\s]*(?:(?:截[至止]|到|在|于)?\d{2,4}年|\d{1,2}月|\d{1,2}日|\d{4}[-/.]\d|\d{1,2}[:：]\d\d|周[一二三四五六日]|星期[一二三四五六日])"
)
_SENTENCE_END = re.compile(r"[。！？!?….][”’」』）》\"')\]]*\s*\Z")
_MARK = re.compile(r"[“”‘’「」『』《》〈〉【】（）()\[\]\"]")
_PAIRS = (("“", "”"), ("‘", "’"), ("「", "」"), ("『", "』"), ("《", "》"), ("〈", "〉"), ("【", "】"), ("（(", "）)"), ("[", "]"))


class _Atom(NamedTuple):
    """Sentences that stay together, quotations and brackets closed; `blocked` gives the reason why no segment may hold them."""

    encoded: Encoded
    blocked: str


def class_offset(num_segments: int) -> int:
    """Return the first class of `num_segments` segments.

    Example: 1, 2, 3, 4 -> 0, 1, 3, 9.
    """
    return sum(factorial(n) for n in range(1, num_segments))


def order_of(label: int) -> tuple[int, ...]:
    """Return the order that a class means: the original numbers of the segments, as they stand in the row.

    Example: ``order_of(4)`` -> ``(0, 2, 1)``.
    """
    num_segments = 1
    while class_offset(num_segments + 1) <= label:
        num_segments += 1
    return next(islice(permutations(range(num_segments)), label - class_offset(num_segments), None))


def count_classes(options: Mapping[str, Any]) -> int:
    """Return the size of the head: 9 for max_segments 3, 33 for 4 (the size Baidu used).

    Raises:
        RecipeError: E-TASK-OPTION, max_segments is neither 3 nor 4.
    """
    most = options["max_segments"]
    if most not in (3, 4):
        raise RecipeError(
            "E-TASK-OPTION", "sentence_reordering cannot take this max_segments", expected="3 or 4", found=repr(most), fix="correct it in the recipe"
        )
    return class_offset(most + 1)


def build(documents: Sequence[Document], context: BuildContext, drops: Counter[str]) -> Iterator[Sample]:
    """Yield rows of 2..max_segments segments in their original order; `permute` shuffles them when they are read.

    A segment is whole sentences of one paragraph that end as sentences do, with no quotation or bracket left open, so that
    punctuation does not tell the order. Every number of segments is used equally often, up to MAX_SURPLUS rows of a split.
    Drops: "not_text" (dialogues and the like), "short_paragraph" (under two sentences), "enumeration", "dates_in_series", "unclosed" (quotation, bracket or sentence
    left open), "no_balanced_cut" (no window from here has segments within a factor of 2, of a number still open), "repeated_segment".

    Example: 天下雨了。地很湿。 -> [CLS] 天 下 雨 了 。 [SEP] 地 很 湿 。 [SEP], label 1.
    """
    used = dict.fromkeys(range(2, context.options["max_segments"] + 1), 0)
    for document in running_text(documents, drops):
        for number, paragraph in enumerate(document.paragraphs):
            if len(paragraph) < 2:
                drops["short_paragraph"] += 1
                continue
            draw_key = key(context.seed, "sentence_reordering", document.doc_id, number)
            for stretch in _stretches(_atoms(paragraph, context), drops):
                yield from _rows(stretch, context, used, draw_key, drops)


def _atoms(paragraph: Sequence[Sentence], context: BuildContext) -> list[_Atom]:
    texts = [s.text for s in paragraph]
    dated = [_DATE.match(t) is not None for t in texts]
    series = sum(dated) >= 2
    atoms: list[_Atom] = []
    start = 0
    marks: list[str] = []
    for i, text in enumerate(texts):
        marks += _MARK.findall(text)
        closed = _balanced(marks) and _SENTENCE_END.search(text) is not None
        if not closed and i + 1 < len(texts) and i - start < MAX_ATOMS:
            continue
        held = range(start, i + 1)
        blocked = "" if closed else "unclosed"
        if any(tells_order(texts[j]) for j in held):
            blocked = "enumeration"
        elif series and any(dated[j] for j in held):
            blocked = "dates_in_series"
        atoms.append(_Atom(encode_sentences(() if blocked else paragraph[start : i + 1], context.encode), blocked))
        start, marks = i + 1, []
    return atoms


def _balanced(marks: Sequence[str]) -> bool:
    """Whether quotation marks and brackets are opened as often as closed, kind by kind."""
    if not marks:
        return True
    return marks.count('"') % 2 == 0 and all(sum(map(marks.count, opening)) == sum(map(marks.count, closing)) for opening, closing in _PAIRS)


def _stretches(atoms: Sequence[_Atom], drops: Counter[str]) -> Iterator[list[Encoded]]:
    """Yield the runs of two atoms or more between blocked ones."""
    stretch: list[Encoded] = []
    for atom in atoms:
        if not atom.blocked:
            stretch.append(atom.encoded)
            continue
        drops[atom.blocked] += 1
        if len(stretch) >= 2:
            yield stretch
        stretch = []
    if len(stretch) >= 2:
        yield stretch


def _rows(stretch: Sequence[Encoded], context: BuildContext, used: dict[int, int], draw_key: int, drops: Counter[str]) -> Iterator[Sample]:
    ends = list(accumulate((len(e[0]) for e in stretch), initial=0))
    start = 0
    while start < len(stretch) - 1:
        still_open = (n for n in used if used[n] < min(used.values()) + MAX_SURPLUS)
        for n in sorted(still_open, key=lambda n: (used[n], key(draw_key, start, n))):
            cuts = balanced_cuts(ends, start, n, context.max_seq_len - 1 - n)
            if cuts is not None:
                break
        else:
            drops["no_balanced_cut"] += 1
            start += 1
            continue
        segments = [merge(stretch[a:b]) for a, b in pairwise(cuts)]
        start = cuts[-1]
        if len({tuple(s[0]) for s in segments}) < n:
            drops["repeated_segment"] += 1
            continue
        used[n] += 1
        yield assemble(segments, context, class_offset(n))


def balanced_cuts(ends: Sequence[int], start: int, num_segments: int, limit: int) -> tuple[int, ...] | None:
    """Return the n + 1 borders of the most even cut of the longest window that has one within a factor of 2; None if there is none.

    Args:
        ends: tokens before each atom, and in all.
        start: first atom of the window.
        num_segments: n.
        limit: most tokens in the window.

    Example: atoms of 10, 10, 19 tokens: ``balanced_cuts([0, 10, 20, 39], 0, 2, 100)`` -> ``(0, 2, 3)``.
    """
    stop = min(len(ends) - 1, start + MAX_ATOMS)
    while stop - start >= num_segments and ends[stop] - ends[start] > limit:
        stop -= 1
    for last in range(stop, start + num_segments - 1, -1):
        best, best_ratio = None, float(MAX_RATIO)
        for inner in combinations(range(start + 1, last), num_segments - 1):
            borders = (start, *inner, last)
            lengths = [ends[b] - ends[a] for a, b in pairwise(borders)]
            shortest = min(lengths)
            if shortest and (max(lengths) / shortest, borders) < (best_ratio, best or (len(ends),)):
                best, best_ratio = borders, max(lengths) / shortest
        if best is not None:
            return best
    return None


def permute(sample: Sample, draw_key: int) -> Sample:
    """Return the sample with its segments in an order chosen uniformly by `draw_key`, the identity included, and the class of that order.

    All columns move together; sentence types count the segments as they now stand.

    Example: [CLS] a [SEP] b c [SEP] in the order (1, 0) -> [CLS] b c [SEP] a [SEP], sentence types 0 0 0 0 1 1, label 2.
    """
    seps = [i for i, label in enumerate(sample.seg_labels) if label == -1][1:]
    starts = [1, *(i + 1 for i in seps)]
    index = key(draw_key, "order") % factorial(len(seps))
    order = next(islice(permutations(range(len(seps))), index, None))

    def moved(column: list[int]) -> list[int]:
        return column[:1] + [value for s in order for value in column[starts[s] : starts[s + 1]]]

    types = [0] + [new for new, s in enumerate(order) for _ in range(starts[s + 1] - starts[s])]
    return replace(
        sample, token_ids=moved(sample.token_ids), sentence_type_ids=types, seg_labels=moved(sample.seg_labels),
        unit_labels=moved(sample.unit_labels), unit_kind=moved(sample.unit_kind), label=class_offset(len(seps)) + index,
        token_labels={name: moved(column) for name, column in sample.token_labels.items()},
    )  # fmt: skip


def figures(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> dict[str, float]:
    """Return the accuracy on rows of n segments, "acc_2", "acc_3", …, whose chance is 1/n!, and "acc_pairs", the share of pairs of segments in the right order.

    A predicted order of another number of segments has no pair right.

    Example: labels (1, 3), predicted (1, 4), orders (0, 1) and (0, 2, 1) -> {"acc_2": 1.0, "acc_3": 0.0, "acc_pairs": 0.75}.
    """
    orders, guesses = (list(map(order_of, column.tolist())) for column in (labels, predicted))
    found: dict[str, float] = {}
    sizes = np.array([len(order) for order in orders])
    for n in np.unique(sizes).tolist():
        found[f"acc_{n}"] = float((labels == predicted)[sizes == n].mean())
    right = [
        len(guess) == len(order) and (order[a] < order[b]) == (guess[a] < guess[b])
        for order, guess in zip(orders, guesses, strict=True)
        for a, b in combinations(range(len(order)), 2)
    ]
    return {**found, "acc_pairs": sum(right) / len(right)} if right else found


TASK = Task(
    "sentence_reordering", 3, "sentence", 9, build, "Sun et al. 2020 (ERNIE 2.0), section 4.2.2",
    at_read=permute, options={"max_segments": 3}, count_classes=count_classes, long_rows=True, sentence_types=4, carries=True, figures=figures,
)  # fmt: skip
