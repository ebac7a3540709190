"""DuReader's JSON lines (He et al. 2018, version 2.0), read as extractive questions on one document (ernie.md 7.4).

ERNIE's own subset of 15,763 + 1,628 questions was never given out, nor how it was chosen; this is the plainest choice that needs no guess.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ernie_core.benchmarks.base import Benchmark, Example, Subset, bad_row, empty
from ernie_core.benchmarks.packed import unpacked
from ernie_core.benchmarks.squad_layout import HALF_PAIR, NOT_IN_CONTEXT, Wrong, json_field


@dataclass(frozen=True)
class DuReader:
    """Reads one question a line: {"question_id", "question", "answers", "documents": [{"is_selected", "paragraphs"}]}.

    The context is the first selected document in which an answer stands word for word, its paragraphs joined by line breaks; the answers
    are all that stand there, each at its first place. Questions left out are counted: "unlabelled" (no "answers", as in the test file),
    "no_answer" (nobody answered it), "no_selected_document", "answer_not_in_context" (people wrote it in their own words).

    Example: the answer 鲁迅 and a selected document of the paragraphs 作者 and 是鲁迅。 -> context "作者\\n是鲁迅。", answers (("鲁迅", 4),).
    """

    def read(self, path: Path, benchmark: Benchmark) -> Subset:
        """Read one file, which may be a .gz.

        Raises:
            InputError: E-BENCH-MISSING, E-BENCH-EMPTY (no question is left), E-BENCH-ROW (not JSON, or of another form: the error names the line).
        """
        counts: Counter[str] = Counter()
        examples = []
        for number, line in enumerate(unpacked(path).split(b"\n"), 1):
            if line.strip():
                wrong = functools.partial(bad_row, benchmark, f"{path}:{number}")
                try:
                    row = json.loads(line.decode("utf-8-sig"))
                except (ValueError, RecursionError) as e:
                    raise wrong("JSON in UTF-8", str(e)) from None
                found = _example(row, wrong)
                if isinstance(found, str):
                    counts[found] += 1
                else:
                    examples.append(found)
        if not examples:
            raise empty(benchmark, path)
        return Subset(tuple(examples), dict(counts))


def _example(row: Any, wrong: Wrong) -> Example | str:
    """Return the example, or why there is none."""
    number, question, documents = (
        json_field(row, "question_id", int, wrong),
        json_field(row, "question", str, wrong),
        json_field(row, "documents", list, wrong),
    )
    if "answers" not in row:
        return "unlabelled"
    answers = [a.strip() for a in _texts(row, "answers", wrong) if a.strip()]
    contexts = ["\n".join(_texts(d, "paragraphs", wrong)) for d in documents if isinstance(d, dict) and d.get("is_selected") is True]
    if not answers or not contexts:
        return "no_answer" if not answers else "no_selected_document"
    for context in contexts:
        places = tuple((answer, context.index(answer)) for answer in answers if answer in context)
        if places:
            return Example((question.strip(), context), answers=places, id=str(number))
    return NOT_IN_CONTEXT


def _texts(row: Any, name: str, wrong: Wrong) -> list[str]:
    values: list[str] = json_field(row, name, list, wrong)
    for value in values:
        if not isinstance(value, str) or HALF_PAIR.search(value):
            raise wrong(f"texts in {name}", json.dumps(value))
    return values
