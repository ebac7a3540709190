"""Pass 1, a function of one split: bytes -> cleaned, segmented documents, counts, and offers to the corpus tables.

What it writes depends on the split's bytes, the benchmarks' texts, settings and versions alone (DESIGN, Preparation).
"""

from __future__ import annotations

import functools
import io
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise, repeat
from pathlib import Path
from typing import Any

import numpy as np

from corpus_prep.boilerplate import offered_lines
from corpus_prep.clean import CleanDocument
from corpus_prep.commit import begin, commit, reasons_to_work
from corpus_prep.dedup import Contamination
from corpus_prep.near import signatures
from corpus_prep.segment import Segmenter, load_segmenter, segmenter_name
from corpus_prep.selection import select_documents
from corpus_prep.sentences import split_sentences
from corpus_prep.spans import make_sentence
from corpus_prep.splits import Split, read_split
from corpus_prep.tables import SUBSETS, offer_negatives, pack, subset_of
from ernie_core.manifest import FileEntry, atomic_write, sha256_of
from ernie_core.normalise import Normaliser
from ernie_core.schemas import Document

DATA_FORMAT = 7  # raised when the same input would give other bytes


@dataclass(frozen=True)
class Plan:
    """What every split's work needs to know. `tables` are hashes of files in `folder/tables`, known after the reduction."""

    folder: str
    seed: int
    settings: Mapping[str, Any]
    benchmarks: tuple[str, ...]
    tables: Mapping[str, str]


def split_name(split: Split) -> str:
    """Return the split as messages name it: corpus, files and bytes."""
    first, last = split.parts[0], split.parts[-1]
    return f"corpus {split.corpus}, {first.path} bytes {first.start}-{first.end}" + (f" to {last.path}" if len(split.parts) > 1 else "")


@functools.lru_cache(maxsize=2)
def _contamination(path: Path, names: tuple[str, ...], _sha256: str) -> Contamination:
    return Contamination.from_bytes(path.read_bytes(), names)


def software(normaliser: Normaliser) -> dict[str, str]:
    """Return the versions that pass 1's bytes depend on."""
    return {"data_format": str(DATA_FORMAT), "normaliser": normaliser.version, "segmenter": segmenter_name()}


def pass_one(split: Split, plan: Plan) -> list[str]:
    """Read, clean, deduplicate and segment one split, and commit documents/NNNNN.json.zst and parts/NNNNN.json.zst.

    Returns:
        Why it was done; nothing if it was done before.
    """
    folder, name = Path(plan.folder), f"1-{split.number:05d}"
    pieces, input_sha256 = read_split(split)
    inputs = {
        "input": input_sha256, "reader": split.reading_sha256, "software": sha256_of(software(Normaliser(plan.settings["to_simplified"]))),
        "benchmarks": plan.tables["contamination.npy"], "settings": sha256_of([plan.seed, *_settings(plan)]),
    }  # fmt: skip
    reasons = reasons_to_work(folder, name, inputs)
    if not reasons:
        return []
    begin(folder, name, split_name(split))
    contamination = _contamination(folder / "tables" / "contamination.npy", plan.benchmarks, plan.tables["contamination.npy"])
    selection = select_documents(split, pieces, contamination, plan.settings)
    built = segment_documents(selection.kept, split.corpus, load_segmenter())
    part = {"source": split.corpus, "tokens": dict(selection.token_counts), "doc_ids": [d.doc_id for d in built], **offers(built, plan)}
    part["chars"] = [sum(len(s.original) for p in d.paragraphs for s in p) for d in built]
    part["paragraphs"] = {} if plan.settings["boilerplate_share"] is None else offered_lines(built)
    files = [
        _placed(atomic_write(folder / place / f"{split.number:05d}.json.zst", pack(value)), place)
        for place, value in (("documents", [d.to_json() for d in built]), ("parts", part))
    ]
    if plan.settings["near_duplicates"] is not None:
        buffer = io.BytesIO()
        np.save(buffer, signatures(selection.stream, selection.places), allow_pickle=False)
        files.append(_placed(atomic_write(folder / "near" / f"{split.number:05d}.npy", buffer.getvalue()), "near"))
    commit(folder, name, inputs, files, selection.facts)
    return reasons


def _settings(plan: Plan) -> list[Any]:
    """Return the settings that pass 1's bytes depend on; of two only whether they are on, since the reduction looks at the numbers."""
    keys = ("valid_share", "html_entities", "filters", "language", "max_seq_len")
    return [*(plan.settings[k] for k in keys), *(plan.settings[k] is not None for k in ("near_duplicates", "boilerplate_share"))]


def _placed(entry: FileEntry, place: str) -> FileEntry:
    return replace(entry, path=f"{place}/{entry.path}")


def segment_documents(documents: Sequence[CleanDocument], source: str, segmenter: Segmenter) -> list[Document]:
    """Return the documents cut into sentences, words and entities; words that their files had cut are kept. Many at once are faster."""
    paragraphs = [[list(_pieces(*p, w)) for p, w in zip(d.paragraphs, d.words or repeat(()), strict=False)] for d in documents]
    uncut = (lower for paras in paragraphs for pieces in paras for lower, _, words in pieces if not words)
    cut = iter(segmenter.words(list(uncut)))
    return [
        Document(
            d.doc_id, source, d.work, d.title,
            tuple(tuple(make_sentence(lower, text, words or next(cut), segmenter.tag) for lower, text, words in pieces) for pieces in paras),
            d.kind, d.roles, d.label,
        )
        for d, paras in zip(documents, paragraphs, strict=True)
    ]  # fmt: skip


def _pieces(lower: str, original: str, words: Sequence[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield a paragraph's sentences: normalised, with its case, and their words where these are given."""
    ends = list(accumulate(map(len, words)))
    start = 0
    for text in split_sentences(original):
        end = start + len(text)
        bounds = [start, *ends[bisect_right(ends, start) : bisect_left(ends, end)], end]
        yield lower[start:end], text, [lower[a:b] for a, b in pairwise(bounds)] if words else []
        start = end


def offers(built: Sequence[Document], plan: Plan) -> dict[str, Any]:
    """Return what the reduction needs from a split: "lines" (sentence -> documents that hold it, if two or more) and "negatives"."""
    lines: Counter[str] = Counter()
    for document in built:
        lines.update({s.text for p in document.paragraphs for s in p})
    subsets = [subset_of(d.doc_id, plan.settings["valid_share"], plan.seed) for d in built]
    negatives = {}
    for subset in SUBSETS:
        mine = [d for d, s in zip(built, subsets, strict=True) if s == subset]
        negatives[subset] = offer_negatives(mine, plan.settings["max_seq_len"], plan.seed)
    return {"lines": {line: count for line, count in lines.items() if count > 1}, "negatives": negatives}
