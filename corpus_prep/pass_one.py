"""Pass 1, a function of one split: bytes -> cleaned, segmented documents, counts, and offers to the corpus tables.

What it writes depends on the split's bytes, the benchmarks' texts, settings and versions alone (DESIGN, Preparation).
"""

from __future__ import annotations

import functools
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate, pairwise, repeat
from pathlib import Path
from typing import Any

import numpy as np

from corpus_prep.clean import CleanDocument, clean
from corpus_prep.commit import begin, commit, reasons_to_work
from corpus_prep.dedup import Contamination, TokenHashes
from corpus_prep.filters import filtered_by
from corpus_prep.readers.base import Reject
from corpus_prep.segment import SEGMENTER, Segmenter, dictionary_path, load_segmenter
from corpus_prep.sentences import split_sentences
from corpus_prep.spans import make_sentence
from corpus_prep.splits import Split, documents, read_split
from corpus_prep.tables import SUBSETS, offer_negatives, pack, subset_of
from ernie_core.manifest import FileEntry, atomic_write, file_sha256, sha256_of
from ernie_core.normalise import NORMALISER_VERSION, basic_tokens
from ernie_core.schemas import Document, Sentence
from ernie_core.seeding import key, uniform
from ernie_core.tasks.next_sentence import groups

DATA_FORMAT = 2  # raised when the same input would give other bytes
MAX_NAMED = 20  # rejected and contaminated documents named by a split


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


@functools.lru_cache(maxsize=1)
def _dictionary_sha256() -> str:
    return file_sha256(dictionary_path())


@functools.lru_cache(maxsize=2)
def _contamination(path: Path, names: tuple[str, ...], _sha256: str) -> Contamination:
    return Contamination.from_bytes(path.read_bytes(), names)


def software() -> dict[str, str]:
    """Return the versions that pass 1's bytes depend on."""
    return {"data_format": str(DATA_FORMAT), "normaliser": NORMALISER_VERSION, "segmenter": SEGMENTER, "dictionary_sha256": _dictionary_sha256()}


def pass_one(split: Split, plan: Plan) -> list[str]:
    """Read, clean, deduplicate and segment one split, and commit documents/NNNNN.json.zst and parts/NNNNN.json.zst.

    Returns:
        Why it was done; nothing if it was done before.
    """
    folder, name = Path(plan.folder), f"1-{split.number:05d}"
    pieces, input_sha256 = read_split(split)
    inputs = {
        "input": input_sha256, "reader": sha256_of([split.corpus, split.reader, split.title, split.text, split.share, split.encoding]), "software": sha256_of(software()),
        "benchmarks": plan.tables["contamination.npy"], "settings": sha256_of([plan.seed, *(plan.settings[k] for k in ("valid_share", "html_entities", "filters"))]),
    }  # fmt: skip
    reasons = reasons_to_work(folder, name, inputs)
    if not reasons:
        return []
    begin(folder, name, split_name(split))
    contamination = _contamination(folder / "tables" / "contamination.npy", plan.benchmarks, plan.tables["contamination.npy"])
    kept, counts, facts = select_documents(split, pieces, contamination, plan.settings["filters"], html_entities=plan.settings["html_entities"])
    built = [segment_document(document, split.corpus, load_segmenter()) for document in kept]
    part = {**counts, "doc_ids": [d.doc_id for d in built], **offers(built, plan)}
    files = [
        _placed(atomic_write(folder / place / f"{split.number:05d}.json.zst", pack(value)), place)
        for place, value in (("documents", [d.to_json() for d in built]), ("parts", part))
    ]
    commit(folder, name, inputs, files, facts)
    return reasons


def _placed(entry: FileEntry, place: str) -> FileEntry:
    return replace(entry, path=f"{place}/{entry.path}")


def select_documents(
    split: Split, pieces: Sequence[bytes], contamination: Contamination, filters: Mapping[str, float], *, html_entities: bool
) -> tuple[list[CleanDocument], dict[str, Any], dict[str, Any]]:
    """Return the documents of a split worth keeping, {"tokens": counts of their basic tokens}, and the split's facts.

    Facts: read = kept + empty + rejected + unsampled + duplicates + filtered + contaminated, the last two by name of filter and
    benchmark; "rejects" and "contaminated_documents" name up to 20 each.
    """
    facts: dict[str, Any] = {"source": split.corpus, "bytes": split.size_bytes, "read": 0, "kept": 0, "empty": 0, "rejected": 0}
    facts |= {"unsampled": 0, "duplicates": 0}
    rejects: list[dict[str, Any]] = []
    filtered: Counter[str] = Counter()
    unique: dict[str, CleanDocument] = {}
    for raw in documents(split, pieces):
        facts["read"] += 1
        if isinstance(raw, Reject):
            facts["rejected"] += 1
            rejects.append(asdict(raw))
            continue
        document = clean(raw, html_entities)
        if document is None:
            facts["empty"] += 1
        elif not sampled(document.doc_id, split.share):
            facts["unsampled"] += 1
        elif document.doc_id in unique:
            facts["duplicates"] += 1
        elif name := filtered_by([lower for lower, _ in document.paragraphs], filters):
            filtered[name] += 1
        else:
            unique[document.doc_id] = document
    hashes = TokenHashes()
    tokens = [basic_tokens(" ".join(lower for lower, _ in d.paragraphs)) for d in unique.values()]
    owners = contamination.owners_of([hashes.array(t) for t in tokens])
    counts: Counter[str] = Counter()
    kept: list[CleanDocument] = []
    for document, found, owner in zip(unique.values(), tokens, owners, strict=True):
        if owner is None:
            kept.append(document)
            counts.update(found)
    named = [
        {"doc_id": d.doc_id, "work": d.work, "title": d.title, "benchmark": o} for d, o in zip(unique.values(), owners, strict=True) if o is not None
    ]
    facts |= {
        "kept": len(kept), "filtered": dict(filtered), "contaminated": dict(Counter(n["benchmark"] for n in named)), "chars": sum(len(p) for d in kept for p, _ in d.paragraphs),
        "rejects": rejects[:MAX_NAMED], "contaminated_documents": named[:MAX_NAMED],
    }  # fmt: skip
    return kept, {"tokens": dict(counts)}, facts


def sampled(doc_id: str, share: float) -> bool:
    """Return whether a document is among the `share` of its corpus that is kept: a threshold on its hash, so equal text is treated alike."""
    return share >= 1.0 or float(uniform(np.array([key("share", doc_id)], np.uint64))[0]) < share


def segment_document(document: CleanDocument, source: str, segmenter: Segmenter) -> Document:
    """Return the document cut into sentences, words and entities; words that its file had cut are kept."""
    words = document.words or repeat(())
    paragraphs = tuple(tuple(_sentences(*p, w, segmenter)) for p, w in zip(document.paragraphs, words, strict=False))
    return Document(document.doc_id, source, document.work, document.title, paragraphs, document.kind, document.roles, document.label)


def _given(words: list[str]) -> Callable[[str], list[str]]:
    return lambda _text: words


def _sentences(lower: str, original: str, words: Sequence[str], segmenter: Segmenter) -> Iterator[Sentence]:
    ends = list(accumulate(map(len, words)))
    start = 0
    for text in split_sentences(original):
        end = start + len(text)
        bounds = [start, *ends[bisect_right(ends, start) : bisect_left(ends, end)], end]
        given = [lower[a:b] for a, b in pairwise(bounds)]
        yield make_sentence(lower[start:end], text, _given(given) if words else segmenter.words, segmenter.tag)
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
        negatives[subset] = offer_negatives(mine, [groups(d) for d in mine], plan.seed)
    return {"lines": {line: count for line, count in lines.items() if count > 1}, "negatives": negatives}
