"""What a fine-tuned model gets wrong, for a person to read: a confusion table and the worst rows of each benchmark, one HTML page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ernie_core.benchmarks.base import Benchmark, Example
from ernie_core.errors import printable

MISTAKES_NAME = "mistakes.html"
MOST = 12
"""Rows shown of a benchmark."""
_SHOWN = 300  # characters of a text


@dataclass(frozen=True)
class Wrong:
    """One row that the model got wrong: its texts, what is right, what was predicted, and how bad it is (greater is worse)."""

    id: str
    texts: tuple[str, ...]
    gold: str
    predicted: str
    badness: float
    measure: str


@dataclass(frozen=True)
class Mistakes:
    """A benchmark's mistakes: `confusion` is (labels, gold x predicted counts), None where rows are not classified; `wrong` worst first."""

    name: str
    trial: str
    subset: str
    rows: int
    wrong_rows: int
    confusion: tuple[tuple[str, ...], list[list[int]]] | None
    wrong: tuple[Wrong, ...]


def mistakes_of(benchmark: Benchmark, trial: str, subset: str, examples: Sequence[Example], answers: Sequence[Mapping[str, Any]]) -> Mistakes:
    """Return the mistakes of one trial on the labelled rows of a subset.

    A classification's worst rows are those it was surest of; a regression's the farthest off; a tagged sentence's the ones with most wrong tags;
    a span's the surest answers that no gold text equals.

    Example: gold 1, answer {"label": "0", "probabilities": [0.9, 0.1]} -> Wrong("7", ("好",), "1", "0", 0.9, "probability 0.900").
    """
    held = [(e, a) for e, a in zip(examples, answers, strict=True) if e.labelled]
    found = [wrong for e, a in held if (wrong := _wrong(benchmark, e, a)) is not None]
    worst = tuple(sorted(found, key=lambda w: (-w.badness, w.id))[:MOST])
    return Mistakes(benchmark.name, trial, subset, len(held), len(found), _confusion(benchmark, held), worst)


def _confusion(benchmark: Benchmark, held: Sequence[tuple[Example, Mapping[str, Any]]]) -> tuple[tuple[str, ...], list[list[int]]] | None:
    if benchmark.kind != "classification":
        return None
    counts = Counter((benchmark.labels[e.labels[0]], str(a["label"])) for e, a in held)
    names = tuple(dict.fromkeys([*benchmark.labels, *(predicted for _, predicted in counts)]))
    return names, [[counts[gold, predicted] for predicted in names] for gold in names]


def _wrong(benchmark: Benchmark, example: Example, answer: Mapping[str, Any]) -> Wrong | None:
    if benchmark.kind == "classification":
        gold, predicted = benchmark.labels[example.labels[0]], str(answer["label"])
        badness, measure = max(answer["probabilities"]), f"probability {max(answer['probabilities']):.3f}"
    elif benchmark.kind == "regression":
        assert example.value is not None
        gold, predicted = f"{example.value:g}", f"{answer['value']:.2f}"
        badness = abs(example.value - answer["value"])
        measure = f"{badness:.2f} off"
    elif benchmark.kind == "tagging":
        tags = [benchmark.labels[i] for i in example.labels]
        gold, predicted = chunk_words(example.texts, tags), chunk_words(example.texts, answer["tags"])
        badness = sum(a != b for a, b in zip(tags, answer["tags"], strict=True))
        measure = f"{badness} wrong tags"
    else:
        gold, predicted = " | ".join(dict.fromkeys(text for text, _ in example.answers)) or "no answer", answer["text"] or "no answer"
        badness = answer["nbest"][0]["probability"] if answer["nbest"] else 0.0
        measure = f"probability {badness:.3f}"
        if answer["text"] in {text for text, _ in example.answers}:
            return None
    texts = ("".join(example.texts),) if benchmark.kind == "tagging" else example.texts
    return None if gold == predicted else Wrong(example.id, texts, gold, predicted, float(badness), measure)


def chunk_words(characters: Sequence[str], tags: Sequence[str]) -> str:
    """Return the chunks of a tagged sentence in words.

    Example: ``chunk_words("张三到北京", ["B-PER", "I-PER", "O", "B-LOC", "I-LOC"])`` -> ``"张三 PER, 北京 LOC"``.
    """
    found: list[tuple[str, str]] = []
    for character, tag in zip(characters, tags, strict=True):
        if tag.startswith("I-") and found and found[-1][1] == tag[2:]:
            found[-1] = (found[-1][0] + character, tag[2:])
        elif tag != "O":
            found.append((character, tag[2:]))
        else:
            found.append(("", ""))
    return ", ".join(f"{text} {kind}" for text, kind in found if kind) or "nothing"


def read_answers(path: Path) -> list[dict[str, Any]]:
    """Return a trial's predictions, one JSON object an example."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def page(found: Sequence[Mistakes], run: str) -> bytes:
    """Return the page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["shown"] = lambda text: printable(str(text), _SHOWN)
    return environment.get_template("mistakes.html.j2").render(run=run, benchmarks=found).encode("utf-8", "backslashreplace")
