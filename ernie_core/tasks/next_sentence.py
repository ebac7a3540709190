"""Next sentence: does the second text follow the first (ERNIE 1.0; TASKS, ERNIE 1.0). Label 1 = next, 0 = not, as in the seed's data; 2 = previous.

With `classes: 3` the second text can also be the one before the first, as in Baidu's later reader (reference ernie.md 3.5).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ernie_core.errors import RecipeError
from ernie_core.schemas import Document, Sample
from ernie_core.seeding import key
from ernie_core.tasks.base import BuildContext, PoolSpan, Task, encode_sentences, running_text
from ernie_core.tasks.pairs import negative, pair_row, ruled_out, spans

OTHER, NEXT, PREVIOUS = 0, 1, 2


def count_classes(options: Mapping[str, Any]) -> int:
    """Return the size of the head: 2 (next or not), or 3 (previous too).

    Raises:
        RecipeError: E-TASK-OPTION, `classes` is neither 2 nor 3.
    """
    classes = options["classes"]
    if classes not in (2, 3):
        raise RecipeError(
            "E-TASK-OPTION",
            "next_sentence cannot have this number of classes",
            expected="2 or 3",
            found=repr(classes),
            fix="correct it in the recipe",
        )
    return int(classes)


def build(documents: Sequence[Document], context: BuildContext, drops: Counter[str]) -> Iterator[Sample]:
    """Yield one row for every two adjacent spans: the true pair, the first with a negative, or (3 classes) the true pair swapped.

    A negative is drawn for every pair *before* the label, and whatever rules it out drops the pair for each label alike;
    otherwise the rows that stay positive would differ in length and genre from the others. A pair longer than a row loses the
    beginning of its first text and the end of its second; with 3 classes it is dropped, since the cuts would tell which came first.
    With 3 classes the negative stands in the place of either half, equally often.
    Drops: "not_text" (dialogues and the like), "single_span" (a document without a pair), "no_negative", "too_long", and those of
    `pairs.ruled_out`; also "near_duplicate" where the swapped pair stands in the document too.

    Example: spans 天下雨。 | 地很湿。 -> [CLS] 天 下 雨 。 [SEP] 地 很 湿 。 [SEP], label 1.
    """
    classes = context.options["classes"]
    for document in running_text(documents, drops):
        parts = spans(document, context.max_seq_len)
        whole = "".join(part.text for part in parts)
        drops["single_span"] += len(parts) == 1
        for i, (first, second) in enumerate(pairwise(parts)):
            draw_key = key(context.seed, "next_sentence", document.doc_id, i)
            label = key(draw_key, "label") % classes
            swapped = classes == 3 and key(draw_key, "side") % 2 == 1
            kept, replaced = (second, first) if swapped else (first, second)
            other = negative(kept, replaced, context, draw_key)
            if other is None:
                drops["no_negative"] += 1
                continue
            reason = "near_duplicate" if second.text + first.text in whole else ruled_out((first, second), other, whole, context)
            if reason:
                drops[reason] += 1
                continue
            with_other = (other, second) if swapped else (first, other)
            pair = {OTHER: with_other, NEXT: (first, second), PREVIOUS: (second, first)}[label]
            row = pair_row(*pair, context, label) if classes == 2 or fits(kept, replaced, other, context) else None
            if row is None:
                drops["too_long"] += 1
            else:
                yield row


def fits(kept: PoolSpan, replaced: PoolSpan, other: PoolSpan, context: BuildContext) -> bool:
    """Whether the row holds `kept` with either of the others uncut."""
    lengths = [len(encode_sentences(span.sentences, context.encode)[0]) for span in (kept, replaced, other)]
    return lengths[0] + max(lengths[1:]) <= context.max_seq_len - 3


TASK = Task(
    "next_sentence", 7, "sentence", 2, build, "Sun et al. 2019 (ERNIE 1.0), label 1 = next as in the seed's README",
    options={"classes": 2}, count_classes=count_classes, label_names=("not next", "next", "previous"),
)  # fmt: skip
