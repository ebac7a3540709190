"""`ernie shards`: what a person sees of shards, and what verification finds."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows_helper import toy_rows

from corpus_prep.readable import pieces, readable, seen, segments
from corpus_prep.shard_stats import histogram
from ernie_core.data.masking import MASK_UNITS, mask_rows
from ernie_core.data.parquet_format import encode_parquet
from ernie_core.data.rows import Rows
from ernie_core.data.shards import ShardSet, write_shard
from ernie_core.data.text_format import encode_text
from ernie_core.manifest import read_manifest, write_manifest
from ernie_core.schemas import ENTITY, PHRASE, Sample
from ernie_core.vocab import SPECIAL_TOKENS, Vocab
from jobs.cli import main

# The seed's example, 哈尔滨是黑龙江的省会，国际冰雪文化名城。, with two entities and a phrase of two words.
EXAMPLE = (
    ("哈尔滨", ENTITY),
    ("是", 0),
    ("黑龙江", ENTITY),
    ("的", 0),
    ("省会", 0),
    ("，", 0),
    ("国际|冰雪", PHRASE),
    ("文化", 0),
    ("名城", 0),
    ("。", 0),
)


def example() -> tuple[Rows, Vocab]:
    vocab = Vocab((*SPECIAL_TOKENS, *sorted({c for text, _ in EXAMPLE for c in text if c != "|"})))
    sample = Sample([vocab.cls_id], [0], [], [-1], [-1], [-1], -1)
    for text, kind in EXAMPLE:
        for number, word in enumerate(text.split("|")):
            sample.token_ids += [vocab.ids[c] for c in word]
            sample.seg_labels += [0] + [1] * (len(word) - 1)
            sample.unit_labels += [int(number > 0)] + [1] * (len(word) - 1)
            sample.unit_kind += [kind] * len(word)
    for column, value in ((sample.token_ids, vocab.sep_id), (sample.seg_labels, -1), (sample.unit_labels, -1), (sample.unit_kind, -1)):
        column.append(value)
    sample.position_ids = list(range(len(sample.token_ids)))
    sample.sentence_type_ids = [0] * len(sample.token_ids)
    return Rows.from_samples([sample]), vocab


def test_a_row_reads_as_words_and_units() -> None:
    rows, vocab = example()
    assert readable(rows.sample(0), vocab, "knowledge_masking") == "-1: [CLS] 【哈尔滨】 是 【黑龙江】 的 省会 ， 〈国际 冰雪〉 文化 名城 。 [SEP]"


@pytest.mark.parametrize("unit", MASK_UNITS)
def test_masks_of_the_seeds_example_are_whole_units_of_each_kind(unit: str) -> None:
    rows, vocab = example()
    sample = rows.sample(0)
    words = [(a, b) for a, b in pairwise([i for i, s in enumerate(sample.seg_labels) if s != 1])]  # specials too, which are never hidden
    units = [(p.start, p.end) for p in pieces(sample, vocab, "")]
    phrases = [(p.start, p.end) for p in pieces(sample, vocab, "") if p.kind == PHRASE]
    inside = [(a, b) for a, b in words if not any(c <= a < d for c, d in phrases)]
    allowed = {"basic": [(i, i + 1) for i in range(len(sample.token_ids))], "word": words, "phrase": phrases + inside, "entity": units}[unit]
    hidden: set[tuple[int, int]] = set()
    for epoch in range(200):
        masked = mask_rows(rows, unit=unit, seed=7, epoch=epoch, vocab_size=vocab.size, num_special=vocab.num_leading_specials, mask_id=vocab.mask_id)
        targets = set(masked.targets.tolist())
        whole = [(a, b) for a, b in allowed if set(range(a, b)) <= targets]
        assert set().union(*(range(a, b) for a, b in whole)) == targets
        hidden |= set(whole)
        for piece in pieces(sample, vocab, ""):
            text, is_target = seen(sample, masked, piece, vocab)
            assert is_target == bool(targets & set(range(piece.start, piece.end)))
            assert is_target or text == piece.text
    assert hidden == {(a, b) for a, b in allowed if sample.seg_labels[a] >= 0}


def test_what_the_model_sees_names_random_and_kept_tokens() -> None:
    rows, vocab = example()
    sample, (city, *_) = rows.sample(0), pieces(rows.sample(0), vocab, "")[1:]
    masked = mask_rows(rows, unit="entity", seed=7, epoch=0, vocab_size=vocab.size, num_special=5, mask_id=vocab.mask_id, probability=0.999)
    mixed = replace(masked, token_ids=masked.token_ids.copy())
    mixed.token_ids[city.start : city.end] = vocab.mask_id, vocab.ids["会"], vocab.ids["滨"]
    assert seen(sample, mixed, city, vocab) == ("[MASK]会~滨=", True)


def test_segments_end_with_their_separator() -> None:
    rows, vocab = example()
    sample = rows.sample(0)
    sample.token_ids[5], sample.seg_labels[5] = vocab.sep_id, -1
    sample.sentence_type_ids = [0] * 6 + [1] * (len(sample.token_ids) - 6)
    found = [(kind, [p.text for p in parts]) for kind, parts in segments(pieces(sample, vocab, ""), sample)]
    assert [kind for kind, _ in found] == [0, 1]
    assert found[0][1][0] == "[CLS]"
    assert found[0][1][-1] == found[1][1][-1] == "[SEP]"
    assert sum(len(parts) for _, parts in found) == len(pieces(sample, vocab, ""))


def test_show_prints_the_row_that_is_asked_for(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shards", "show", str(whole), "--task", "next_sentence", "--row", "1", "--subset", "valid"]) == 0
    text = capsys.readouterr().out
    manifest = read_manifest(whole)
    shards = ShardSet.open(whole, manifest, "next_sentence", "valid", "parquet")
    sizes = [len(lengths) for lengths in shards.group_lengths]
    group = next(i for i in range(len(sizes)) if sum(sizes[: i + 1]) > 1)
    sample = shards.read_group(group).sample(1 - sum(sizes[:group]))
    tokens = Vocab.load(whole / "tables" / "vocab.txt").tokens
    meaning = ("not next", "next")[sample.label]
    assert (
        f"next_sentence, valid row 1 of {sum(sizes)} ({shards.file_of(group)}), {len(sample.token_ids)} tokens, label {sample.label} = {meaning}"
        in text
    )
    lines = text.split(" tokens, label ")[1].split("\n")[1:3]
    shown = "".join(line.strip().split(" ", 1)[1] for line in lines).replace(" ", "")
    assert re.sub("[【】〈〉]", "", shown) == "".join(tokens[i].removeprefix("##") for i in sample.token_ids)


def test_show_as_training_reads_hides_something_and_permutes(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shards", "show", str(whole), "--task", "knowledge_masking", "--rows", "8", "--mask", "word"]) == 0
    assert "[MASK]" in capsys.readouterr().out.split("behind it.\n", 1)[1]


@pytest.mark.parametrize(
    ("argv", "message", "status"),
    [
        (["--task", "next_sentense"], "E-NAME there are no shards of task 'next_sentense'; expected one of next_sentence", 3),
        (["--task", "next_sentence", "--row", "100000"], "E-ROW task next_sentence has no such row; expected 0 to ", 3),
        (["--mask", "wrd"], "E-NAME unknown mask_unit 'wrd'; expected one of word", 2),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named(whole: Path, argv: list[str], message: str, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shards", "show", str(whole), *argv]) == status
    assert message in capsys.readouterr().err


def test_stats_are_those_of_the_manifest(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shards", "stats", str(whole)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    facts = read_manifest(whole).facts["tasks"]
    expected = [
        [name, subset, *(f"{facts[name][subset][k]:,}" for k in ("rows", "tokens"))] for name in sorted(facts) for subset in ("train", "valid")
    ]
    assert [line[:4] for line in lines] == expected
    assert main(["shards", "stats", str(whole), "--task", "next_sentence"]) == 0
    by_shard = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert sum(int(line[2].replace(",", "")) for line in by_shard) == sum(facts["next_sentence"][s]["rows"] for s in ("train", "valid"))


def test_histogram_counts_lengths() -> None:
    assert histogram(np.array([8, 16, 16]), 16) == "       ▄       █"


def test_the_card_is_printed_as_it_was_made(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shards", "card", str(whole / "manifest.json")]) == 0
    assert capsys.readouterr().out == (whole / "card.md").read_text(encoding="utf-8")


def test_verify_passes_what_was_prepared(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shards", "verify", str(whole)]) == 0
    facts = read_manifest(whole).facts["tasks"]
    rows = sum(f[subset]["rows"] for f in facts.values() for subset in ("train", "valid"))
    assert f" {rows:,} rows, " in capsys.readouterr().out


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "copy")
    return tmp_path / "copy"


def rewritten(folder: Path, change: Any, encodings: tuple[str, ...] = ("parquet", "text")) -> str:
    """Write the first shard of next sentence anew, its rows changed, under hashes that fit, and return its name."""
    manifest = read_manifest(folder)
    entry = next(f for f in manifest.files if f.facts.get("task") == "next_sentence" and f.facts["encoding"] == "parquet")
    shards = ShardSet.open(folder, manifest, "next_sentence", entry.facts["subset"], "parquet")
    rows = Rows.concat([shards.read_group(g) for g in range(shards.num_groups) if shards.shard_of(g) == entry.facts["shard"]])
    name, subset = entry.facts["shard"], entry.facts["subset"]
    made = {e.path: e for e in write_shard(folder, name, change(rows), task="next_sentence", subset=subset, group_rows=64, encodings=encodings)}
    files = tuple(made.get(f.path, f) for f in manifest.files)
    write_manifest(folder, replace(manifest, files=files))
    return str(name)


def test_verify_names_a_damaged_file(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    victim = next(copied.glob("shards/next_sentence/*.parquet"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(bytes(data))
    assert main(["shards", "verify", str(copied)]) == 4
    error = capsys.readouterr().err
    assert error.startswith("error: E-SHARD-HASH")
    assert str(victim) in error


def bad_seg(rows: Rows) -> Rows:
    seg = rows.seg_labels.copy()
    seg[int(rows.offsets[2]) + 3] = -1
    return replace(rows, seg_labels=seg)


def split_word(rows: Rows) -> Rows:
    assert rows.unit_labels is not None
    unit, inside = rows.unit_labels.copy(), np.flatnonzero(rows.seg_labels == 1)
    unit[inside[0]] = 0
    return replace(rows, unit_labels=unit)


def late_positions(rows: Rows) -> Rows:
    return replace(rows, position_ids=rows.position_ids + np.int16(1))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (bad_seg, "row 2 position 3; expected seg label is -1 exactly at [CLS] and [SEP]"),
        (split_word, "expected a unit begins where a word begins"),
        (late_positions, "row 0 position 0; expected positions count the tokens from 0"),
    ],
)
def test_verify_names_a_row_that_breaks_the_contract(copied: Path, change: Any, rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = rewritten(copied, change)
    assert main(["shards", "verify", str(copied)]) == 4
    error = capsys.readouterr().err
    assert "E-CONTRACT" in error
    assert name in error
    assert rule in error


def test_verify_names_encodings_that_differ(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = rewritten(copied, lambda rows: replace(rows, labels=1 - rows.labels), encodings=("text",))
    assert main(["shards", "verify", str(copied)]) == 4
    error = capsys.readouterr().err
    assert "E-ENCODINGS-DIFFER the two encodings differ in labels" in error
    assert name in error


def rows_by_the_seeds_text(path: Path) -> Iterator[tuple[list[list[int]], int]]:
    """Read a text shard by nothing but what the seed says: five fields by ';', integers by spaces, one label."""
    with gzip.open(path, "rt", encoding="ascii") as file:
        for line in file:
            *fields, label = line.rstrip("\n").split(";")
            columns = [[int(number) for number in field.split(" ")] for field in fields]
            assert len(columns) == 4
            assert len({len(column) for column in columns}) == 1
            yield columns, int(label)


def test_a_reader_made_from_the_seeds_text_alone_reads_the_shards(whole: Path) -> None:
    files = json.loads((whole / "manifest.json").read_bytes())["files"]
    words = (whole / "tables" / "vocab.txt").read_text(encoding="utf-8").split("\n")
    ids = {line.split("\t")[0]: number for number, line in enumerate(words)}
    checked = 0
    for file in files:
        if not file["path"].startswith("shards/next_sentence/") or not file["path"].endswith(".txt.gz"):
            continue
        rows = list(rows_by_the_seeds_text(whole / file["path"]))
        assert len(rows) == file["facts"]["rows"]
        for (tokens, types, positions, seg), label in rows:
            assert label in (0, 1)
            assert [s == -1 for s in seg] == [t in (ids["[CLS]"], ids["[SEP]"]) for t in tokens]
            assert set(seg) <= {-1, 0, 1}
            assert positions == list(range(len(tokens)))
            first = tokens.index(ids["[SEP]"]) + 1
            assert types == [0] * first + [1] * (len(tokens) - first)
            checked += 1
    assert checked > 50


def test_convert_says_what_text_cannot_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = toy_rows(10, names=("one",))
    (tmp_path / "a.parquet").write_bytes(encode_parquet(rows, 4, {}))
    assert main(["shards", "convert", str(tmp_path / "a.parquet"), str(tmp_path / "b.gz")]) == 0
    assert gzip.decompress((tmp_path / "b.gz").read_bytes()) == encode_text(rows)
    assert "unit_labels, unit_kind" in capsys.readouterr().err


def test_convert_reads_token_labels_named_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(encode_text(toy_rows(10, names=("one",)))))
    assert main(["shards", "convert", str(tmp_path / "a.gz"), str(tmp_path / "b.parquet"), "--token-label", "one"]) == 0
    assert main(["shards", "convert", str(tmp_path / "b.parquet"), str(tmp_path / "c.gz")]) == 0
    assert gzip.decompress((tmp_path / "c.gz").read_bytes()) == gzip.decompress((tmp_path / "a.gz").read_bytes())
