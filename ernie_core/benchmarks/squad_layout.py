"""SQuAD's JSON: questions on a context, with answers that stand in it (Rajpurkar et al. 2016, 2018; the form of CMRC2018 and DRCD, too)."""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ernie_core.benchmarks.base import Benchmark, Example, Subset, bad_row, empty
from ernie_core.benchmarks.packed import unpacked
from ernie_core.errors import InputError, printable
from ernie_core.normalise import simplified

NO_ANSWER = (("", -1),)
"""Answers of a question that its context does not answer."""
MOVED, NOT_IN_CONTEXT = "moved", "answer_not_in_context"
Wrong = Callable[[str, str], InputError]
"""(expected, found) -> the error of a row."""
_KINDS = {str: "a text", list: "a list", int: "a whole number"}
HALF_PAIR = re.compile("[\ud800-\udfff]")
"""Half a surrogate pair, which JSON may hold and no file of text can."""


@dataclass(frozen=True)
class Squad:
    """Reads {"data": [{"paragraphs": [{"context", "qas": [{"id", "question", "answers": [{"text", "answer_start"}]}]}]}]}.

    An answer that does not stand at its `answer_start` is moved to the nearest place where it does, and counted "moved". One that stands
    nowhere is counted "answer_not_in_context": it keeps its text, to score predictions by, with the start -1. A question with the flag
    `is_impossible` (SQuAD 2.0) has NO_ANSWER; one without answers is unlabelled. A question may be blank, as one of CMRC2018's trial
    set is. The file may be a .gz, or a .zip of one JSON file.

    Args:
        to_simplified: turn traditional characters into simplified ones, after which answers still stand at their starts.
        train: leave out answers that stand nowhere, and questions that have no other.

    Example: the context 鲁迅写的。, the question 谁写的？ and the answer 鲁迅 at 0 -> ``Example(("谁写的？", "鲁迅写的。"), answers=(("鲁迅", 0),), id="q1")``.
    """

    to_simplified: bool = False
    train: bool = False

    def read(self, path: Path, benchmark: Benchmark) -> Subset:
        """Read one file.

        Raises:
            InputError: E-BENCH-MISSING, E-BENCH-EMPTY, E-BENCH-ROW (not JSON, or of another form: the error names the question).
        """
        counts: Counter[str] = Counter()
        examples = []
        for paragraph, wrong in _paragraphs(_parse(path, benchmark), path, benchmark):
            context = json_field(paragraph, "context", str, wrong)
            convert = simplified if self.to_simplified else str
            shown = convert(context)
            for row in json_field(paragraph, "qas", list, wrong):
                if not isinstance(row, dict) or not isinstance(row.get("id"), str | int):
                    raise wrong("an object with an id in qas", str(row))
                wrong_here = functools.partial(bad_row, benchmark, f"{path}: question {printable(str(row['id']))}")
                places = _places(context, row, wrong_here)
                counts.update(reason for _, _, reason in places if reason)
                answers = tuple((convert(t) if at < 0 else shown[at : at + len(t)], at) for t, at, _ in places if at >= 0 or not t or not self.train)
                if answers or not places:
                    examples.append(Example((convert(json_field(row, "question", str, wrong_here)), shown), answers=answers, id=str(row["id"])))
        if not examples and counts[NOT_IN_CONTEXT]:
            expected, found = (
                "answers that are a piece of their context, character by character",
                f"{counts[NOT_IN_CONTEXT]} answers, none of them in it",
            )
            raise empty(benchmark, path, expected, found, "correct text or context: spaces, width and traditional characters count")
        if not examples:
            raise empty(benchmark, path)
        return Subset(tuple(examples), dict(counts))


def _places(context: str, row: dict[str, Any], wrong: Wrong) -> list[tuple[str, int, str]]:
    """Return a question's answers: (text as published, its start in the context or -1, reason to be counted or "")."""
    if row.get("is_impossible") is True:
        return [(*NO_ANSWER[0], "")]
    places = []
    for answer in json_field(row, "answers", list, wrong) if "answers" in row else ():
        text, said = json_field(answer, "text", str, wrong), json_field(answer, "answer_start", int, wrong)
        if not text.strip():
            raise wrong("a text in text, or is_impossible for a question without answer", json.dumps(text))
        at = nearest(context, text, said)
        places.append((text, at, NOT_IN_CONTEXT if at < 0 else MOVED if at != said else ""))
    return places


def nearest(context: str, text: str, start: int) -> int:
    """Return where `text` stands in `context`, the place nearest to `start` (of two equally near ones the first), -1 for nowhere.

    Example: ``nearest("北京和北京", "北京", 2)`` -> ``3``.
    """
    if start >= 0 and context.startswith(text, start):
        return start
    before = context.rfind(text, 0, max(start, 0) + len(text))
    after = context.find(text, max(start, 0))
    return min((at for at in (before, after) if at >= 0), key=lambda at: abs(at - start), default=-1)


def _paragraphs(parsed: Any, path: Path, benchmark: Benchmark) -> Iterator[tuple[Any, Wrong]]:
    """Yield each paragraph's object, and the error of one that is wrong."""
    for i, article in enumerate(json_field(parsed, "data", list, functools.partial(bad_row, benchmark, str(path)))):
        for j, paragraph in enumerate(json_field(article, "paragraphs", list, functools.partial(bad_row, benchmark, f"{path}: data[{i}]"))):
            yield paragraph, functools.partial(bad_row, benchmark, f"{path}: data[{i}].paragraphs[{j}]")


def json_field(row: Any, name: str, kind: type, wrong: Wrong) -> Any:
    """Return the field `name` of a JSON object.

    Args:
        row: the object.
        name: the field's.
        kind: str, list or int.
        wrong: makes the error.

    Raises:
        InputError: `wrong`'s: no such field, another kind, or a text that is no Unicode.
    """
    value = row.get(name) if isinstance(row, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool) or (isinstance(value, str) and HALF_PAIR.search(value)):
        found = json.dumps(row[name]) if isinstance(row, dict) and name in row else f"no {name}"
        raise wrong(f"{_KINDS[kind]} in {name}", found)
    return value


def _parse(path: Path, benchmark: Benchmark) -> Any:
    data = unpacked(path)
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as e:
        raise bad_row(benchmark, str(path), "JSON in UTF-8", str(e), "give the file as it was published") from None
