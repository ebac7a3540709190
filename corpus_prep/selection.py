"""Which documents of a split are kept: read, cleaned, sampled, told apart, filtered, compared with the benchmarks; every one is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from corpus_prep.clean import CleanDocument, clean
from corpus_prep.dedup import Contamination
from corpus_prep.filters import Measured, filtered_by
from corpus_prep.readers.base import Reject
from corpus_prep.splits import Piece, Split, documents
from corpus_prep.stages import Stages
from corpus_prep.token_stream import TokenStream, token_stream
from ernie_core.errors import IntegrityError, printable
from ernie_core.normalise import Normaliser, num_dropped
from ernie_core.seeding import key, uniform

MAX_NAMED = 20  # rejected and contaminated documents named by a split
MAX_SAMPLES = 3  # of each filter
APART = frozenset({"qa", "query", "pair"})
"""Kinds of documents whose paragraphs are compared with short benchmark texts one by one; an utterance such as 你好 says nothing."""
LINES = {"cut_lines": "cut_line_samples", "prompt_lines": "prompt_line_samples"}
"""Paragraphs taken out of documents: their count, and the name of some of them."""
OUTCOMES = ("kept", "empty", "rejected", "unsampled", "duplicates", "filtered", "contaminated")
"""What can become of a record in pass 1."""
LATER = (*OUTCOMES, "near_duplicates", "beyond_weight")
"""What can become of it in the end."""


@dataclass(frozen=True)
class Selection:
    """What a split's documents come to.

    Args:
        kept: in their order.
        token_counts: basic token -> occurrences in the kept documents and their titles.
        stream: tokens of `kept` and of those left out after them, see `places`.
        places: the number of each kept document in `stream`.
        facts: "read" and each of OUTCOMES, the last two by name of filter and benchmark; "dropped_characters", invisible ones; "cut_lines", no whole ones, and "prompt_lines"; "rejects", "contaminated_documents",
            "filtered_documents", "cut_line_samples" and "prompt_line_samples" name some of them.
    """

    kept: list[CleanDocument]
    token_counts: Counter[str]
    stream: TokenStream
    places: list[int]
    facts: dict[str, Any]


def select_documents(
    split: Split, pieces: Sequence[Piece], contamination: Contamination, settings: Mapping[str, Any], stages: Stages | None = None
) -> Selection:
    """Return the documents of a split worth keeping, and what became of the others.

    Args:
        split: its records are read in order.
        pieces: bytes of its parts.
        contamination: runs of benchmark texts.
        settings: "html_entities", "escapes", "whole_lines", "prompt_lines", "to_simplified", "filters", "language", as in the recipe.
        stages: counts the time of "read", "clean" and "compare".

    Raises:
        IntegrityError: E-COUNTS, a record was lost or counted twice.
    """
    stages = stages or Stages()
    counters = ("read", "rejected", "empty", "unsampled", "duplicates", "dropped_characters", *LINES)
    facts: dict[str, Any] = {"source": split.corpus, "bytes": split.size_bytes, **dict.fromkeys(counters, 0), **{of: [] for of in LINES.values()}}
    held, rejects = _distinct(split, pieces, settings, facts, stages)
    stream = token_stream([document.lowered for document in held])
    titles = token_stream([[document.title] for document in held])
    owners = contamination.owners_of(stream, {i for i, document in enumerate(held) if document.kind in APART})
    owners = [owner or of_title for owner, of_title in zip(owners, contamination.owners_of(titles), strict=True)]
    places: list[int] = []
    filtered: dict[str, list[CleanDocument]] = {}
    contaminated: list[tuple[CleanDocument, str]] = []
    for i, (document, owner) in enumerate(zip(held, owners, strict=True)):
        if name := filtered_by(Measured(document.lowered, stream.of(i), settings["language"]), settings["filters"]):
            filtered.setdefault(name, []).append(document)
        elif owner is not None:
            contaminated.append((document, owner))
        else:
            places.append(i)
    kept = [held[i] for i in places]
    facts |= {
        "kept": len(kept), "filtered": {name: len(found) for name, found in sorted(filtered.items())},
        "contaminated": dict(Counter(owner for _, owner in contaminated)), "chars": sum(len(p) for d in kept for p in d.lowered),
        "rejects": rejects[:MAX_NAMED], "contaminated_documents": [_named(d) | {"benchmark": owner} for d, owner in contaminated[:MAX_NAMED]],
        "filtered_documents": {name: [_named(d) for d in found[:MAX_SAMPLES]] for name, found in sorted(filtered.items())},
    }  # fmt: skip
    check_counts(facts, f"corpus {split.corpus}, {split.parts[0].path}")
    selection = Selection(kept, stream.counts(places) + titles.counts(places), stream, places, facts)
    stages.ends("compare")
    return selection


def _distinct(
    split: Split, pieces: Sequence[Piece], settings: Mapping[str, Any], facts: dict[str, Any], stages: Stages
) -> tuple[list[CleanDocument], list[dict[str, Any]]]:
    """Return the documents that differ, cleaned, and the records that cannot be read; all others are counted in `facts`."""
    rejects: list[dict[str, Any]] = []
    unique: dict[str, CleanDocument] = {}
    normaliser = Normaliser(settings["to_simplified"])
    for raw in documents(split, pieces):
        stages.ends("read")
        facts["read"] += 1
        if isinstance(raw, Reject):
            facts["rejected"] += 1
            rejects.append(asdict(raw))
            continue
        facts["dropped_characters"] += sum(map(num_dropped, raw.paragraphs))
        document = clean(raw, normaliser, **{name: settings[name] for name in ("html_entities", "escapes", "whole_lines", "prompt_lines")})
        if document is None:
            facts["empty"] += 1
        elif not sampled(document.doc_id, split.share):
            facts["unsampled"] += 1
        elif document.doc_id in unique:
            facts["duplicates"] += 1
        else:
            unique[document.doc_id] = document
            for name, samples in LINES.items():
                lines = getattr(document, name)
                facts[name] += len(lines)
                facts[samples] += [printable(line) for line in lines[: MAX_SAMPLES - len(facts[samples])]]
        stages.ends("clean")
    return list(unique.values()), rejects


def _named(document: CleanDocument) -> dict[str, str]:
    return {"doc_id": document.doc_id, "work": document.work, "title": printable(document.title), "head": printable(document.lowered[0])}


def check_counts(facts: Mapping[str, Any], where: str, outcomes: Sequence[str] = OUTCOMES) -> None:
    """Say if records read are not the sum of what became of them.

    Raises:
        IntegrityError: E-COUNTS.
    """
    counts = {name: sum(facts[name].values()) if isinstance(facts[name], Mapping) else facts[name] for name in outcomes}
    if sum(counts.values()) != facts["read"]:
        raise IntegrityError(
            "E-COUNTS", "records were lost, or counted twice", where=where, expected=f"{facts['read']} records read",
            found=", ".join(f"{name} {n}" for name, n in counts.items()), fix="report this as a bug, with the file",
        )  # fmt: skip


def sampled(doc_id: str, share: float) -> bool:
    """Return whether a document is among the `share` of its corpus that is kept: a threshold on its hash, so equal text is treated alike."""
    return share >= 1.0 or float(uniform(np.array([key("share", doc_id)], np.uint64))[0]) < share
