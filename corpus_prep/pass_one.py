"""Pass 1, a function of one split: bytes -> cleaned, segmented documents, counts, and offers to the corpus tables.

What it writes depends on the split's bytes, the benchmarks' texts, settings and versions alone (DESIGN, Preparation).
"""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus_prep.commit import Attempt, begin, commit, reasons_to_work
from corpus_prep.dedup import Contamination
from corpus_prep.languages import entities_of, segmenter_name_of, segmenter_of
from corpus_prep.near import signatures
from corpus_prep.offers import document_table, offer_candidates, offer_negatives, offer_phrases, offered_counts, sampling_tasks
from corpus_prep.readers.base import all_readers
from corpus_prep.segmented import segment_documents
from corpus_prep.selection import select_documents
from corpus_prep.splits import Piece, Split, read_split
from corpus_prep.stages import Stages, without_collections
from corpus_prep.tables import pack
from ernie_core.errors import printable
from ernie_core.manifest import FileEntry, atomic_write, fetch_others, sha256_of
from ernie_core.normalise import Normaliser

DATA_FORMAT = 19  # raised when the same input would give other bytes


@dataclass(frozen=True)
class Plan:
    """What every split's work needs to know.

    `tables` are hashes of files in `folder/tables`, known after the reduction. `phrase_share`: of the documents whose pairs of words
    are counted; 0 = none.
    """

    folder: str
    seed: int
    settings: Mapping[str, Any]
    benchmarks: tuple[str, ...]
    tables: Mapping[str, str]
    phrase_share: float = 0.0


def split_name(split: Split) -> str:
    """Return the split as messages name it: number, corpus, files and bytes."""
    first, last = split.parts[0], split.parts[-1]
    files = f"{first.path} bytes {first.start}-{first.end}" + (f" to {last.path}" if len(split.parts) > 1 else "")
    return f"split {split.number} of corpus {split.corpus}, {files}, {split.size_bytes} bytes"


@functools.lru_cache(maxsize=2)
def tables_here(tables: Path, hashes: tuple[tuple[str, str], ...]) -> None:
    """Fetch the tables that another node made, once a process, where the run lies in an object store."""
    fetch_others(tables, dict(hashes))


@functools.lru_cache(maxsize=2)
def _contamination(path: Path, names: tuple[str, ...], _sha256: str) -> Contamination:
    return Contamination.from_bytes(path.read_bytes(), names)


def software(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions that pass 1's bytes depend on."""
    normaliser = Normaliser(settings["to_simplified"])
    return {"data_format": str(DATA_FORMAT), "normaliser": normaliser.version, "segmenter": segmenter_name_of(settings)}


@without_collections()
def pass_one(split: Split, plan: Plan, stages: Stages) -> list[str]:
    """Read, clean, deduplicate and segment one split, and commit its documents/NNNNN.json.zst, `offers` and MinHash signatures.

    Args:
        split: what to read.
        plan: for all splits.
        stages: counts the time of "read", "clean", "compare" (tokens, filters, benchmarks), "segment", "units", "offer", "pack" and "write".

    Returns:
        Why it was done; nothing if it was done before.
    """
    folder, name = Path(plan.folder), f"1-{split.number:05d}"
    settings = plan.settings
    tables_here(folder / "tables", tuple(sorted(plan.tables.items())))
    pieces, input_sha256 = read_split(split)
    inputs = {
        "input": input_sha256, "reader": split.reading_sha256, "software": sha256_of(software(settings)),
        "benchmarks": plan.tables["contamination.npy"], "settings": sha256_of([plan.seed, *_settings(plan)]),
    }  # fmt: skip
    reasons = reasons_to_work(folder, name, inputs)
    if not reasons:
        return []
    attempt = begin(folder, name, split_name(split))
    contamination = _contamination(folder / "tables" / "contamination.npy", plan.benchmarks, plan.tables["contamination.npy"])
    segmenter, entities = segmenter_of(settings), entities_of(settings)
    stages.ends("read")
    if attempt.last:
        _one_by_one(split, pieces, contamination, plan, attempt)
    selection = select_documents(split, pieces, contamination, settings, stages)
    built = segment_documents(selection.kept, split.corpus, segmenter, entities, stages)
    made: dict[str, Any] = {"ids": document_table(built.documents), "documents": built.documents}
    made["counts"] = offered_counts(built.documents, selection.token_counts, boilerplate=settings["boilerplate_share"] is not None)
    made["negatives"] = offer_negatives(built.documents, settings["max_seq_len"], plan.seed, settings["valid_share"])
    if sampling := sampling_tasks(settings["tasks"]):
        made["candidates"] = offer_candidates(built.documents, sampling)
    if plan.phrase_share:
        made["phrases"] = offer_phrases(built, plan.phrase_share, plan.seed)
    if settings["near_duplicates"] is not None:
        made["near"] = signatures(selection.stream, selection.places)
    stages.ends("offer")
    files: list[FileEntry] = []
    for place, value in sorted(made.items()):
        suffix, data = ("npy", _npy(value)) if isinstance(value, np.ndarray) else ("json.zst", pack(value))
        stages.ends("pack")
        files.append(replace(atomic_write(folder / place / f"{split.number:05d}.{suffix}", data), path=f"{place}/{split.number:05d}.{suffix}"))
        stages.ends("write")
    commit(folder, name, inputs, files, selection.facts)
    stages.ends("write")
    return reasons


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _one_by_one(split: Split, pieces: Sequence[Piece], contamination: Contamination, plan: Plan, attempt: Attempt) -> None:
    """Do the same work record by record, naming each beforehand, so that one which ends its worker is known."""
    framing = all_readers()[split.reader].framing(split.settings["options"])
    for piece in pieces:
        for offset, record in framing.records(piece.data):
            at = piece.offset + offset
            attempt.note(f"it dies at {printable(piece.path, 400)} byte {at}, a record of {len(record)} bytes")
            alone = select_documents(split, [replace(piece, offset=at, data=record)], contamination, plan.settings)
            segment_documents(alone.kept, split.corpus, segmenter_of(plan.settings), entities_of(plan.settings))
    attempt.note("it dies at no single document, but at all of them together")


def _settings(plan: Plan) -> list[Any]:
    """Return the settings that pass 1's bytes depend on; of two only whether they are on, since the reduction looks at the numbers."""
    keys = ("valid_share", "html_entities", "escapes", "whole_lines", "prompt_lines", "filters", "language", "max_seq_len")
    return [
        *(plan.settings[k] for k in keys),
        *(plan.settings[k] is not None for k in ("near_duplicates", "boilerplate_share")),
        sampling_tasks(plan.settings["tasks"]), plan.phrase_share,
    ]  # fmt: skip
