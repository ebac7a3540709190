"""Discourse relation: which relation did the connective between two texts state, before it was taken out (ERNIE 2.0, section 4.2.3; TASKS).

Classes: 0 = no connective, then the relations of the list in its order, or under `labels: markers` each marker of it. With `connectives:
discovery` the corpus is Discovery as it is published (reader pairs; Sileo et al. 2019): 174 classes, of which its files tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from ernie_core.errors import RecipeError
from ernie_core.schemas import Document, Sample, Sentence
from ernie_core.seeding import key
from ernie_core.tasks.base import BuildContext, PoolSpan, Task
from ernie_core.tasks.clauses import split_clauses
from ernie_core.tasks.connectives import LANGUAGES, Connectives, discovery_labels, load_connectives
from ernie_core.tasks.enumerations import is_item
from ernie_core.tasks.halves import Cut, Range, cuts, holds_words, joined, kept, whole
from ernie_core.tasks.pairs import MIN_LETTERS, pair_row

NAME = "discourse_relation"
NO_CONNECTIVE = 0
LABELS = ("groups", "markers")
DISCOVERY = "discovery"


class Candidate(NamedTuple):
    """Two adjacent texts, connective taken out, made when they are asked for: most are only counted.

    `place` names them in their document, `bin` their form and lengths; `halves` are the parts of sentences and what is left of each.
    """

    label: int
    bin: str
    place: tuple[int, int, int]
    halves: tuple[tuple[Cut, Sequence[Range]], tuple[Cut, Sequence[Range]]]

    @property
    def lines(self) -> tuple[str, str]:
        """The sentences that the texts come from."""
        return self.halves[0][0].whole, self.halves[1][0].whole

    def texts(self) -> tuple[Sentence, Sentence]:
        """Return the two texts."""
        first, second = (kept(*half) for half in self.halves)
        assert first is not None and second is not None, "a candidate's ranges hold whole words"  # noqa: PT018
        return first, second


def count_classes(options: Mapping[str, Any]) -> int:
    """Return the size of the head: 9 for the groups of either list.

    Raises:
        RecipeError: E-TASK-OPTION, a value that an option cannot take.
    """
    most = options["per_class"]
    lists = (*LANGUAGES, DISCOVERY)
    valid = {
        "connectives": (options["connectives"] in lists, ", ".join(lists)),
        "labels": (options["labels"] in LABELS, ", ".join(LABELS)),
        "per_class": (most is None or (type(most) is int and most > 0), "a number of rows, or null for no bound"),
    }
    for name, (allowed, expected) in valid.items():
        if not allowed:
            raise RecipeError(
                "E-TASK-OPTION", f"discourse_relation cannot take this {name}", expected=expected, found=repr(options[name]), fix="correct it in the recipe"
            )  # fmt: skip
    return len(name_labels(options))


def name_labels(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the name of each class.

    Example: ``name_labels({"connectives": "zh", "labels": "groups"})`` -> ``("no connective", "cause", "result", …)``.
    """
    if options["connectives"] == DISCOVERY:
        return discovery_labels()
    connectives = load_connectives(options["connectives"])
    return ("no connective", *(connectives.groups if options["labels"] == "groups" else connectives.markers))


def candidates(document: Document, options: Mapping[str, Any], drops: Counter[str]) -> Iterator[Candidate]:
    """Yield the pairs of adjacent sentences of one paragraph, and of adjacent clauses of one sentence, that can have a label.

    The second opens with a listed marker, which goes, with the commas, colons and spaces behind it, wherever else it stands in the
    second, and with its partners in the first; or neither holds a marker or a partner, and an opening of 4 characters with a comma
    loses the comma. Drops: "short_text" (a half of under 4 letters, or 4 English words), "enumeration" (a half begins as an item of a
    list), "marker_elsewhere" (a marker or a partner, but not where the second begins), "inside_word" (what must go is a part of a word), "second_marker" (what is left of the second opens with another
    marker), "no_pair" (a document without two adjacent texts).

    Example: 他病了，所以没来。 -> label of "result", 他病了， and 没来。.
    """
    connectives = load_connectives(options["connectives"])
    numbers = {name: number for number, name in enumerate(name_labels(options))}
    num_pairs = 0
    for p, paragraph in enumerate(document.paragraphs):
        before: Cut | None = None
        for s, sentence in enumerate(paragraph):
            text = sentence.text
            uncut = cuts(sentence, [len(text)])
            if not uncut:
                continue
            clauses = cuts(sentence, ends) if len(ends := split_clauses(text)) > 1 else []
            pairs = [(before, uncut[0])] if before is not None else []
            for c, (first, second) in enumerate([*pairs, *pairwise(clauses)], 1 - len(pairs)):
                num_pairs += 1
                found = _candidate(first, second, connectives, (p, s, c), numbers, by_marker=options["labels"] == "markers")
                if isinstance(found, str):
                    drops[found] += 1
                else:
                    yield found
            before = uncut[0]
    drops["no_pair"] += num_pairs == 0


def _candidate(
    first: Cut, second: Cut, connectives: Connectives, place: tuple[int, int, int], numbers: Mapping[str, int], *, by_marker: bool
) -> Candidate | str:
    """Return a candidate, or the reason why these texts are none. `place`: paragraph, sentence, clause (0: the sentence as a whole)."""
    texts = first.text, second.text
    marker = connectives.marker_of(texts[1])
    if marker:
        label = numbers[marker if by_marker else connectives.group_of[marker]]
        ranges = connectives.without_partners(texts[0], marker), connectives.without_marker(texts[1], marker)
    elif any(map(connectives.anywhere.search, texts)):
        return "marker_elsewhere"
    else:
        label, ranges = NO_CONNECTIVE, ([(0, len(texts[0]))], connectives.without_comma(texts[1]))
    rest = ["".join([text[a:b] for a, b in left]) for text, left in zip(texts, ranges, strict=True)]
    sizes = [sum(map(str.isalnum, text)) for text in rest]
    if min(sizes) < MIN_LETTERS or (connectives.min_words > 1 and min(len(text.split()) for text in rest) < connectives.min_words):
        return "short_text"
    if is_item(texts[0]) or is_item(rest[1].lstrip()):
        return "enumeration"
    if marker and connectives.marker_of(rest[1].lstrip()):
        return "second_marker"
    halves = (first, ranges[0]), (second, ranges[1])
    if not all(holds_words(*half) for half in halves):
        return "inside_word"
    form = "clauses" if place[2] else "sentences"
    return Candidate(label, " ".join([form, *map(_size, sizes)]), place, halves)


def _size(num_letters: int) -> str:
    """Return a length bin, one for each doubling."""
    return str(num_letters.bit_length())


def published(document: Document, drops: Counter[str]) -> Iterator[Candidate]:
    """Yield the pair of a line of Discovery: two sentences, the connective gone already, and its name or number as label.

    Drops: "unknown_label", "short_text".

    Example: "It rained" | "The path was dry" | "however" -> that pair, the number of "however".
    """
    names = discovery_labels()
    name = document.label.replace("_", " ").strip()
    label = int(name) if name.isdecimal() else names.index(name) if name in names else -1
    first, second = map(joined, document.paragraphs)
    if not 0 <= label < len(names):
        drops["unknown_label"] += 1
    elif any(sum(map(str.isalnum, half.text)) < MIN_LETTERS for half in (first, second)):
        drops["short_text"] += 1
    else:
        yield Candidate(label, "pairs", (0, 0, 0), (whole(first), whole(second)))


def of_document(document: Document, options: Mapping[str, Any], drops: Counter[str]) -> Iterator[Candidate]:
    """Yield a document's candidates; one of another kind than the list of connectives needs is counted: "not_text", "not_pair"."""
    kind = "pair" if options["connectives"] == DISCOVERY else "text"
    if document.kind != kind:
        drops[f"not_{kind}"] += 1
    else:
        yield from published(document, drops) if kind == "pair" else candidates(document, options, drops)


def count(document: Document, options: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield class and bin of each candidate of a document (`Task.candidates`)."""
    yield from ((found.label, found.bin) for found in of_document(document, options, Counter()))


def shares(counts: Mapping[tuple[str, int, str], int], options: Mapping[str, Any]) -> dict[tuple[str, int, str], float]:
    """Return which share of the candidates of a source, class and bin become rows.

    A relation has `per_class` rows or all it can; the class without a connective as many as the relations have on average, in each
    source and bin by itself, so that it is as long as they are (in Discovery it is a class like the others).

    Args:
        counts: (source, class, bin) -> candidates of the whole corpus.
        options: the task's, complete.

    Example: 3,000 of class 1 and 500 of class 2, 4,000 of class 0 in one bin, per_class 1500 -> 0.5, 1.0, (1500 + 500) / 2 / 4000.
    """
    most, num_relations = options["per_class"], len(name_labels(options)) - 1
    unmarked = None if options["connectives"] == DISCOVERY else NO_CONNECTIVE
    totals: Counter[int] = Counter()
    for (_, label, _), number in counts.items():
        totals[label] += number
    found: dict[tuple[str, int, str], float] = {}
    wanted: dict[tuple[str, str], float] = {}
    for (source, label, place), number in sorted(counts.items()):
        if label != unmarked:
            share = 1.0 if most is None else min(1.0, most / totals[label])
            found[source, label, place] = share
            wanted[source, place] = wanted.get((source, place), 0.0) + share * number / num_relations
    for (source, label, place), number in counts.items():
        if label == unmarked:
            found[source, label, place] = min(1.0, wanted.get((source, place), 0.0) / number)
    return found


def build(documents: Sequence[Document], context: BuildContext, drops: Counter[str]) -> Iterator[Sample]:
    """Yield one row for each candidate that its hash lets through (`shares`), in the order of the text.

    A pair longer than a row loses the beginning of its first text and the end of its second. Drops: "not_text", "not_pair",
    "over_cap", "frequent_line", "too_long", and those of `candidates` and `published`.

    Example: 他病了，所以没来。 -> [CLS] 他 病 了 ， [SEP] 没 来 。 [SEP], label 2.
    """
    share_of = shares(context.candidates, context.options)
    for document in documents:
        for found in of_document(document, context.options, drops):
            rank = key(context.seed, NAME, document.doc_id, *found.place)
            if rank >= share_of[document.source, found.label, found.bin] * 2.0**64:
                drops["over_cap"] += 1
                continue
            if not context.frequent_lines.isdisjoint(found.lines):
                drops["frequent_line"] += 1
                continue
            first, second = (PoolSpan(document.doc_id, document.source, document.work, (half,)) for half in found.texts())
            row = pair_row(first, second, context, found.label)
            if row is None:
                drops["too_long"] += 1
            else:
                yield row


TASK = Task(
    NAME, 10, "sentence", 9, build, "Sun et al. 2020 (ERNIE 2.0), section 4.2.3; marked pairs after Sileo et al. 2019",
    options={"connectives": "zh", "labels": "groups", "per_class": 1500}, count_classes=count_classes, candidates=count, name_labels=name_labels, carries=True,
)  # fmt: skip
