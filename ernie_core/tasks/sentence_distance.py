"""Sentence distance: are two texts adjacent, of one document, or of two (ERNIE 2.0, section 4.2.2; TASKS, Structure-aware)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from ernie_core.schemas import Document, Sample
from ernie_core.seeding import key
from ernie_core.tasks.base import BuildContext, PoolSpan, Task, running_text
from ernie_core.tasks.pairs import negative, pair_row, ruled_out, spans

NAME = "sentence_distance"
ADJACENT, SAME_DOCUMENT, OTHER_DOCUMENT = 0, 1, 2
MIN_GAP = 2


def build(documents: Sequence[Document], context: BuildContext, drops: Counter[str]) -> Iterator[Sample]:
    """Yield one row for every two adjacent spans of whole sentences, of a class drawn uniformly.

    0: the two, in text order. 1: the first of them and one of the same document, a gap away that is drawn uniformly from 2 to the
    largest. 2: the first of them and one of another document of the same source, as long and as like the first as the text of
    class 1; half of the time, where there is one, of the same work (another chapter of the same novel). Classes 1 and 2 stand in
    either order equally often. All three are drawn before the class, and what rules out one drops the pair.
    Drops: "not_text", "short_document" (under 3 spans), "no_far_span" (none is 2 away), "no_negative", "too_long", and those of
    `pairs.ruled_out`; also "near_duplicate" where the text of class 1 stands beside the first somewhere too.

    Example: spans a b c d of a document, anchor a -> class 0: a | b; class 1: a | d or d | a; class 2: a | x or x | a.
    """
    for document in running_text(documents, drops):
        parts = spans(document, context.max_seq_len)
        if len(parts) <= MIN_GAP:
            drops["short_document"] += 1
            continue
        whole = "".join(part.text for part in parts)
        for i in range(len(parts) - 1):
            draw_key = key(context.seed, NAME, document.doc_id, i)
            gap = far(len(parts), i, draw_key)
            if gap == 0:
                drops["no_far_span"] += 1
                continue
            anchor, candidates = parts[i], (parts[i + 1], parts[i + gap])
            other = other_document(anchor, parts[i + gap], context, draw_key)
            if other is None:
                drops["no_negative"] += 1
                continue
            reason = "near_duplicate" if _touch(anchor, parts[i + gap], whole) else ruled_out((anchor, *candidates), other, whole, context)
            if reason:
                drops[reason] += 1
                continue
            label = key(draw_key, "label") % 3
            pair = (anchor, (*candidates, other)[label])
            turned = label != ADJACENT and key(draw_key, "order") % 2 == 1
            row = pair_row(*(pair[::-1] if turned else pair), context, label)
            if row is None:
                drops["too_long"] += 1
            else:
                yield row


def _touch(left: PoolSpan, right: PoolSpan, whole: str) -> bool:
    """Whether the two texts stand side by side somewhere in the document."""
    return left.text + right.text in whole or right.text + left.text in whole


def far(num_parts: int, place: int, draw_key: int) -> int:
    """Return how far from `place` the other text of class 1 stands, negative for before; 0 where all others are adjacent.

    The gap is uniform over 2 … the largest; where both sides have a text so far away, either is as likely.

    Example: ``far(3, 1, k)`` -> ``0``; ``far(3, 0, k)`` -> ``2``; ``far(9, 4, k)`` -> one of -4, -3, -2, 2, 3, 4.
    """
    largest = max(place, num_parts - 1 - place)
    if largest < MIN_GAP:
        return 0
    gap = MIN_GAP + key(draw_key, "gap") % (largest - MIN_GAP + 1)
    both = [step for step in (gap, -gap) if 0 <= place + step < num_parts]
    return both[key(draw_key, "side") % len(both)]


def other_document(anchor: PoolSpan, true: PoolSpan, context: BuildContext, draw_key: int) -> PoolSpan | None:
    """Return a text of another document of the source; half of the time of the same work, where the pool holds one of it."""
    found = None
    if anchor.work and key(draw_key, "work") % 2:
        found = negative(anchor, true, context, draw_key, anchor.work)
    return found or negative(anchor, true, context, draw_key)


LABEL_NAMES = ("adjacent", "same document", "another document")
TASK = Task(NAME, 8, "sentence", 3, build, "Sun et al. 2020 (ERNIE 2.0), section 4.2.2", label_names=LABEL_NAMES)
