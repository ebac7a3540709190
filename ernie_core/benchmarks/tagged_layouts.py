"""Forms in which tagged sentences are published: ERNIE's table, CoNLL columns; and the schemes of their tags, all read as B-, I- and O."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ernie_core.benchmarks.base import Benchmark, Example, Subset, bad_row, empty, label_id
from ernie_core.benchmarks.packed import file_text
from ernie_core.errors import InputError, printable

JOINT = "\x02"
SCHEMES = {"bio": "BI", "bioes": "BIES", "bmes": "BMES"}
"""The letters before the hyphen; every scheme has O as well. IOB1 and IOB2 are both "bio"."""
_READ_AS = {"O": "O", "B": "B", "S": "B", "I": "I", "M": "I", "E": "I"}
AUTO = "auto"


def to_bio(tags: Sequence[str], scheme: str) -> list[str]:
    """Return a sentence's tags as B-, I- and O (IOB2).

    Args:
        tags: of one sentence.
        scheme: a key of `SCHEMES`. Under "bio" an I that follows another type, O or nothing opens a chunk, as conlleval counts: it becomes B.
            That reads IOB1 too. Under "bioes" and "bmes" a chunk must be whole.

    Raises:
        ValueError: (expected, found, place in the sentence).

    Example: ``to_bio(["S-LOC", "O", "B-PER", "M-PER", "E-PER"], "bmes")`` -> ``["B-LOC", "O", "B-PER", "I-PER", "I-PER"]``;
    ``to_bio(["I-LOC", "I-LOC", "B-LOC"], "bio")`` -> ``["B-LOC", "I-LOC", "B-LOC"]``.
    """
    letters = SCHEMES[scheme]
    for tag in sorted(set(tags) - {"O"}):
        if tag[:1] not in letters or tag[1:2] != "-" or len(tag) < 3:
            raise ValueError(f"O or a tag that starts with one of {', '.join(f'{x}-' for x in letters)}", f"label {tag!r}", tags.index(tag))
    if scheme == "bio":
        return ["B" + tag[1:] if tag[0] == "I" and tag[1:] != before[1:] else tag for before, tag in itertools.pairwise(["O", *tags])]
    opened = ""  # the type of a chunk that wants its E
    for place, (before, tag) in enumerate(itertools.pairwise(["O", *tags, "O"])):
        if (tag[1:] if tag[0] in "IME" else "") != opened:
            wanted = f"{letters[1]}{opened} or E{opened} after {before}" if opened else f"B{tag[1:]} before {tag}"
            found = f"{before} {tag}" if place < len(tags) else f"{before} at the sentence's end"
            raise ValueError(f"{wanted}, in the scheme {scheme}", found, min(place, len(tags) - 1))
        opened = tag[1:] if tag[0] in "BIM" else ""
    return [_READ_AS[tag[0]] + tag[1:] for tag in tags]


def scheme_of(tags: Counter[str]) -> str:
    """Return the scheme that has the most of these tags, the first of `SCHEMES` of those that have as many.

    Example: ``scheme_of(Counter({"O": 9, "B-PER": 2, "M-PER": 1, "E-PER": 2}))`` -> ``"bmes"``.
    """
    letters = Counter[str]()
    for tag, count in tags.items():
        letters[tag[0] if tag[1:2] == "-" else ""] += count
    return max(SCHEMES, key=lambda scheme: sum(letters[x] for x in SCHEMES[scheme]))


@dataclass(frozen=True)
class _Row:
    """A sentence as it stands in the file; `step` is 1 where each tag has a line, 0 where all stand in `line`."""

    characters: tuple[str, ...]
    tags: tuple[str, ...]
    line: int
    step: int


def _subset(rows: Sequence[_Row], scheme: str, benchmark: Benchmark, path: Path) -> Subset:
    """Read tags as label ids; `notes` say the scheme, and how many chunks of "bio" had no B."""
    if not rows:
        raise empty(benchmark, path)
    if scheme == AUTO:
        scheme = scheme_of(Counter(itertools.chain.from_iterable(row.tags for row in rows)))
    types = dict.fromkeys(label[2:] for label in benchmark.labels if label != "O")
    allowed = ["O", *(f"{letter}-{kind}" for kind in types for letter in SCHEMES[scheme])]
    known, ids = frozenset(allowed), {label: i for i, label in enumerate(benchmark.labels)}
    examples = []
    without_b = 0
    for number, row in enumerate(rows):
        place = 0
        try:
            if not known.issuperset(row.tags):
                place = next(i for i, tag in enumerate(row.tags) if tag not in known)
                label_id(row.tags[place], allowed)
            tags = to_bio(row.tags, scheme)
        except ValueError as e:
            expected, found, *rest = e.args
            raise bad_row(benchmark, f"{path}:{row.line + row.step * (rest[0] if rest else place)}", expected, found) from None
        without_b += scheme == "bio" and sum(map(str.__ne__, tags, row.tags))
        examples.append(Example(row.characters, tuple(ids[tag] for tag in tags), id=str(number)))
    return Subset(tuple(examples), notes={"scheme": scheme} | ({"chunks without B": str(without_b)} if without_b else {}))


@dataclass(frozen=True)
class TaggedTable:
    """ERNIE's table: the first line names the columns text_a and label, in any order; each holds a sentence's characters or tags, joined.

    Args:
        joint: what joins them, U+0002 as in ERNIE's own files; where no row of the file holds it, a space does, as in the seed's README.
        scheme: see `to_bio`, or "auto": see `scheme_of`.

    Example (| for U+0002): ``text_a TAB label``, ``张|三 TAB B-PER|I-PER`` -> Example(("张", "三"), (0, 1), id="0").
    """

    joint: str = JOINT
    scheme: str = AUTO

    def read(self, path: Path, benchmark: Benchmark) -> Subset:
        """Read one file.

        Raises:
            InputError: E-BENCH-MISSING, E-BENCH-EMPTY, E-BENCH-HEADER, E-BENCH-ROW, which names the line.
        """
        header, *lines = file_text(path).removesuffix("\n").split("\n")
        columns = header.split("\t")
        if sorted(columns) != ["label", "text_a"]:
            raise InputError(
                "E-BENCH-HEADER", f"the first line of benchmark {benchmark.name} must name its columns", where=f"{path}:1",
                expected="text_a TAB label", found=printable(" TAB ".join(columns)) or "nothing", fix="correct the file's first line",
            )  # fmt: skip
        joint = self.joint if any(self.joint in line for line in lines) else " "
        text_first = columns[0] == "text_a"
        rows = []
        for number, line in enumerate(lines, 2):
            try:
                rows.append(_Row(*_split(line, joint, text_first=text_first), line=number, step=0))
            except ValueError as e:
                raise bad_row(benchmark, f"{path}:{number}", *e.args) from None
        return _subset(rows, self.scheme, benchmark, path)


def _split(line: str, joint: str, *, text_first: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return a row's characters and tags; ValueError(expected, found)."""
    values = line.split("\t")
    if len(values) != 2:
        raise ValueError("2 columns", f"{len(values)}: {line}")
    text, label = values if text_first else reversed(values)
    if not text:
        raise ValueError("a text in text_a", "nothing")
    characters, tags = text.split(joint), label.split(joint)
    if len(characters) != len(tags):
        name = "a space" if joint == " " else f"U+{ord(joint):04X}"
        raise ValueError(f"one tag a character, both joined by {name}", f"{len(characters)} characters and {len(tags)} tags")
    return tuple(characters), tuple(tags)


@dataclass(frozen=True)
class Conll:
    """A character (or word), the delimiter and its tag a line, and a blank line after a sentence; a zip of one such file is read as the file.

    Args:
        delimiter: a tab or a space.
        scheme: see `to_bio`, or "auto": see `scheme_of`.

    Example (delimiter " "): ``张 B-PER``, ``三 I-PER``, blank, ``好 O`` -> Example(("张", "三"), (0, 1), id="0"), Example(("好",), (6,), id="1").
    """

    delimiter: str = "\t"
    scheme: str = AUTO

    def read(self, path: Path, benchmark: Benchmark) -> Subset:
        """Read one file.

        Raises:
            InputError: E-BENCH-MISSING, E-BENCH-EMPTY, E-BENCH-PACKED, E-BENCH-ROW, which names the line.
        """
        text = file_text(path)
        return _subset(list(self._rows(text, path, benchmark)), self.scheme, benchmark, path)

    def _rows(self, text: str, path: Path, benchmark: Benchmark) -> Iterator[_Row]:
        characters, tags = list[str](), list[str]()
        for number, line in enumerate([*text.split("\n"), ""], 1):
            if not line.strip(" \t"):
                if tags:
                    yield _Row(tuple(characters), tuple(tags), number - len(tags), 1)
                characters, tags = [], []
                continue
            character, _, tag = line.rpartition(self.delimiter)
            if not character or (self.delimiter in character and character != self.delimiter):
                expected = f"a character, {'a tab' if self.delimiter == chr(9) else 'a space'} and a tag"
                raise bad_row(benchmark, f"{path}:{number}", expected, line)
            characters.append(character)
            tags.append(tag)
