"""Capitalization: was this word capitalised before the text was lower-cased (ERNIE 2.0, section 4.2.1; TASKS, Word-aware). English."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from string import ascii_uppercase

from ernie_core.errors import RecipeError
from ernie_core.schemas import Document, Sample, Sentence
from ernie_core.tasks.base import BuildContext, Encode, Task, assemble, merge, running_text
from ernie_core.tasks.runs import Piece, runs

NAME = "capitalization"
MIN_TOKENS = 8
_QUOTES = "\"'`“‘„«「『"
_OPENERS = " ([{-–—/…“‘«「『\"'`"
_APOSTROPHES = "'’"
_FIRST_PERSON = re.compile(r"I(?:['’].*)?")


def check_uncased(encode: Encode) -> None:
    """Raise where the vocabulary tells capital letters apart.

    Raises:
        RecipeError: E-VOCAB-CASED.
    """
    if len({tuple(encode(letter)) for letter in ascii_uppercase}) > 1:
        raise RecipeError(
            "E-VOCAB-CASED", "capitalization needs an uncased vocabulary: capital letters in the input would tell the labels",
            expected="a vocabulary without capital letters", found="tokens of capital letters",
            fix="bring an uncased one, build one from the corpus (prepare.vocab: null), or take the task out",
        )  # fmt: skip


def label_of(original: str) -> int:
    """Return 1 for a capitalised word (Word, WORD), 0 for a small one, -1 for what is not scored: I, mixed case, no letter with a case.

    Example: London, BBC, the, iPhone, I, I'm, 2018 -> 1, 1, 0, -1, -1, -1, -1.
    """
    letters = "".join(c for c in original if c.lower() != c.upper())
    if not letters or _FIRST_PERSON.fullmatch(original):
        return -1
    if letters.islower():
        return 0
    return 1 if letters.isupper() or (letters[0].isupper() and letters[1:].islower()) else -1


def word_labels(sentence: Sentence) -> list[int]:
    """Return a label per word of a sentence.

    Not scored beside what `label_of` leaves out: the first word of the sentence and of a quotation (a capital there says nothing of
    the word), what follows an apostrophe inside a word, and all words of a sentence of which more than half of the letters are capitals.

    Example: It was in London, he said: "My word!" -> It -1, was 0, in 0, London 1, he 0, said 0, My -1, word 0.
    """
    original = sentence.original
    if mostly_capitals(original):
        return [-1] * len(sentence.words)
    labels: list[int] = []
    starts = True  # the next word is the first of the sentence or of a quotation
    for start, word in zip(accumulate(map(len, sentence.words), initial=0), sentence.words, strict=False):
        is_word = any(map(str.isalnum, word))
        continues = is_word and start > 1 and original[start - 1] in _APOSTROPHES and original[start - 2].isalnum()
        labels.append(-1 if starts or continues else label_of(original[start : start + len(word)]))
        if is_word:
            starts = False
        elif _opens(original, start + len(word)):
            starts = True
    return labels


def mostly_capitals(original: str) -> bool:
    """Whether more than half of the letters are capitals.

    Example: ``mostly_capitals("CHAPTER ONE begins")`` -> ``True``.
    """
    return 2 * sum(map(str.isupper, original)) > sum(map(str.isalpha, original))


def _opens(original: str, end: int) -> bool:
    """Whether the mark before `end` opens a quotation: a quotation mark with a letter or digit behind it and none before it."""
    before = original[end - 2] if end > 1 else " "
    return original[end - 1] in _QUOTES and before in _OPENERS and original[end : end + 1].isalnum()


def build(documents: Sequence[Document], context: BuildContext, drops: Counter[str]) -> Iterator[Sample]:
    """Yield one row a run of whole sentences, with a label for every token of a scored word: 1 = the word was capitalised.

    Drops: "not_text", "short_run" (under 8 tokens), "nothing_scored" (a run without a scored word), "word_longer_than_row".

    Example: He lives in London. -> tokens he lives in lon ##don . labelled -1 0 0 1 1 -1.

    Raises:
        RecipeError: E-VOCAB-CASED.
    """
    check_uncased(context.encode)
    for document in running_text(documents, drops):
        for run in runs(document, context, drops):
            encoded = merge([piece.encoded for piece in run])
            labels = [label for piece in run for label in _token_labels(piece, context)]
            if len(labels) < MIN_TOKENS:
                drops["short_run"] += 1
            elif max(labels) < 0:
                drops["nothing_scored"] += 1
            else:
                sample = assemble([encoded], context, -1)
                sample.token_labels[NAME] = [-1, *labels, -1]
                yield sample


def _token_labels(piece: Piece, context: BuildContext) -> Iterator[int]:
    for word, label in zip(piece.sentence.words, word_labels(piece.whole)[piece.first_word :], strict=False):
        yield from [label] * len(context.encode(word))


def label_words(document: Document, context: BuildContext) -> list[list[int]]:
    """Return, for each sentence of a document, a label per word (`word_labels`).

    Raises:
        RecipeError: E-VOCAB-CASED.
    """
    check_uncased(context.encode)
    return [word_labels(sentence) for paragraph in document.paragraphs for sentence in paragraph]


TASK = Task(
    NAME,
    1,
    "token",
    2,
    build,
    "Sun et al. 2020 (ERNIE 2.0), section 4.2.1",
    metric="average_precision",
    label_names=("lower case", "capitalised"),
    long_rows=True,
    label_words=label_words,
)
