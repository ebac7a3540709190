"""What a pretraining task is: a fixed id, a level, classes, a builder of rows, and a read-time hook. Torch-free; one file per task beside this one."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, chain, repeat
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ernie_core.errors import RecipeError, closest
from ernie_core.registry import scan
from ernie_core.schemas import Document, Sample, Sentence
from ernie_core.tasks.enumerations import is_item

MAX_UNIT_TOKENS = 8  # TASKS, Units: longer phrases and entities fall back to their words

Encode = Callable[[str], list[int]]
Hook = Callable[[Sample, int], Sample]
# token_ids, seg_labels, unit_labels, unit_kind of some text and the labels that its sentences carry, without specials: one integer per token each
Encoded = tuple[list[int], ...]


@dataclass(frozen=True)
class PoolSpan:
    """A run of whole sentences, offered as a negative: from `doc_id`, of `source` and there of `work`."""

    doc_id: str
    source: str
    work: str
    sentences: tuple[Sentence, ...]

    @cached_property
    def num_chars(self) -> int:
        return sum(len(s.original) for s in self.sentences)

    @cached_property
    def num_letters(self) -> int:
        """Letters and digits."""
        return sum(map(str.isalnum, self.text))

    @cached_property
    def has_items(self) -> bool:
        """Whether a sentence begins as an item of a list or a note does."""
        return any(is_item(s.text) for s in self.sentences)

    @cached_property
    def lines(self) -> frozenset[str]:
        """The distinct sentences."""
        return frozenset(s.text for s in self.sentences)

    @cached_property
    def text(self) -> str:
        """The normalised text without white space, as its tokens spell it."""
        return "".join("".join(s.text for s in self.sentences).split())

    @cached_property
    def words(self) -> frozenset[str]:
        """The distinct words of two characters or more."""
        return frozenset(w for s in self.sentences for w in s.words if len(w) > 1)

    @cached_property
    def every_word(self) -> frozenset[str]:
        """The distinct words and marks."""
        return frozenset(w for s in self.sentences for w in s.words if not w.isspace())


class Pool(Protocol):
    """Corpus table of negatives."""

    def draw(self, source: str, num_chars: int, not_doc: str, draw_key: int, work: str = "", word: str = "") -> PoolSpan | None:
        """Return a span of the same source and length bin from another document, chosen by `draw_key`; None if there is none.

        `work`: only of this work of the source, "" for any. `word`: only with this word of two characters or more, "" for any.
        """


@dataclass(frozen=True)
class BuildContext:
    """All that a builder may see beside the split's documents.

    Args:
        encode: one normalised word -> token ids (WordPiece; CJK characters are single tokens; white space gives []).
        cls_id, sep_id: special token ids.
        max_seq_len: longest row in tokens, specials included.
        seed: the recipe's seed.
        pool: negatives.
        frequent_lines: sentences' texts found in more than 0.5 % of documents.
        options: the task's own options from the recipe.
        candidates: of this task in the whole corpus, (source, class, bin) -> how many, see `Task.candidates`.
        carry: the token-level tasks of `Sentence.labels`, in its order; rows hold them in `Sample.token_labels`.
    """

    encode: Encode
    cls_id: int
    sep_id: int
    max_seq_len: int
    seed: int
    pool: Pool
    frequent_lines: frozenset[str]
    options: Mapping[str, Any] = field(default_factory=dict)
    candidates: Mapping[tuple[str, int, str], int] = field(default_factory=dict)
    carry: tuple[str, ...] = ()


Figures = Callable[[NDArray[np.int64], NDArray[np.int64]], dict[str, float]]
Builder = Callable[[Sequence[Document], BuildContext, Counter[str]], Iterator[Sample]]


@dataclass(frozen=True)
class Task:
    """A pretraining task.

    Args:
        name: lower_snake_case, also the name of its shards, head and metrics.
        task_id: fixed for ever, 0..15; the row of the task embedding.
        level: "sentence" (a class for the row), "token" (a class per token) or "mask" (masked LM only).
        num_classes: size of its head under the default options; 0 for "mask".
        build: (documents of one split, context, drop counter) -> samples in document order. Every document or candidate it
            leaves out is counted under a reason.
        source: where the definition comes from.
        at_read: (sample, key of (seed, epoch, sample_id)) -> sample, applied each time a row is read; None for most.
        options: the names a recipe may set for this task, with their defaults.
        metric: what its validation curve and its shortcut bars are measured in: "accuracy", "average_precision" or "loss".
        count_classes: size of the head under given (complete) options; None where it is always `num_classes`.
        label_names: what each class means, for people; () where a number says it best.
        name_labels: the same where it depends on the (complete) options.
        candidates: (document, complete options) -> (class, bin) of each candidate for a row. Pass 1 counts them, so that `build` can
            sample a class or a bin down to a number that holds for the whole corpus; None for most.
        long_rows: whether its rows may be as long as a recipe's long rows (`prepare.long_rows`). Tasks with negatives from the pool have
            none: pool and candidates are of the length of short rows, and a longer row would give its label away.
        sentence_types: how many segments its rows may tell apart.
        label_words: of a token-level task: (document, context) -> for each sentence, in the order of the text, a label per word as its own
            rows have them, so that rows of other tasks can hold them too (`prepare.carry`).
        figures: further figures of its validation: (labels, predicted classes) of rows -> name -> value; None where accuracy says it all.
        carries: whether rows of this sentence-level task hold text of one document only, so that they can hold such labels.
    """

    name: str
    task_id: int
    level: str
    num_classes: int
    build: Builder
    source: str
    at_read: Hook | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    metric: str = "accuracy"
    count_classes: Callable[[Mapping[str, Any]], int] | None = None
    label_names: tuple[str, ...] = ()
    name_labels: Callable[[Mapping[str, Any]], tuple[str, ...]] | None = None
    candidates: Callable[[Document, Mapping[str, Any]], Iterator[tuple[int, str]]] | None = None
    long_rows: bool = False
    sentence_types: int = 2
    label_words: Callable[[Document, BuildContext], list[list[int]]] | None = None
    carries: bool = False
    figures: Figures | None = None

    def complete(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the task's defaults overlaid with a recipe's `options`.

        Raises:
            RecipeError: E-TASK-OPTION, an option this task does not have.

        Example: ``sentence_reordering.complete({})`` -> ``{"max_segments": 3}``.
        """
        for name in options:
            if name not in self.options:
                valid = closest(name, self.options) or "none: this task has no options"
                raise RecipeError(
                    "E-TASK-OPTION", f"task {self.name} has no option {name!r}", expected=valid, fix="correct or remove it in the recipe"
                )
        return {**self.options, **options}

    def classes(self, options: Mapping[str, Any]) -> int:
        """Return the size of the head under a recipe's `options`.

        Raises:
            RecipeError: E-TASK-OPTION, an unknown option or a value that the task cannot take.
        """
        complete = self.complete(options)
        return self.num_classes if self.count_classes is None else self.count_classes(complete)

    def meanings(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return what each class means under a recipe's `options`; () where a number says it best.

        Raises:
            RecipeError: E-TASK-OPTION, an unknown option.
        """
        return self.label_names if self.name_labels is None else self.name_labels(self.complete(options))


def all_tasks() -> dict[str, Task]:
    """Return every task in `ernie_core/tasks`, by name; ids are unique and in 0..15.

    Raises:
        ValueError: two tasks share a name or an id.
    """
    tasks = scan(importlib.import_module("ernie_core.tasks"), Task)
    ids = Counter(t.task_id for t in tasks.values())
    clash = [t.name for t in tasks.values() if ids[t.task_id] > 1 or not 0 <= t.task_id < 16]
    if clash:
        raise ValueError(f"task ids must be unique and in 0..15: {', '.join(clash)}")
    return tasks


def running_text(documents: Sequence[Document], drops: Counter[str]) -> Iterator[Document]:
    """Yield the documents of kind "text"; the others are counted under "not_text"."""
    for document in documents:
        if document.kind == "text":
            yield document
        else:
            drops["not_text"] += 1


class _WordLabels(dict[int, tuple[int, ...]]):
    """Number of a word's tokens -> their seg_labels: 3 -> (0, 1, 1)."""

    def __missing__(self, num_tokens: int) -> tuple[int, ...]:
        labels = (0,) + (1,) * (num_tokens - 1) if num_tokens else ()
        self[num_tokens] = labels
        return labels


_word_labels = _WordLabels()


def encode_sentences(sentences: Sequence[Sentence], encode: Encode) -> Encoded:
    """Return (token_ids, seg_labels, unit_labels, unit_kind, and each of `Sentence.labels`) of consecutive sentences, without specials.

    Units of more than 8 tokens fall back to their words (TASKS, Units).

    Example: 哈尔滨是 as words (哈尔滨, 是), unit (0, 1, ENTITY) -> ([5, 6, 7, 8], [0, 1, 1, 0], [0, 1, 1, 0], [2, 2, 2, 0]).
    """
    token_ids: list[int] = []
    seg: list[int] = []
    unit: list[int] = []
    kind: list[int] = []
    carried: tuple[list[int], ...] = tuple([] for _ in (sentences[0].labels if sentences else ()))
    for sentence in sentences:
        first = len(token_ids)
        words = list(map(encode, sentence.words))
        lengths = list(map(len, words))
        token_ids.extend(chain.from_iterable(words))
        seg.extend(chain.from_iterable(map(_word_labels.__getitem__, lengths)))
        unit += seg[first:]
        kind += [0] * (len(token_ids) - first)
        for column, labels in zip(carried, sentence.labels, strict=True):
            column.extend(chain.from_iterable(map(repeat, labels, lengths)))
        if not sentence.units:
            continue
        word_at = list(accumulate(lengths, initial=first))
        for u in sentence.units:
            start, end = word_at[u.start], word_at[u.end]
            if 0 < end - start <= MAX_UNIT_TOKENS:
                unit[start:end] = _word_labels[end - start]
                kind[start:end] = [u.kind] * (end - start)
    return token_ids, seg, unit, kind, *carried


def with_labels(document: Document, columns: Sequence[Sequence[Sequence[int]]]) -> Document:
    """Return a document whose sentences hold labels: of each task, for each sentence in the order of the text, a label per word.

    Example: sentences of 2 and 1 words, ``[[[1, 0], [-1]]]`` -> labels ((1, 0),) and ((-1,),).
    """
    by_sentence = zip(*columns, strict=True)
    paragraphs = tuple(tuple(replace(s, labels=tuple(map(tuple, next(by_sentence)))) for s in p) for p in document.paragraphs)
    return replace(document, paragraphs=paragraphs)


def merge(parts: Sequence[Encoded]) -> Encoded:
    """Return consecutive texts as one.

    Example: ([5, 6], [0, 1], [0, 1], [0, 0]) and ([7], [0], [0], [2]) -> ([5, 6, 7], [0, 1, 0], [0, 1, 0], [0, 0, 2]).
    """
    return tuple(list(chain.from_iterable(columns)) for columns in zip(*parts, strict=True))


def assemble(segments: Sequence[Encoded], context: BuildContext, label: int) -> Sample:
    """Return [CLS] s0 [SEP] s1 [SEP] …: sentence types count the segments, CLS and the first SEP belong to segment 0.

    Example: segments 5 6 | 7 -> token_ids [1, 5, 6, 2, 7, 2], sentence_type_ids [0, 0, 0, 0, 1, 1], seg_labels [-1, 0, 0, -1, 0, -1].
    """
    sample = Sample([context.cls_id], [0], [], [-1], [-1], [-1], label, {name: [-1] for name in context.carry})
    for i, (ids, seg, unit, kind, *carried) in enumerate(segments):
        sample.token_ids += [*ids, context.sep_id]
        sample.sentence_type_ids += [i] * (len(ids) + 1)
        sample.seg_labels += [*seg, -1]
        sample.unit_labels += [*unit, -1]
        sample.unit_kind += [*kind, -1]
        for name, labels in zip(context.carry, carried, strict=True):
            sample.token_labels[name] += [*labels, -1]
    sample.position_ids = list(range(len(sample.token_ids)))
    return sample
