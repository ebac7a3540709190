"""Benchmarks whose answer is a span of a context (ernie.md 7.4, 8.3, 8.4).

The whole context is encoded as in pretraining, for training and evaluation alike; ERNIE 2.0 cut it at the answer for training. A
prediction is shown as it stands in the context: tokens are followed back through the normaliser, where ERNIE 2.0 guessed by likeness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ernie_core.benchmarks.base import SPAN_END, SPAN_START, Benchmark, Encoded, Example, Outputs, Preset, Source, sample_of
from ernie_core.benchmarks.dureader_layout import DuReader
from ernie_core.benchmarks.metrics.base import Counts
from ernie_core.benchmarks.metrics.reading import EM, EM_F1, F1, chinese_scores, reading_counts, squad_scores
from ernie_core.benchmarks.offsets import follow
from ernie_core.benchmarks.squad_layout import NO_ANSWER, Squad
from ernie_core.benchmarks.windows import Window, windows
from ernie_core.schemas import Sample
from ernie_core.tokenization import Tokenizer

SPAN = "span"
"""Name of the token label."""
MAX_QUESTION = 64
MAX_ANSWER = 100
NUM_BEST = 20
"""Starts and ends tried in a window, and answers listed of a question."""


@dataclass(frozen=True)
class Context:
    """A context as tokens: ids, and int32 arrays of where each stands, so that token i is text[starts[i]:ends[i]]."""

    text: str
    ids: list[int]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]

    @staticmethod
    def of(text: str, tokenizer: Tokenizer) -> Context:
        """Encode a context of any text."""
        followed = follow(text, tokenizer.normaliser)
        found = tokenizer.encode_batch([followed.text])
        return Context(text, found.ids.tolist(), followed.starts[found.starts], followed.ends[found.ends - 1])

    def tokens_of(self, answers: Sequence[tuple[str, int]]) -> tuple[int, int] | None:
        """Return the first and last token of the first answer that stands in the context; None if none does, or holds no token."""
        text, start = next(((text, start) for text, start in answers if start >= 0), ("", 0))
        first = int(np.searchsorted(self.ends, start, side="right"))
        last = int(np.searchsorted(self.starts, start + len(text))) - 1
        return (first, last) if text and first <= last else None


class Placed(NamedTuple):
    """A window among the outputs: tokens [at, at + size) of all samples, whose first context token stands at `at + opening`."""

    window: Window
    at: int
    size: int
    opening: int


class Candidate(NamedTuple):
    """A possible answer: a span of the context's characters, or "" for no answer."""

    text: str
    start_logit: float
    end_logit: float

    @property
    def score(self) -> float:
        """What candidates are ranked by."""
        return self.start_logit + self.end_logit


def encode(examples: Sequence[Example], benchmark: Benchmark, tokenizer: Tokenizer, max_seq_len: int) -> Encoded:
    """Encode questions as rows [CLS] question [SEP] part of the context [SEP], one for each window over the context.

    The question is cut to 64 tokens, or half the row where that is less; `truncated` counts the questions that were. The token label
    SPAN is that of the first answer that stands in the context.

    Args:
        examples: n rows of (question, context).
        benchmark: theirs; its language says how answers are scored.
        tokenizer: of the model's vocabulary.
        max_seq_len: longest row in tokens, specials included, at least 4.
    """
    contexts: dict[str, Context] = {}
    samples: list[Sample] = []
    placed: list[list[Placed]] = []
    truncated = at = 0
    for example in examples:
        question, text = example.texts
        context = contexts[text] if text in contexts else contexts.setdefault(text, Context.of(text, tokenizer))
        ids = tokenizer.encode(question)
        limit = min(MAX_QUESTION, (max_seq_len - 3) // 2)
        truncated += len(ids) > limit
        answer = context.tokens_of(example.answers)
        placed.append([])
        for window in windows(len(context.ids), max_seq_len - 3 - len(ids[:limit])):
            segments = [ids[:limit], context.ids[window.start : window.end]]
            opening, size = len(segments[0]) + 2, len(segments[0]) + len(segments[1]) + 3
            samples.append(sample_of(segments, tokenizer, -1, {SPAN: _labels(answer, window, opening, size)}))
            placed[-1].append(Placed(window, at, size, opening))
            at += size
    read = _Read(examples, [contexts[e.texts[1]] for e in examples], placed, benchmark)
    return Encoded(tuple(samples), read.outcomes, read.answers, truncated, token_labels=(SPAN,))


def _labels(answer: tuple[int, int] | None, window: Window, opening: int, size: int) -> list[int]:
    """Return the token label of a window's row; the window shows [opening, size - 1)."""
    labels = [0] * size
    held = answer is not None and window.start <= answer[0] and answer[1] < window.end
    first, last = (token - window.start + opening for token in answer) if answer is not None and held else (0, 0)
    labels[first] |= SPAN_START
    labels[last] |= SPAN_END
    return labels


class _Read:
    """Reads start and end logits as answers; see `Encoded.outcomes` and `Encoded.answers`."""

    def __init__(self, examples: Sequence[Example], contexts: list[Context], placed: list[list[Placed]], benchmark: Benchmark) -> None:
        self.examples, self.contexts, self.placed, self.benchmark = examples, contexts, placed, benchmark
        self.may_be_unanswered = any(e.answers == NO_ANSWER for e in examples)

    def outcomes(self, outputs: Outputs) -> Counts:
        """Return (exact match, F1, 1) of each labelled question."""
        return reading_counts([self._score(number, outputs) for number, e in enumerate(self.examples) if e.answers])

    def _score(self, number: int, outputs: Outputs) -> tuple[float, float]:
        text = next((c.text for c in self._candidates(number, outputs, 1)), "")
        golds = [gold for gold, _ in self.examples[number].answers]
        if not text or self.examples[number].answers == NO_ANSWER:
            return (1.0, 1.0) if text in golds else (0.0, 0.0)
        return (chinese_scores if self.benchmark.language == "zh" else squad_scores)(text, golds)

    def answers(self, outputs: Outputs) -> list[dict[str, Any]]:
        """Return {"id", "text", "nbest": [{"text", "probability", "start_logit", "end_logit"}]} of each question; text is "" for none."""
        found = []
        for number, example in enumerate(self.examples):
            best = self._candidates(number, outputs, NUM_BEST)
            shares = np.exp(np.array([c.score - best[0].score for c in best]))
            nbest = [
                {"text": c.text, "probability": round(float(p), 6), "start_logit": round(c.start_logit, 6), "end_logit": round(c.end_logit, 6)}
                for c, p in zip(best, shares / shares.sum(), strict=True)
            ]
            found.append({"id": example.id, "text": best[0].text if best else "", "nbest": nbest})
        return found

    def _candidates(self, number: int, outputs: Outputs, count: int) -> list[Candidate]:
        """Return the best answers of different texts to one question, best first; of equal scores the earlier window's."""
        context, places = self.contexts[number], self.placed[number]
        spans = np.concatenate([_spans(outputs[p.at : p.at + p.size], p) for p in places])
        best: dict[str, Candidate] = {}
        for row in np.argsort(-(spans[:, 2] + spans[:, 3]), kind="stable"):
            first, last, start, end = spans[row].tolist()
            text = context.text[context.starts[int(first)] : context.ends[int(last)]]
            best.setdefault(text, Candidate(text, start, end))
            if len(best) == count:
                break
        found = list(best.values())
        if self.may_be_unanswered:
            start, end = min((outputs[p.at].astype(np.float64).tolist() for p in places), key=sum)
            found = sorted([*found, Candidate("", start, end)], key=lambda c: -c.score)[:count]
        return found


def _spans(logits: Outputs, placed: Placed) -> NDArray[np.float64]:
    """Return float64[k, 4], the spans one window offers: first token, last token of the context, start logit, end logit.

    Of its 20 best starts and 20 best ends, in that order, pairs that lie in the context, whose start this window decides, and of at most 100 tokens.
    """
    window, _, _, opening = placed
    top = np.argsort(-logits, axis=0, kind="stable")[:NUM_BEST]  # int64[20, 2]
    tokens = top - opening + window.start
    first, last = (a.ravel() for a in np.meshgrid(tokens[:, 0], tokens[:, 1], indexing="ij"))
    start, end = (a.ravel() for a in np.meshgrid(logits[top[:, 0], 0], logits[top[:, 1], 1], indexing="ij"))
    right = (first >= window.first) & (first < window.last) & (last >= first) & (last < window.end) & (last - first < MAX_ANSWER)
    return np.stack([first[right], last[right], start[right], end[right]], axis=1).astype(np.float64)


def _presets(base_rate: float, large_rate: float) -> dict[str, Preset]:
    return {size: Preset(rate, 2, 64, 512, 0.0, 0.01) for size, rate in (("base", base_rate), ("large", large_rate))}


_TRAIN, _HELD_OUT = Squad(train=True), Squad()

CMRC2018 = Benchmark(
    name="cmrc2018", kind="span", labels=(), metrics=(EM, F1, EM_F1), encode=encode,
    source="Cui et al. (2019), github.com/ymcui/cmrc2018: its test set is not given out; presets of ERNIE 2.0 (ernie.md 7.4)",
    sources={
        "train": (Source("train.json", _TRAIN), Source("cmrc2018_train.json", _TRAIN), Source("train-pseudo-cmrc2018.zip", _TRAIN)),
        "dev": (Source("dev.json", _HELD_OUT), Source("cmrc2018_dev.json", _HELD_OUT)),
    },
    rows={"train": 10142, "dev": 3219}, presets=_presets(3e-5, 3e-5)
)  # fmt: skip
DRCD = Benchmark(
    name="drcd", kind="span", labels=(), metrics=(EM, F1, EM_F1), encode=encode,
    source="Shao et al. (2018), github.com/DRCKnowledgeTeam/DRCD, in simplified characters as for ERNIE 2.0 (ernie.md 7.4)",
    sources={
        "train": (Source("train.json", _TRAIN), Source("DRCD_training.json", Squad(to_simplified=True, train=True))),
        "dev": (Source("dev.json", _HELD_OUT), Source("ernie_dev.json", _HELD_OUT), Source("DRCD_dev.json", Squad(to_simplified=True))),
        "test": (Source("test.json", _HELD_OUT), Source("ernie_test.json", _HELD_OUT), Source("DRCD_test.json", Squad(to_simplified=True))),
    },
    rows={"train": 26936, "dev": 3524, "test": 3493}, presets=_presets(5e-5, 3e-5)
)  # fmt: skip
DUREADER = Benchmark(
    name="dureader", kind="span", labels=(), metrics=(EM, F1, EM_F1), encode=encode,
    source="He et al. (2018), github.com/baidu/DuReader; ERNIE 2.0's extractive single-document subset (ernie.md 7.4) was not given out",
    sources={
        "train": (Source("train.json", _TRAIN), Source("search.train.json", DuReader())),
        "dev": (Source("dev.json", _HELD_OUT), Source("search.dev.json", DuReader())),
    },
    presets=_presets(5e-5, 2e-5)
)  # fmt: skip
