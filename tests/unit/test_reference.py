"""The seed's own files: read and written back byte for byte, either way; lists and damaged files refused by name."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from rows_helper import same, toy_rows

from ernie_core.data.checks import check_rows
from ernie_core.data.reference import convert_shard_file, import_filelist, read_filelist, read_text_file
from ernie_core.data.shards import ShardSet
from ernie_core.data.text_format import encode_text
from ernie_core.errors import InputError, IntegrityError
from ernie_core.manifest import Manifest
from ernie_core.vocab import Vocab

LINE = b"1 5 2;0 0 0;0 1 2;-1 0 -1;1\n"
VOCAB = Vocab(("[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "a", "b"))


def unzipped(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


def filelist(folder: Path, *lines: str) -> Path:
    path = folder / "list"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(("name", "rows", "tokens", "positives"), [("train", 10_000, 953_318, 3_779), ("valid", 6_000, 571_123, 2_291)])
def test_the_published_samples_come_back_byte_for_byte(test_data: Path, tmp_path: Path, name: str, rows: int, tokens: int, positives: int) -> None:
    source = test_data / "ernie_reference" / f"demo_{name}_set.gz"
    vocab = Vocab.load(test_data / "ernie_reference" / "vocab_zh.txt")
    entries = import_filelist(filelist(tmp_path, f"{source}\t1.1"), tmp_path / "out", subset=name, task="next_sentence", vocab=vocab)
    text, parquet = (next(tmp_path / "out" / e.path for e in entries if e.facts["encoding"] == encoding) for encoding in ("text", "parquet"))
    assert unzipped(text) == unzipped(source)
    facts = entries[0].facts
    assert (facts["rows"], facts["tokens"], facts["dropped_long"], facts["mask_word_probability"]) == (rows, tokens, 0, 1.1)
    assert convert_shard_file(parquet, tmp_path / "back.gz") == []
    assert unzipped(tmp_path / "back.gz") == unzipped(source)
    shards = ShardSet.open(tmp_path / "out", Manifest("prepare", {}, {}, tuple(entries)), "next_sentence", name, "parquet")
    labels = 0
    for g in range(shards.num_groups):
        group = shards.read_group(g)
        check_rows(group, vocab_size=17_964, max_positions=513, sent_types=2, classes=2, where=shards.file_of(g))
        labels += int((group.labels == 1).sum())
    assert labels == positives


def test_rows_longer_than_the_limit_are_dropped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(LINE + b"1 5 6 2;0 0 0 0;0 1 2 3;-1 0 0 -1;0\n" + LINE))
    entries = import_filelist(filelist(tmp_path, "a.gz\t0.5"), tmp_path / "out", subset="train", task="next_sentence", vocab=VOCAB, max_seq_len=3)
    text = next(e for e in entries if e.facts["encoding"] == "text")
    assert unzipped(tmp_path / "out" / text.path) == LINE * 2
    assert (text.facts["dropped_long"], text.facts["rows"], text.facts["mask_word_probability"]) == (1, 2, 0.5)


def test_one_shard_a_file_in_the_order_of_the_list(tmp_path: Path) -> None:
    for name, count in (("a", 1), ("b", 2)):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(LINE * count))
    entries = import_filelist(filelist(tmp_path, "b.gz\t1.1", "", "a.gz\t0"), tmp_path / "out", subset="train", task="next_sentence", vocab=VOCAB)
    found = [(e.facts["shard"], e.facts["rows"], e.facts["mask_word_probability"]) for e in entries if e.facts["encoding"] == "text"]
    assert found == [("shards/next_sentence/train-00000", 2, 1.1), ("shards/next_sentence/train-00001", 1, 0.0)]


@pytest.mark.parametrize(
    ("line", "what"),
    [("a.gz", "not two columns"), ("a.gz\t1\t2", "not two columns"), ("a.gz\tx", "not a probability"), ("a.gz\tnan", "not a probability"), ("a.gz\t-1", "not a probability"), ("none.gz\t1", r"missing.*none\.gz")],
)  # fmt: skip
def test_a_malformed_file_list_is_refused_by_line(tmp_path: Path, line: str, what: str) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(LINE))
    with pytest.raises(InputError, match=what) as error:
        read_filelist(filelist(tmp_path, "a.gz\t1.1", line))
    assert error.value.code == "E-FILELIST"
    assert error.value.where.endswith("list line 2")


def test_an_empty_or_missing_file_list_is_refused(tmp_path: Path) -> None:
    for path in (filelist(tmp_path), tmp_path / "none"):
        with pytest.raises(InputError, match="E-FILELIST"):
            read_filelist(path)


def test_a_file_that_is_no_gzip_or_cut_off_is_refused_whole(tmp_path: Path) -> None:
    good = gzip.compress(LINE * 2000)
    for name, data in (("a.gz", good[:-5]), ("b.gz", LINE), ("c.gz", good[:40] + b"\xff" + good[41:]), ("d.txt", LINE)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=name) as error:
            read_text_file(tmp_path / name)
        assert error.value.code == "E-GZIP"


def test_a_bad_line_deep_in_a_file_is_named_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(LINE * 3000 + b"1 x\n" + LINE))
    with pytest.raises(InputError, match=r"a\.gz line 3001"):
        read_text_file(tmp_path / "a.gz")


def test_text_to_parquet_to_text_keeps_token_labels_byte_for_byte(tmp_path: Path) -> None:
    text = encode_text(toy_rows(30, names=("one", "two")))
    (tmp_path / "a.gz").write_bytes(gzip.compress(text))
    convert_shard_file(tmp_path / "a.gz", tmp_path / "a.parquet", token_labels=("one", "two"), group_rows=7)
    assert convert_shard_file(tmp_path / "a.parquet", tmp_path / "b.gz") == []
    assert unzipped(tmp_path / "b.gz") == text
    assert same(read_text_file(tmp_path / "b.gz", ("one", "two")), toy_rows(30, names=("one", "two")), units=False)


def test_other_endings_and_foreign_parquet_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(LINE))
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(InputError, match="E-CONVERT"):
        convert_shard_file(tmp_path / "a.gz", tmp_path / "b.gz")
    with pytest.raises(IntegrityError, match="E-SCHEMA"):
        convert_shard_file(tmp_path / "a.parquet", tmp_path / "b.gz")
