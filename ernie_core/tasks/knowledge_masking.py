"""Knowledge masking: plain text whose words, phrases and entities are hidden and predicted (ERNIE 1.0, section 3.2; TASKS, Common rules)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from ernie_core.schemas import Document, Sample
from ernie_core.tasks.base import BuildContext, Task, assemble, merge
from ernie_core.tasks.runs import runs

MIN_TOKENS = 8


def build(documents: Sequence[Document], context: BuildContext, drops: Counter[str]) -> Iterator[Sample]:
    """Yield one row a run of whole sentences of one document.

    A sentence longer than a row is cut at word boundaries; runs under 8 tokens are dropped ("short_run"), as are words longer
    than a row ("word_longer_than_row") and documents without a token ("empty_document").

    Example: a document 哈尔滨是黑龙江的省会。 -> one row [CLS] 哈 尔 滨 是 黑 龙 江 的 省 会 。 [SEP], label -1.
    """
    for document in documents:
        empty = True
        for run in runs(document, context, drops):
            empty = False
            encoded = merge([piece.encoded for piece in run])
            if len(encoded[0]) < MIN_TOKENS:
                drops["short_run"] += 1
            else:
                yield assemble([encoded], context, -1)
        drops["empty_document"] += empty


TASK = Task("knowledge_masking", 0, "mask", 0, build, "Sun et al. 2019 (ERNIE 1.0), section 3.2", metric="loss", long_rows=True)
