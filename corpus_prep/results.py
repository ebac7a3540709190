"""What the preparation ends with: facts summed over splits and checked, the shortcut audit, the card, the manifest."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from corpus_prep.audit import MAX_TRAIN_ROWS, MAX_VALID_ROWS, audit
from corpus_prep.card import card_markdown
from corpus_prep.commit import Entry
from corpus_prep.near import Resemblance
from corpus_prep.reduction import Tables
from corpus_prep.selection import LATER, LINES, MAX_SAMPLES, check_counts
from corpus_prep.tables import SUBSETS, unpack
from ernie_core.data.rows import Rows
from ernie_core.data.shards import ShardSet
from ernie_core.errors import InputError, printable
from ernie_core.manifest import Manifest, atomic_write, canonical_json, verified_path, write_manifest
from ernie_core.schemas import Document
from ernie_core.tasks.base import all_tasks
from ernie_core.vocab import Vocab

Say = Callable[[str], None]
MIN_REJECTS = 10  # fewer unreadable documents never stop a preparation
UNKNOWN_WARN, UNKNOWN_STOP = 0.05, 0.30  # share of [UNK] among the tokens (reliability F51)
_COUNTS = ("read", "kept", "empty", "rejected", "unsampled", "duplicates", "dropped_characters", *LINES)
_MAX_NAMED = 50


def check_documents(entries: Mapping[int, Entry], max_reject_fraction: float, say: Say) -> None:
    """Stop if too many records were unreadable, or if no document is left; name the first ones in any case.

    Raises:
        InputError: E-REJECTS, E-CORPUS-EMPTY.
    """
    facts = [entries[number].facts for number in sorted(entries)]
    read, kept, rejected = (sum(f[name] for f in facts) for name in ("read", "kept", "rejected"))
    rejects = [r for f in facts for r in f["rejects"]]
    first = "; ".join(_describe(r) for r in rejects[:3])
    guesses = sorted({r["encoding"] for r in rejects if r["encoding"]})
    fix = (
        f"convert the files to UTF-8 (they look like {', '.join(guesses)})" if guesses else "mend these records, or raise prepare.max_reject_fraction"
    )
    whole_files = any(r["offset"] == 0 and r["encoding"] == "utf-16" for r in rejects)  # it has no line breaks to cut records at
    if (rejected >= MIN_REJECTS or whole_files) and rejected > max_reject_fraction * read:
        raise InputError(
            "E-REJECTS", "too many documents cannot be read", where=first, expected=f"at most {max_reject_fraction:.2%}",
            found=f"{rejected} of {read}", fix=fix,
        )  # fmt: skip
    if not kept:
        found = f"{read} records, {rejected} unreadable" + (f" ({first})" if first else "")
        raise InputError("E-CORPUS-EMPTY", "no document is left to learn from", found=found, fix=fix if rejected else "give files with text")
    for reject in rejects[:_MAX_NAMED]:
        say(f"prepare: left out an unreadable document: {_describe(reject)}")


def _describe(reject: Mapping[str, Any]) -> str:
    return f"{reject['path']} byte {reject['offset']}: {printable(reject['reason'])}, begins {reject['head_hex'][:32]}"


def document_facts(entries: Mapping[int, Entry], built: Mapping[int, Entry], tables: Tables, folder: Path) -> dict[str, Any]:
    """Return counts over all splits and by source, read = kept + all the others, checked.

    "filtered_by" counts by filter and "contaminated_by" by benchmark; "contaminated_documents" and "rejects" name up to 50 each,
    "filtered_documents" three of each filter, "near_duplicate_documents" up to 50 with the document that stays, three of them with
    what they begin with, "boilerplate" up to 50 lines of each corpus, "cut_line_samples" and "prompt_line_samples" three, "text_shares" how much of all characters is whose. A document with nothing but boilerplate is filtered by
    "boilerplate_share"; "boilerplate_lines", "cut_lines" and "prompt_lines" count paragraphs taken out.

    Raises:
        IntegrityError: E-COUNTS, a record was lost or counted twice.
    """
    by_source: dict[str, Counter[str]] = {}
    contaminated_by: Counter[str] = Counter()
    filtered_by: Counter[str] = Counter()
    samples: dict[str, list[Any]] = {}
    cut: dict[str, dict[str, list[str]]] = {name: {} for name in LINES.values()}
    resembling = Counter(found.left_out[0] for found in tables.near)
    ordered = [entries[number].facts for number in sorted(entries)]
    for number, facts in zip(sorted(entries), ordered, strict=True):
        check_counts(facts, f"split {number} of corpus {facts['source']}")
        counts = by_source.setdefault(facts["source"], Counter())
        counts.update({name: facts[name] for name in _COUNTS})
        beyond = len(tables.beyond[number])
        again, taken = len(tables.duplicates[number]) - resembling[number] - beyond, built[number].facts["boilerplate"]
        counts.update(kept=-len(tables.duplicates[number]) - taken["documents"], filtered=taken["documents"], boilerplate_lines=taken["lines"])
        filtered_by.update(boilerplate_share=taken["documents"])
        counts.update(duplicates=again, near_duplicates=resembling[number], beyond_weight=beyond)
        counts.update(contaminated=sum(facts["contaminated"].values()), bytes=facts["bytes"], chars=facts["chars"])
        counts.update(filtered=sum(facts["filtered"].values()))
        contaminated_by.update(facts["contaminated"])
        filtered_by.update(facts["filtered"])
        for name, found in cut.items():
            found[facts["source"]] = (found.get(facts["source"], []) + facts[name])[:MAX_SAMPLES]
        for name, documents in facts["filtered_documents"].items():
            samples[name] = (samples.get(name, []) + documents)[:MAX_SAMPLES]
    total: Counter[str] = Counter()
    for counts in by_source.values():
        total.update(counts)
    check_counts(total, "all splits together", LATER)
    return {
        **dict(total), "by_source": {source: dict(counts) for source, counts in by_source.items()}, "contaminated_by": dict(contaminated_by), "filtered_by": {name: n for name, n in filtered_by.items() if n},
        "contaminated_documents": [d for facts in ordered for d in facts["contaminated_documents"]][:_MAX_NAMED],
        "rejects": [r for facts in ordered for r in facts["rejects"]][:_MAX_NAMED], "filtered_documents": samples,
        "text_shares": {source: n / max(1, sum(tables.chars.values())) for source, n in tables.chars.items()},
        "near_duplicate_documents": _near_named(tables.near[:_MAX_NAMED], entries, folder),
        "boilerplate": {source: lines[:_MAX_NAMED] for source, lines in tables.boilerplate.items()},
        **{name: {source: lines for source, lines in found.items() if lines} for name, found in cut.items()},
    }  # fmt: skip


def _near_named(near: Sequence[Resemblance], entries: Mapping[int, Entry], folder: Path) -> list[dict[str, Any]]:
    """Return the place of each document and of the one that stays, and of the first ones the text's beginning too."""
    named: list[dict[str, Any]] = []
    for i, found in enumerate(near):
        sides = {"left_out": found.left_out, "kept": found.kept}
        row: dict[str, Any] = {"estimate": round(found.estimate, 3)}
        for side, (number, index) in sides.items():
            row[side] = {"source": entries[number].facts["source"], "split": number, "index": index}
            if i < MAX_SAMPLES:
                document = Document.from_json(unpack(verified_path(folder, entries[number].file("documents")).read_bytes())[index])
                text = "".join(s.text for s in document.paragraphs[0])
                row[side] |= {"doc_id": document.doc_id, "work": document.work, "head": printable(text)}
        named.append(row)
    return named


def task_facts(built: Mapping[int, Entry], tasks: Mapping[str, Any]) -> dict[str, Any]:
    """Return for each task: "rows", "tokens", "unknown", "classes" and "carried" labels of both subsets together and of each, and "drops" by reason."""
    facts: dict[str, Any] = {}
    for task in sorted(tasks):
        parts = [built[number].facts[task] for number in sorted(built)]
        subsets = {s: _sum([p[s] for p in parts]) for s in SUBSETS}
        drops: Counter[str] = Counter()
        for part in parts:
            drops.update(part["drops"])
        facts[task] = {**_sum(list(subsets.values())), **subsets, "drops": dict(drops)}
    return facts


def _sum(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    sums = {name: sum(p[name] for p in parts) for name in ("rows", "tokens", "unknown")}
    carried = {name: _added([p["carried"][name] for p in parts]) for name in (parts[0]["carried"] if parts else {})}
    return {**sums, "classes": _added([p["classes"] for p in parts]), "carried": carried}


def _added(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Return counts added up by name.

    Example: ``_added([{"0": 1}, {"0": 2, "1": 4}])`` -> ``{"0": 3, "1": 4}``.
    """
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items()))


def check_tasks(tasks: Mapping[str, Any], say: Say) -> None:
    """Stop if a task has nothing to train on, or if the vocabulary does not fit the text.

    Raises:
        InputError: E-TASK-EMPTY, E-VOCAB-UNKNOWN.
    """
    for name, facts in tasks.items():
        drops = ", ".join(f"{reason} {n}" for reason, n in facts["drops"].items()) or "nothing was dropped"
        if not facts["train"]["rows"]:
            raise InputError(
                "E-TASK-EMPTY", f"this corpus gives no row for task {name}", found=f"dropped: {drops}",
                fix="give more documents (at least two, with several sentences each), or take the task out of prepare.tasks and the stages",
            )  # fmt: skip
        if not facts["valid"]["rows"]:
            say(f"prepare: task {name} has no validation rows; give more documents or raise prepare.valid_share")
        share = facts["unknown"] / facts["tokens"]
        if share > UNKNOWN_STOP:
            raise InputError(
                "E-VOCAB-UNKNOWN", f"the vocabulary does not fit the text of task {name}", expected=f"at most {UNKNOWN_STOP:.0%} [UNK]",
                found=f"{share:.1%}", fix="build the vocabulary from this corpus (prepare.vocab: null), or bring one that fits",
            )  # fmt: skip
        if share > UNKNOWN_WARN:
            say(f"prepare: {share:.1%} of the tokens of task {name} are [UNK]; a larger vocabulary would keep more of the text")


def finish(folder: Path, manifest: Manifest, vocab: Vocab, settings: Mapping[str, Any], seed: int, say: Say) -> Manifest:
    """Write audit.json, card.md and last the manifest."""
    started = time.monotonic()
    encoding = "parquet" if "parquet" in settings["encodings"] else "text"
    tasks = all_tasks()
    bars: dict[str, Any] = {}
    trains: dict[str, ShardSet] = {}
    for name in sorted(settings["tasks"]):
        train, valid = (ShardSet.open(folder, manifest, name, subset, encoding) for subset in ("train", "valid"))
        bars[name] = audit(_some_rows(train, MAX_TRAIN_ROWS), _some_rows(valid, MAX_VALID_ROWS), task=tasks[name], tokens=vocab.tokens, seed=seed)
        trains[name] = train
    audit_file = atomic_write(folder / "audit.json", canonical_json(bars))
    card_file = atomic_write(folder / "card.md", card_markdown(manifest.facts, vocab, trains, bars).encode())
    say(f"prepare: shortcut audit and card in {time.monotonic() - started:.1f} s")
    new = replace(audit_file, facts={"audit": True}), replace(card_file, facts={"card": True})
    return write_manifest(folder, replace(manifest, files=(*manifest.files, *new)), new)


def _some_rows(shards: ShardSet, most: int) -> Rows:
    """Return at least `most` rows where there are so many, from evenly spaced row groups."""
    sizes = [len(lengths) for lengths in shards.group_lengths]
    if not sizes:
        return Rows.from_samples([])
    wanted = min(len(sizes), max(1, -(-most * len(sizes) // sum(sizes))))
    chosen = np.unique(np.linspace(0, len(sizes) - 1, wanted).astype(np.int64))
    return Rows.concat([shards.read_group(int(g)) for g in chosen])
