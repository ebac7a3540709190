"""Golden stages: what the preparation makes of 82 small records (Chinese, English, mixed, nasty, and talks), stage by stage, as text.

A change here is a change of the data format: raise `DATA_FORMAT`, write the files anew with --update-golden, and read the difference.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prepare_helper import SETTINGS

from corpus_prep.commit import read_entry
from corpus_prep.flow import prepare
from corpus_prep.readable import readable
from corpus_prep.tables import SUBSETS, unpack
from ernie_core.data.shards import ShardSet
from ernie_core.manifest import read_manifest
from ernie_core.normalise import normalise
from ernie_core.schemas import ENTITY, Document, Sentence
from ernie_core.tasks.base import all_tasks
from ernie_core.vocab import Vocab

TEXTS = Path(__file__).parents[1] / "golden" / "texts" / "documents.jsonl"
TASKS = sorted(set(all_tasks()) - {"ir_relevance"})  # which needs more pages that speak of one thing; its golden rows are of other texts
Golden = Callable[[str, bytes], bool]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    changes = {
        "split_bytes": 1 << 20, "language": "mixed", "html_entities": True, "max_reject_fraction": 1.0, "phrases": 0.3, "vocab_size": 700, "max_seq_len": 48,
        "tasks": {name: {} for name in TASKS},
    }  # fmt: skip
    corpora = {
        "golden": {"reader": "jsonl", "path": str(TEXTS), "options": {"title": "title"}},
        "talks": {"reader": "dialogue", "path": str(TEXTS.with_name("talks.json")), "options": {"format": "json"}},
    }
    prepare(
        corpora=corpora, settings={**SETTINGS, **changes}, benchmarks_texts=[], folder=folder, workers=0, seed=7, say=lambda _line: None
    )  # fmt: skip
    return folder


def shown(sentence: Sentence) -> str:
    """Words split by |, entities in 【】; the original behind it where it differs."""
    words = [w.replace(" ", "␣") for w in sentence.words]
    for unit in sentence.units:
        assert unit.kind == ENTITY
        words[unit.start] = "【" + words[unit.start]
        words[unit.end - 1] += "】"
    text = "|".join(words)
    return text if sentence.original == sentence.text else f"{text}    <- {sentence.original}"


def documents(folder: Path) -> list[Document]:
    entries = [read_entry(folder, f"1-{number:05d}") for number in range(2)]
    return [Document.from_json(row) for entry in entries for row in unpack((folder / entry.file("documents").path).read_bytes())]


def as_bytes(lines: Iterator[str] | list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def test_documents_sentences_words_and_entities(prepared: Path, golden: Golden) -> None:
    def lines() -> Iterator[str]:
        for document in documents(prepared):
            yield f"# {'' if document.heading is None else shown(document.heading)}"
            for paragraph in document.paragraphs:
                yield from map(shown, paragraph)
                yield ""

    assert golden("stages/documents.txt", as_bytes(lines()))


def test_what_was_left_out(prepared: Path, golden: Golden) -> None:
    facts = read_manifest(prepared).facts["documents"]
    counts = [f"{name}: {facts[name]}" for name in ("read", "kept", "rejected", "duplicates", "empty", "filtered", "dropped_characters")]
    assert golden("stages/left_out.txt", as_bytes([*counts, *(f"rejected: byte {r['offset']}: {r['reason']}" for r in facts["rejects"])]))


def test_tables(prepared: Path, golden: Golden) -> None:
    tables = prepared / "tables"
    phrases: dict[str, dict[str, int]] = json.loads((tables / "phrases.json").read_bytes())
    candidates: dict[str, list[list[Any]]] = json.loads((tables / "candidates.json").read_bytes())
    lines = ["vocabulary", (tables / "vocab.txt").read_text(encoding="utf-8").replace("\n", " ").strip(), "", "phrases"]
    lines += [f"{one} {other} {strength}" for one, others in phrases.items() for other, strength in others.items()]
    lines += ["", "candidates", *(f"{task}: {row}" for task, rows in candidates.items() for row in rows)]
    lines += ["", "unknown", *(f"{name}: {found}" for name, found in read_manifest(prepared).facts["vocab"]["scripts"].items())]
    assert golden("stages/tables.txt", as_bytes(lines))


@pytest.mark.parametrize("task", TASKS)
def test_rows(prepared: Path, golden: Golden, task: str) -> None:
    vocab, manifest = Vocab.load(prepared / "tables" / "vocab.txt"), read_manifest(prepared)
    lines = []
    for subset in SUBSETS:
        if manifest.facts["tasks"][task][subset]["rows"]:
            shards = ShardSet.open(prepared, manifest, task, subset, "parquet")
            rows = [shards.read_group(group) for group in range(shards.num_groups)]
            lines += [f"{subset} {readable(group.sample(i), vocab, task)}" for group in rows for i in range(len(group))]
    lines += [f"dropped, {reason}: {n}" for reason, n in manifest.facts["tasks"][task]["drops"].items()]
    assert golden(f"stages/rows_{task}.txt", as_bytes(lines))


def test_sentences_join_back_to_the_normalised_paragraphs_of_the_file(prepared: Path) -> None:
    """Of records without entities and odd line ends, all text that is kept is the file's, once normalised."""
    kept = {d.title: ["".join(s.original for s in p) for p in d.paragraphs] for d in documents(prepared)}
    plain = 0
    for line in TEXTS.read_bytes().split(b"\n")[:67]:
        row = json.loads(line)
        if row["title"] in kept and "&" not in row["text"] and "\r" not in row["text"] and row["title"] not in ("", "广告", "早市"):
            expected = [text for part in row["text"].split("\n") if (text := normalise(part)[1])]
            assert kept[row["title"]] == expected
            plain += 1
    assert plain > 40
