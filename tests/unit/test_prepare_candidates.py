"""Candidates are counted in pass 1, summed into a table, and rows of pass 2 keep to the number that it allows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tasks_helper as toy
from prepare_helper import bytes_of, run_prepare, sentence

from corpus_prep.tables import unpack_candidates
from ernie_core.data.shards import ShardSet
from ernie_core.manifest import read_manifest
from ernie_core.seeding import generator
from ernie_core.tasks.base import all_tasks

MARKERS = {"所以": 2, "但是": 3, "如果": 5, "而且": 6}
TASKS = {"knowledge_masking": {}, "discourse_relation": {"per_class": 60}}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty documents; every third sentence opens with a connective. Two documents are the same."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = []
    for number in range(60):
        rng = generator("candidates", number % 59)
        texts = [(list(MARKERS)[i % 4] + "，" if i % 3 == 2 else "") + sentence(rng) for i in range(24)]
        rows.append(json.dumps({"title": "题", "text": "".join(texts)}, ensure_ascii=False))
    (folder / "two.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "one.txt").write_text("".join(sentence(generator("other")) for _ in range(30)) + "\n")
    return folder


@pytest.fixture(scope="module")
def prepared(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "out"
    run_prepare(corpus, out, tasks=TASKS)
    return out


def test_the_table_holds_what_the_documents_that_stay_hold(prepared: Path) -> None:
    table = unpack_candidates((prepared / "tables" / "candidates.json").read_bytes())["discourse_relation"]
    by_class = {c: sum(n for (_, label, _), n in table.items() if label == c) for c in (0, *MARKERS.values())}
    assert {c: by_class[c] for c in MARKERS.values()} == dict.fromkeys(MARKERS.values(), 59 * 2)
    assert by_class[0] > 59 * 5
    assert {source for source, *_ in table} == {"one", "two"}


def test_rows_are_sampled_down_to_the_cap_over_all_splits(prepared: Path) -> None:
    facts = read_manifest(prepared, "prepare").facts["tasks"]["discourse_relation"]
    assert {int(c): n for c, n in facts["classes"].items() if int(c) in MARKERS.values()} == {c: pytest.approx(60, abs=25) for c in MARKERS.values()}
    assert facts["classes"]["0"] == pytest.approx(4 * 60 / 8, abs=25)
    assert facts["drops"]["over_cap"] > 100
    manifest = read_manifest(prepared, "prepare")
    for subset in ("train", "valid"):
        assert ShardSet.open(prepared, manifest, "discourse_relation", subset, "parquet").num_rows == facts[subset]["rows"] > 0


def test_the_same_bytes_again_and_other_options_do_pass_one_again(prepared: Path, corpus: Path, tmp_path: Path) -> None:
    run_prepare(corpus, tmp_path, tasks=TASKS)
    assert bytes_of(tmp_path) == bytes_of(prepared)
    said: list[str] = []
    run_prepare(corpus, tmp_path, said=said, tasks={**TASKS, "discourse_relation": {"per_class": 61}})
    assert [line.split(": ")[-1] for line in said if " pass 1 " in line] == ["8 settings changed"]


def test_without_a_sampling_task_the_table_is_empty(corpus: Path, tmp_path: Path) -> None:
    run_prepare(corpus, tmp_path, tasks={"knowledge_masking": {}})
    assert (tmp_path / "tables" / "candidates.json").read_bytes() == b"{}"
    assert not (tmp_path / "candidates").exists()
    assert toy.counted(all_tasks()["knowledge_masking"], toy.fixed_corpus(), {}) == {}
