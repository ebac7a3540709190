"""What Baidu's own reader makes of exported shards. The reader below is written from its description alone (ernie.md 1.1 to 1.5, 2.1; the seed's format), and imports nothing of ours."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pytest
from prepare_helper import SETTINGS, document, sentence

TASKS = (
    "capitalization", "dialogue", "discourse_relation", "ir_relevance", "knowledge_masking", "next_sentence", "sentence_distance", "sentence_reordering",
    "token_document",
)  # fmt: skip
TEXTS = Path(__file__).parents[1] / "golden" / "texts"


@dataclass(frozen=True)
class Line:
    """A sample as the reader holds it."""

    token_ids: list[int]
    sent_ids: list[int]
    pos_ids: list[int]
    seg_labels: list[int]
    label: int


def baidu_vocab(path: Path) -> dict[str, int]:
    """One column: the id is the line's number; two: the second is; the loader stops at the first line of more."""
    ids: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1]):
        columns = line.split("\t")
        if len(columns) > 2:
            break
        ids[columns[0]] = int(columns[1]) if len(columns) == 2 else number
    return ids


def baidu_filelist(path: Path) -> list[tuple[str, float]]:
    files = []
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        name, probability = line.split("\t")
        files.append((name, float(probability)))
    return files


def baidu_samples(name: str, max_seq_len: int) -> Iterator[Line]:
    """A file: five fields a line, four lists of one length; longer lines are passed over in silence."""
    assert name.endswith(".gz"), f"{name} is no .gz"
    with gzip.open(name) as file:
        for raw in file:
            fields = raw.decode("utf-8").rstrip("\n").split(";")
            assert len(fields) == 5, f"{len(fields)} fields"
            lists = [[int(value) for value in field.split(" ")] for field in fields[:4]]
            assert len({len(one) for one in lists}) == 1, "lists of several lengths"
            if len(lists[0]) <= max_seq_len:
                yield Line(*lists, int(fields[4]))


def baidu_batches(lines: Iterator[Line], batch_size: int) -> Iterator[list[Line]]:
    """A line joins while (count + 1) x the longest so far stays within the budget; the last batch is emitted too."""
    batch: list[Line] = []
    longest = 0
    for line in lines:
        longest = max(longest, len(line.token_ids))
        if batch and (len(batch) + 1) * longest > batch_size:
            yield batch
            batch, longest = [], len(line.token_ids)
        batch.append(line)
    if batch:
        yield batch


def baidu_words(line: Line) -> list[tuple[int, int]]:
    """What word masking hides: from a seg 0, with the 1s behind it."""
    words, start = [], -1
    for i, seg in enumerate([*line.seg_labels, -1]):
        if seg != 1:
            if start >= 0:
                words.append((start, i))
            start = i if seg == 0 else -1
    return words


def check_line(line: Line, vocab: dict[str, int], *, roles: bool) -> int:
    """Hold a line against what the seed says of the fields and what all of Baidu's demo rows show; return its segments."""
    cls, sep = vocab["[CLS]"], vocab["[SEP]"]
    special = [token in {cls, sep} for token in line.token_ids]
    assert all(0 < token < len(vocab) for token in line.token_ids)
    assert vocab["[MASK]"] not in line.token_ids
    assert line.token_ids[0] == cls
    assert line.token_ids[-1] == sep
    assert line.token_ids.count(cls) == 1
    assert line.pos_ids == list(range(len(line.token_ids)))
    assert set(line.seg_labels) <= {-1, 0, 1}
    assert [seg == -1 for seg in line.seg_labels] == special
    covered = {i for start, end in baidu_words(line) for i in range(start, end)}
    assert covered == {i for i, is_special in enumerate(special) if not is_special}, "a token that belongs to no word would never be masked"
    types, now = [], 0
    for token in line.token_ids:
        types.append(now)
        now += token == sep
    if roles:  # of who speaks, one a segment
        assert all(len({line.sent_ids[i] for i, t in enumerate(types) if t == segment}) == 1 for segment in range(now))
        assert set(line.sent_ids) <= {0, 1}
    else:
        assert line.sent_ids == types
    return now


def made_pages() -> str:
    """Pages of made-up sentences under titles of their words, for queries; a few with their cue words in Chinese."""
    from ernie_core.seeding import generator

    rows = [{"title": sentence(generator("title", i))[:-1], "text": document(i, 6)} for i in range(60)]
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every task's rows of small texts, in either encoding, exported from the folder they lie in."""
    from corpus_prep.flow import prepare
    from jobs.cli import main

    folder = tmp_path_factory.mktemp("baidu")
    (folder / "pages.jsonl").write_text(made_pages(), encoding="utf-8")
    tasks: dict[str, dict[str, int]] = {name: {} for name in TASKS} | {"sentence_reordering": {"max_segments": 4}}
    changes = {
        "split_bytes": 1 << 20, "language": "mixed", "max_reject_fraction": 1.0, "vocab_size": 900, "tasks": tasks, "exclude_benchmarks": False,
        "carry": ["capitalization", "token_document"],
    }  # fmt: skip
    corpora = {
        "golden": {"reader": "jsonl", "path": str(TEXTS / "documents.jsonl"), "options": {"title": "title"}},
        "pages": {"reader": "jsonl", "path": str(folder / "pages.jsonl"), "options": {"title": "title"}},
        "talks": {"reader": "dialogue", "path": str(TEXTS / "talks.json"), "options": {"format": "json"}},
    }
    prepare(
        corpora=corpora, settings={**SETTINGS, **changes}, benchmarks_texts=[], folder=folder / "prepare", workers=0, seed=7, say=lambda _line: None
    )
    assert main(["shards", "export", str(folder), str(folder / "out"), "--mask-word-probability", "0.5"]) == 0
    return folder


@pytest.mark.parametrize("task", TASKS)
def test_baidus_reader_takes_every_exported_row(exported: Path, task: str) -> None:
    vocab = baidu_vocab(exported / "out" / "vocab.txt")
    assert list(vocab.values()) == list(range(len(vocab)))
    facts = json.loads((exported / "prepare" / "manifest.json").read_bytes())["facts"]["tasks"][task]
    for subset in ("train", "valid"):
        files = baidu_filelist(exported / "out" / task / f"{subset}_filelist")
        assert {probability for _, probability in files} <= {0.5}
        lines = [line for name, _ in files for line in baidu_samples(name, 128)]
        assert len(lines) == facts[subset]["rows"], "none is longer than the limit, and none is missing"
        segments = {check_line(line, vocab, roles=task == "dialogue") for line in lines}
        assert segments <= {
            "knowledge_masking": {1}, "capitalization": {1}, "token_document": {1}, "dialogue": {3}, "sentence_reordering": {2, 3, 4},
        }.get(task, {2})  # fmt: skip
        labels = {str(line.label) for line in lines}
        assert labels == (
            set(facts[subset]["classes"]) if task not in {"knowledge_masking", "capitalization", "token_document"} or not lines else {"-1"}
        )
        batches = list(baidu_batches(iter(lines), 2048))
        assert sum(map(len, batches)) == len(lines)
        assert all(len(batch) * max(len(line.token_ids) for line in batch) <= 2048 for batch in batches)


def test_rows_come_back_from_the_export_as_they_were(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ernie_core.data.reference import import_filelist
    from ernie_core.data.shards import ShardSet
    from ernie_core.manifest import Manifest, read_manifest
    from ernie_core.vocab import Vocab

    vocab = Vocab.load(exported / "out" / "vocab.txt")
    for task, options in (("next_sentence", {}), ("sentence_reordering", {"max_segments": 4})):
        entries = import_filelist(
            exported / "out" / task / "train_filelist", exported / "back", subset="train", task=task, vocab=vocab, options=options
        )  # fmt: skip
        ours = ShardSet.open(exported / "prepare", read_manifest(exported / "prepare"), task, "train", "text")
        theirs = ShardSet.open(exported / "back", Manifest("prepare", {}, {}, tuple(entries)), task, "train", "text")
        assert ours.num_rows == theirs.num_rows > 0
        for column in ("token_ids", "sentence_type_ids", "position_ids", "seg_labels", "labels"):
            held = [[getattr(shards.read_group(g), column).tolist() for g in range(shards.num_groups)] for shards in (ours, theirs)]
            assert list(chain.from_iterable(held[0])) == list(chain.from_iterable(held[1]))


def test_the_reader_above_takes_baidus_own_rows_and_refuses_what_theirs_refuses(test_data: Path, tmp_path: Path) -> None:
    reference = test_data / "ernie_reference"
    vocab = baidu_vocab(reference / "vocab_zh.txt")
    lines = list(baidu_samples(str(reference / "demo_valid_set.gz"), 512))
    assert len(lines) == 6000
    assert {check_line(line, vocab, roles=False) for line in lines} == {2}
    for bad in ("1 5 2;0 0 0;0 1 2;-1 0 -1", "1 5 2;0 0 0;0 1 2;-1 0 -1;0;1", "1 5 2;0 0;0 1 2;-1 0 -1;1", "1 5 x;0 0 0;0 1 2;-1 0 -1;1"):
        (tmp_path / "bad.gz").write_bytes(gzip.compress(f"{bad}\n".encode()))
        with pytest.raises((AssertionError, ValueError)):
            list(baidu_samples(str(tmp_path / "bad.gz"), 512))
    with pytest.raises(AssertionError):
        list(baidu_samples(str(tmp_path / "bad.txt"), 512))


def test_the_mask_word_probability_is_no_less_than_nought(capsys: pytest.CaptureFixture[str]) -> None:
    from jobs.cli import main

    with pytest.raises(SystemExit):
        main(["shards", "export", "runs/x", "out", "--mask-word-probability", "-1"])
    assert "above 1 means always words" in capsys.readouterr().err
