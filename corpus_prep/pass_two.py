"""Pass 2, a function of one split and the corpus tables: documents -> samples -> shards, for every task and subset."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpus_prep.boilerplate import without_lines
from corpus_prep.commit import Attempt, begin, commit, read_entry, reasons_to_work
from corpus_prep.pass_one import Plan, software, split_name, tables_here
from corpus_prep.phrases import Phrases, document_with_phrases, unpack_phrases
from corpus_prep.splits import Split
from corpus_prep.stages import Stages, without_collections
from corpus_prep.tables import SUBSETS, Candidates, SpanPool, has_long_rows, load_pool, longest_row, subset_of, unpack, unpack_candidates
from ernie_core.data.checks import check_rows
from ernie_core.data.rows import Rows
from ernie_core.data.shards import write_shard
from ernie_core.errors import printable
from ernie_core.manifest import FileEntry, sha256_of, verified_path
from ernie_core.schemas import Document, Sample
from ernie_core.tasks.base import BuildContext, Task, all_tasks, with_labels
from ernie_core.tokenization import Tokenizer, load_tokenizer


@dataclass(frozen=True)
class Tools:
    """Tables in the form that builders use, loaded once per process. `duplicates`: [N, 2], (split, document's number), sorted."""

    tokenizer: Tokenizer
    lines: frozenset[str]
    pools: Mapping[str, SpanPool]
    duplicates: NDArray[np.uint32]
    boilerplate: Mapping[str, Sequence[str]]
    candidates: Mapping[str, Candidates]
    phrases: Phrases


@functools.lru_cache(maxsize=1)
def _tools(tables: Path, hashes: tuple[tuple[str, str], ...]) -> Tools:
    tables_here(tables, hashes)
    phrases = unpack_phrases((tables / "phrases.json").read_bytes())
    pools = {subset: load_pool(tables / "negatives.json.zst", subset, phrases) for subset in SUBSETS}
    lines = frozenset(json.loads((tables / "lines.json").read_bytes()))
    duplicates = np.load(tables / "duplicates.npy", mmap_mode="r", allow_pickle=False)
    boilerplate = json.loads((tables / "boilerplate.json").read_bytes())
    candidates = unpack_candidates((tables / "candidates.json").read_bytes())
    return Tools(load_tokenizer(tables / "vocab.txt"), lines, pools, duplicates, boilerplate, candidates, phrases)


@without_collections()
def pass_two(split: Split, plan: Plan, stages: Stages) -> list[str]:
    """Build and commit the shards of one split for every task and subset.

    Args:
        split: its documents are those that pass 1 committed.
        plan: holds the tables' hashes.
        stages: counts the time of "tables", "read", "phrases", each task's building (the encoding of its words in it), "rows", "check" and "write".

    Returns:
        Why it was done; nothing if it was done before.
    """
    folder, name = Path(plan.folder), f"2-{split.number:05d}"
    tools = _tools(folder / "tables", tuple(sorted(plan.tables.items())))
    first, end = np.searchsorted(tools.duplicates[:, 0], [split.number, split.number + 1])
    dropped, lines = tools.duplicates[first:end, 1].tolist(), tools.boilerplate.get(split.corpus, [])
    stages.ends("tables")
    documents_file = read_entry(folder, f"1-{split.number:05d}").file("documents")
    keys = ("valid_share", "max_seq_len", "long_rows", "group_rows", "encodings", "tasks", "carry")
    inputs = {
        "documents": documents_file.sha256, "duplicates": sha256_of(dropped), "boilerplate": sha256_of(list(lines)), "settings": sha256_of([plan.seed, *(plan.settings[k] for k in keys)]),
        "software": sha256_of({**software(plan.settings), "numpy": np.__version__, "pyarrow": pa.__version__}),
        **{table: plan.tables[table] for table in ("vocab.txt", "lines.json", "candidates.json", "negatives.json.zst", "phrases.json")},
    }  # fmt: skip
    reasons = reasons_to_work(folder, name, inputs)
    stages.ends("check done work")
    if not reasons:
        return []
    attempt = begin(folder, name, split_name(split))
    rows = unpack(verified_path(folder, documents_file).read_bytes())
    left_out = set(dropped)
    cut = [without_lines(Document.from_json(row), frozenset(lines)) for i, row in enumerate(rows) if i not in left_out]
    stages.ends("read")
    held = [document_with_phrases(document, tools.phrases) for document, _ in cut if document is not None]
    stages.ends("phrases")
    tasks = all_tasks()
    files: list[FileEntry] = []
    facts: dict[str, Any] = {"boilerplate": {"lines": sum(taken for _, taken in cut), "documents": len(cut) - len(held)}}
    labelled = _with_carried_labels(held, plan, tools)
    stages.ends("carry")
    if attempt.last:
        _one_by_one(held, plan, tools, attempt)
    for task_name in sorted(plan.settings["tasks"]):
        documents = labelled if tasks[task_name].carries else held
        facts[task_name] = _build_task(tasks[task_name], documents, split, plan, tools, files, stages)
    commit(folder, name, inputs, files, facts)
    stages.ends("write")
    return reasons


def _with_carried_labels(held: Sequence[Document], plan: Plan, tools: Tools) -> Sequence[Document]:
    """Return the documents with the labels of `prepare.carry` at their sentences."""
    carry = plan.settings["carry"]
    if not carry:
        return held
    tasks = [all_tasks()[name] for name in carry]
    contexts = [_context(task, "train", plan.settings["max_seq_len"], plan, tools) for task in tasks]  # no label depends on the pool
    return [
        with_labels(document, [task.label_words(document, context) for task, context in zip(tasks, contexts, strict=True) if task.label_words])
        for document in held
    ]


def _one_by_one(held: Sequence[Document], plan: Plan, tools: Tools, attempt: Attempt) -> None:
    """Build each document's samples alone, naming it beforehand, so that one which ends its worker is known."""
    tasks = all_tasks()
    for document in held:
        size = sum(len(s.original) for p in document.paragraphs for s in p)
        for name in sorted(plan.settings["tasks"]):
            attempt.note(f"it dies at document {document.doc_id} of {printable(document.work)}, {size} characters, in task {name}")
            subset = subset_of(document.doc_id, plan.settings["valid_share"], plan.seed)
            list(_samples(tasks[name], [document], subset, plan, tools, Counter()))
    attempt.note("it dies at no single document, but at all of them together")


def _samples(task: Task, documents: Sequence[Document], subset: str, plan: Plan, tools: Tools, drops: Counter[str]) -> Iterator[Sample]:
    """Yield a task's rows of documents: first the short ones, then those of the documents that give long ones."""
    short, long_rows = plan.settings["max_seq_len"], plan.settings["long_rows"]
    held: dict[int, list[Document]] = {short: [], **({long_rows["max_seq_len"]: []} if long_rows else {})}
    for document in documents:
        is_long = bool(long_rows) and task.long_rows and has_long_rows(document.doc_id, long_rows["share"], plan.seed)
        held[long_rows["max_seq_len"] if is_long else short].append(document)
    for max_seq_len, mine in held.items():
        yield from task.build(mine, _context(task, subset, max_seq_len, plan, tools), drops)


def _context(task: Task, subset: str, max_seq_len: int, plan: Plan, tools: Tools) -> BuildContext:
    vocab = tools.tokenizer.vocab
    options = task.complete(plan.settings["tasks"].get(task.name, {}))
    return BuildContext(
        tools.tokenizer.encode_word, vocab.cls_id, vocab.sep_id, max_seq_len, plan.seed, tools.pools[subset], tools.lines, options,
        tools.candidates.get(task.name, {}), tuple(plan.settings["carry"]) if task.carries else (),
    )  # fmt: skip


def _build_task(
    task: Task, held: Sequence[Document], split: Split, plan: Plan, tools: Tools, files: list[FileEntry], stages: Stages
) -> dict[str, Any]:
    """Write a task's shards of one split, appending to `files`; return {"drops", "train", "valid"}."""
    settings = plan.settings
    vocab = tools.tokenizer.vocab
    drops: Counter[str] = Counter()
    facts: dict[str, Any] = {}
    for subset in SUBSETS:
        mine = [d for d in held if subset_of(d.doc_id, settings["valid_share"], plan.seed) == subset]
        token_labels = [task.name] if task.level == "token" else list(plan.settings["carry"]) if task.carries else []
        samples = list(_samples(task, mine, subset, plan, tools, drops))
        stages.ends(f"build {task.name}")
        rows = Rows.from_samples(samples, token_labels)
        stages.ends("rows")
        name = f"shards/{task.name}/{subset}-{split.number:05d}"
        classes = task.classes(settings["tasks"][task.name])
        check_rows(
            rows, vocab_size=vocab.size, max_positions=longest_row(settings), sent_types=16, classes=classes if task.level == "sentence" else 0,
            where=name, token_classes={other: all_tasks()[other].num_classes for other in token_labels}, pad_id=vocab.pad_id,
        )  # fmt: skip
        stages.ends("check")
        if len(rows):
            files += write_shard(
                Path(plan.folder), name, rows, task=task.name, subset=subset, group_rows=settings["group_rows"], encodings=settings["encodings"]
            )
        facts[subset] = _row_facts(rows, task, vocab.unk_id)
        stages.ends("write")
    return {**facts, "drops": dict(sorted((reason, n) for reason, n in drops.items() if n))}


def _row_facts(rows: Rows, task: Task, unk_id: int) -> dict[str, Any]:
    values = rows.token_labels[task.name] if task.level == "token" else rows.labels
    return {
        "rows": len(rows), "tokens": rows.num_tokens, "unknown": int(np.count_nonzero(rows.token_ids == unk_id)), "classes": _class_counts(values),
        "carried": {name: _class_counts(column) for name, column in rows.token_labels.items() if name != task.name},
    }  # fmt: skip


def _class_counts(values: NDArray[np.signedinteger[Any]]) -> dict[str, int]:
    """Return how often each label but -1 occurs."""
    labels, counts = np.unique(values[values >= 0], return_counts=True)
    return {str(label): int(n) for label, n in zip(labels.tolist(), counts.tolist(), strict=True)}
