"""The records every part passes on: documents after cleaning and segmentation, and samples before they become shard rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

WORD, PHRASE, ENTITY = 0, 1, 2
KINDS = ("text", "dialogue", "qa", "query", "pair")
BETWEEN_WORDS = "\x7f"


@dataclass(frozen=True, slots=True)
class Unit:
    """A run of words that masking may hide as one: words[start:end] of its sentence; kind PHRASE or ENTITY (single words need no Unit)."""

    start: int
    end: int
    kind: int


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence, normalised and cut into words.

    `words` join to the normalised text, white space included as words of its own; `original` is the same text with its
    original case, code point for code point. Units do not overlap and are sorted; words of entities carry no Unit when single-word
    entities are tagged: those too are Units (end = start + 1, kind ENTITY). `labels`: for each token-level task whose labels rows of other
    tasks hold too (`BuildContext.carry`), a label per word, -1 = not scored; () for most.

    Example: words ("哈尔滨", "是", "黑龙江", "的", "省会", "，"), units (Unit(0, 1, ENTITY), Unit(2, 3, ENTITY)).
    """

    words: tuple[str, ...]
    units: tuple[Unit, ...]
    original: str
    labels: tuple[tuple[int, ...], ...] = ()

    @property
    def text(self) -> str:
        return "".join(self.words)


@dataclass(frozen=True, slots=True)
class Document:
    """One cleaned document: paragraphs of sentences, and what its paragraphs are.

    Args:
        doc_id: 16 hex digits.
        source: the corpus's name.
        work: the file or book it comes from.
        title: "" for none.
        paragraphs: of a dialogue, its turns; of a question, the question and its answers; and so on, see `roles`.
        kind: one of KINDS.
        roles: one a paragraph, () for kind "text". dialogue: the speaker, "" where turns carry none. qa: "question", then "accepted"
            or "answer". query: "query", then "clicked", "shown" or "title". pair: "sentence1", "sentence2".
        label: of a pair, as the file has it; "" for none.
        heading: the title cut into words; None for none.

    Example: a dialogue of two turns -> kind "dialogue", roles ("A", "B").
    """

    doc_id: str
    source: str
    work: str
    title: str
    paragraphs: tuple[tuple[Sentence, ...], ...]
    kind: str = "text"
    roles: tuple[str, ...] = ()
    label: str = ""
    heading: Sentence | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the document as JSON values."""
        return {
            "doc_id": self.doc_id, "source": self.source, "work": self.work, "title": self.title,
            "paragraphs": [list(map(sentence_to_json, p)) for p in self.paragraphs],
            "kind": self.kind, "roles": list(self.roles), "label": self.label,
            "heading": None if self.heading is None else sentence_to_json(self.heading),
        }  # fmt: skip

    @staticmethod
    def from_json(row: dict[str, Any]) -> Document:
        paragraphs = tuple(tuple(sentence_from_json(s) for s in p) for p in row["paragraphs"])
        heading = None if row["heading"] is None else sentence_from_json(row["heading"])
        return Document(row["doc_id"], row["source"], row["work"], row["title"], paragraphs, row["kind"], tuple(row["roles"]), row["label"], heading)


def sentence_to_json(s: Sentence) -> list[Any]:
    """Return [words joined by U+007F, start, end and kind of each unit one after the other, original or None where it equals the text].

    One string for a sentence's words is written and read several times as fast as a list of them; normalised text holds no U+007F.

    Example: words (哈尔滨, 是), a unit of the first -> ``["哈尔滨\\x7f是", [0, 1, 2], None]``.
    """
    units = [number for unit in s.units for number in (unit.start, unit.end, unit.kind)] if s.units else []
    joined = BETWEEN_WORDS.join(s.words)
    return [joined, units, None if s.original == joined.replace(BETWEEN_WORDS, "") else s.original]


def row_text(row: list[Any]) -> str:
    """Return the normalised text of a sentence as `sentence_to_json` gives it.

    Example: ``row_text(["哈尔滨\\x7f是", [0, 1, 2], None])`` -> ``"哈尔滨是"``.
    """
    return str(row[0]).replace(BETWEEN_WORDS, "")


def sentence_from_json(row: list[Any]) -> Sentence:
    """Return the sentence that `sentence_to_json` wrote."""
    joined, numbers, original = row
    numbers = iter(numbers)
    units = tuple(map(Unit, numbers, numbers, numbers))
    return Sentence(tuple(joined.split(BETWEEN_WORDS)) if joined else (), units, joined.replace(BETWEEN_WORDS, "") if original is None else original)


@dataclass(slots=True)
class Sample:
    """One shard row (DESIGN, Contracts). The first six lists have one integer per token.

    seg_labels: 0 first token of a word, 1 later token, -1 exactly at [CLS]/[SEP]. unit_labels: the same with phrases and
    entities merged. unit_kind: WORD, PHRASE or ENTITY of the unit a token belongs to, -1 at specials. label: -1 for none.
    token_labels: task name -> one int8 per token, -1 = not scored.

    Example (哈尔滨是): token_ids [1, 5, 6, 7, 8, 2], sentence_type_ids [0]*6, position_ids [0..5], seg_labels [-1, 0, 1, 1, 0, -1],
    unit_labels the same, unit_kind [-1, 2, 2, 2, 0, -1], label -1.
    """

    token_ids: list[int]
    sentence_type_ids: list[int]
    position_ids: list[int]
    seg_labels: list[int]
    unit_labels: list[int]
    unit_kind: list[int]
    label: int
    token_labels: dict[str, list[int]] = field(default_factory=dict)
