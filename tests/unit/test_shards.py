"""Shards: equal rows from either encoding, equal bytes each time, and no damaged byte used."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rows_helper import same, toy_rows

from ernie_core.data.parquet_format import decode_group
from ernie_core.data.rows import Rows
from ernie_core.data.shards import ENCODINGS, ShardSet, sample_ids, write_shard
from ernie_core.data.text_format import encode_text
from ernie_core.errors import InputError, IntegrityError
from ernie_core.manifest import FileEntry, Manifest, file_sha256, write_manifest
from ernie_core.schemas import Sample

TASK = "token_document"
NAMES = (TASK,)


def write(folder: Path, *parts: Rows, subset: str = "train") -> Manifest:
    entries: list[FileEntry] = []
    for number, rows in enumerate(parts):
        name = f"shards/{TASK}/{subset}-{number:05d}"
        entries += write_shard(
            folder, name, rows, task=TASK, subset=subset, group_rows=8, encodings=ENCODINGS, extra_facts={"mask_word_probability": 0.5}
        )
    return write_manifest(folder, Manifest("prepare", {}, {}, tuple(entries)))


def read_all(folder: Path, manifest: Manifest, encoding: str) -> Rows:
    shards = ShardSet.open(folder, manifest, TASK, "train", encoding)
    return Rows.concat([shards.read_group(g) for g in range(shards.num_groups)])


def rehashed(folder: Path, manifest: Manifest) -> Manifest:
    """Return the manifest as if the files on disk had been meant."""
    files = [FileEntry(e.path, (folder / e.path).stat().st_size, file_sha256(folder / e.path), e.facts) for e in manifest.files]
    return Manifest(manifest.step, {}, {}, tuple(files))


def path_of(folder: Path, manifest: Manifest, encoding: str) -> Path:
    return next(folder / e.path for e in manifest.files if e.facts["encoding"] == encoding)


@pytest.mark.parametrize("sizes", [(20, 5), (8,), (1, 16), (0, 3)])
def test_either_encoding_gives_the_rows_and_sample_ids_back(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    parts = [toy_rows(n, seed=i, names=NAMES) for i, n in enumerate(sizes)]
    manifest = write(tmp_path, *parts)
    parquet, text = (read_all(tmp_path, manifest, encoding) for encoding in ("parquet", "text"))
    assert same(parquet, Rows.concat(parts))
    assert same(text, Rows.concat(parts), units=False)
    assert text.unit_labels is None
    expected = np.concatenate([sample_ids(p.content_sha256(), TASK, len(p)) for p in parts])
    assert np.array_equal(parquet.sample_ids, expected)
    assert np.array_equal(text.sample_ids, expected)
    assert len(np.unique(expected)) == len(expected)


def test_two_writings_give_equal_bytes_whatever_the_sample_ids(tmp_path: Path) -> None:
    rows = toy_rows(20, names=NAMES)
    one = write(tmp_path / "one", rows)
    two = write(tmp_path / "two", rows.with_sample_ids(np.arange(20, dtype=np.uint64)))
    assert one.sha256 == two.sha256
    assert len({e.sha256 for e in one.files}) == 3


def test_entries_and_sample_ids_never_change(tmp_path: Path, golden: Callable[[str, bytes], bool]) -> None:
    sample = Sample(
        [1, 5, 6, 7, 8, 2],
        [0] * 6,
        list(range(6)),
        [-1, 0, 1, 1, 0, -1],
        [-1, 0, 1, 1, 0, -1],
        [-1, 2, 2, 2, 0, -1],
        -1,
        {TASK: [-1, 1, 1, 1, 0, -1]},
    )
    entries = write_shard(tmp_path, "x", Rows.from_samples([sample, sample], NAMES), task=TASK, subset="train", group_rows=1, encodings=ENCODINGS)
    facts = [{**e.facts, "path": e.path, "group_bytes": len(e.facts.get("group_bytes", []))} for e in entries]
    ids = [f"{i:016x}" for i in sample_ids(entries[0].facts["content_sha256"], TASK, 2).tolist()]
    assert golden("shard_entries.json", json.dumps({"entries": facts, "sample_ids": ids}, indent=1, sort_keys=True).encode() + b"\n")


def test_the_text_file_is_plain_gzip_of_the_seeds_lines(tmp_path: Path) -> None:
    rows = toy_rows(20, names=NAMES)
    path = path_of(tmp_path, write(tmp_path, rows), "text")
    assert gzip.decompress(path.read_bytes()) == encode_text(rows)
    assert path.read_bytes()[4:8] == b"\0\0\0\0"


def test_lengths_are_known_before_a_shard_is_read(tmp_path: Path) -> None:
    parts = [toy_rows(n, seed=n, names=NAMES) for n in (20, 5)]
    manifest = write(tmp_path, *parts)
    for encoding in ENCODINGS:
        path_of(tmp_path, manifest, encoding).unlink()
        shards = ShardSet.open(tmp_path, manifest, TASK, "train", encoding)
        assert [len(g) for g in shards.group_lengths] == [8, 8, 4, 5]
        assert np.concatenate(shards.group_lengths).tolist() == Rows.concat(parts).lengths.tolist()
        assert (shards.num_groups, shards.num_rows, shards.token_label_names) == (4, 25, NAMES)
        assert shards.mask_word_probability(3) == 0.5
        assert shards.file_of(3).startswith(f"shards/{TASK}/train-00001")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_gather_returns_the_wanted_rows_in_the_wanted_order(tmp_path: Path, encoding: str) -> None:
    manifest = write(tmp_path, *(toy_rows(n, seed=n, names=NAMES) for n in (20, 5)))
    shards = ShardSet.open(tmp_path, manifest, TASK, "train", encoding)
    everything = read_all(tmp_path, manifest, encoding)
    rng = np.random.default_rng(3)
    groups = rng.integers(0, 4, 40)
    rows = rng.integers(0, np.array([8, 8, 4, 5])[groups])
    got = shards.gather(groups, rows)
    expected = everything.take(np.array([0, 8, 16, 20])[groups] + rows)
    assert same(got, expected, units=encoding == "parquet")
    assert np.array_equal(got.sample_ids, expected.sample_ids)


def test_the_cache_keeps_the_groups_used_last_within_its_bound(tmp_path: Path) -> None:
    shards = ShardSet.open(tmp_path, write(tmp_path, toy_rows(40, names=NAMES)), TASK, "train", "parquet", cache_bytes=4000)
    for g in (0, 1, 0, 2):
        shards.read_group(g)
    assert list(shards._cache) == [0, 2]


@pytest.mark.parametrize("encoding", ["parquet", "text", "lengths"])
def test_every_flipped_bit_is_detected_before_a_row_is_used(tmp_path: Path, encoding: str) -> None:
    manifest = write(tmp_path, toy_rows(20, names=NAMES))
    path = path_of(tmp_path, manifest, encoding)
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    codes = set()
    for bit in rng.choice(len(good) * 8, 300, replace=False).tolist():
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        with pytest.raises(IntegrityError) as error:
            read_all(tmp_path, manifest, "parquet" if encoding == "lengths" else encoding)
        codes.add(error.value.code)
    assert codes == {"E-SHARD-HASH"}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_truncation_is_detected(tmp_path: Path, encoding: str) -> None:
    manifest = write(tmp_path, toy_rows(20, names=NAMES))
    path = path_of(tmp_path, manifest, encoding)
    good = path.read_bytes()
    for cut in np.linspace(0, len(good) - 1, 20).astype(int):
        path.write_bytes(good[:cut])
        with pytest.raises(IntegrityError, match=f"{len(good)} bytes.*{cut} bytes"):
            read_all(tmp_path, manifest, encoding)


def test_two_shards_swapped_by_name_are_detected(tmp_path: Path) -> None:
    manifest = write(tmp_path, toy_rows(20, seed=1, names=NAMES), toy_rows(20, seed=2, names=NAMES))
    one, two = (tmp_path / f"shards/{TASK}/train-0000{i}.parquet" for i in (0, 1))
    one.rename(tmp_path / "x")
    two.rename(one)
    (tmp_path / "x").rename(two)
    with pytest.raises(IntegrityError, match="E-SHARD-HASH") as e:
        read_all(tmp_path, manifest, "parquet")
    assert str(one) in e.value.where
    assert "which is shards/token_document/train-00001.parquet under another name" in e.value.found


def test_a_deleted_shard_is_named_and_an_added_one_is_not_read(tmp_path: Path) -> None:
    manifest = write(tmp_path, toy_rows(5, names=NAMES))
    path = path_of(tmp_path, manifest, "parquet")
    (path.parent / "train-00009.parquet").write_bytes(path.read_bytes())
    assert len(read_all(tmp_path, manifest, "parquet")) == 5
    path.unlink()
    with pytest.raises(IntegrityError, match=r"E-SHARD-MISSING.*train-00000\.parquet"):
        read_all(tmp_path, manifest, "parquet")


def test_a_damaged_page_is_detected_even_under_a_fresh_hash(tmp_path: Path) -> None:
    manifest = write(tmp_path, toy_rows(40, names=NAMES))
    path = path_of(tmp_path, manifest, "parquet")
    data = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(IntegrityError) as error:
        read_all(tmp_path, rehashed(tmp_path, manifest), "parquet")
    assert error.value.code == "E-SHARD-PAGE"
    assert "row group 0" in error.value.where


@pytest.mark.parametrize("encoding", ["parquet", "text", "lengths"])
def test_changed_bytes_under_a_fresh_hash_never_end_in_a_foreign_error(tmp_path: Path, encoding: str) -> None:
    manifest = write(tmp_path, toy_rows(20, names=NAMES))
    path = path_of(tmp_path, manifest, encoding)
    good = path.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(60):
        bad = bytearray(good)
        bad[int(rng.integers(len(bad)))] = int(rng.integers(256))
        path.write_bytes(bad)
        try:
            read_all(tmp_path, rehashed(tmp_path, manifest), "parquet" if encoding == "lengths" else encoding)
        except (InputError, IntegrityError):
            refused += 1
    assert refused > 40


def drop(table: pa.Table) -> pa.Table:
    return table.drop_columns(["seg_labels"])


def rename(table: pa.Table) -> pa.Table:
    return table.rename_columns(["ids", *table.column_names[1:]])


def widen(table: pa.Table) -> pa.Table:
    return table.set_column(0, "token_ids", table["token_ids"].cast(pa.list_(pa.int64())))


def stringify(table: pa.Table) -> pa.Table:
    return table.set_column(0, "token_ids", pa.array(["1 2"] * table.num_rows))


def with_null(table: pa.Table) -> pa.Table:
    return table.set_column(table.column_names.index("label"), "label", pa.array([None] * table.num_rows, pa.int32()))


def add(table: pa.Table) -> pa.Table:
    return table.append_column("more", pa.array([1] * table.num_rows))


@pytest.mark.parametrize(
    ("change", "column"),
    [
        (drop, "seg_labels: expected"),
        (rename, "ids: expected nothing"),
        (widen, "found list<int64"),
        (stringify, "found string"),
        (with_null, "label: expected int32"),
        (add, "more: expected nothing"),
    ],
    ids=["dropped", "renamed", "widened", "string", "null", "added"],
)
def test_schema_drift_is_refused_column_by_column(tmp_path: Path, change: Callable[[pa.Table], pa.Table], column: str) -> None:
    manifest = write(tmp_path, toy_rows(5, names=NAMES))
    path = path_of(tmp_path, manifest, "parquet")
    pq.write_table(change(pq.read_table(path)), path)
    with pytest.raises(IntegrityError) as error:
        read_all(tmp_path, rehashed(tmp_path, manifest), "parquet")
    assert error.value.code == "E-SCHEMA"
    assert column in error.value.found


def test_a_lengths_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    manifest = write(tmp_path, toy_rows(5, names=NAMES))
    path = path_of(tmp_path, manifest, "lengths")
    np.save(path, np.full(5, 4, np.uint16))
    with pytest.raises(IntegrityError, match="E-SHARD-LENGTHS"):
        read_all(tmp_path, rehashed(tmp_path, manifest), "parquet")
    np.save(path, np.full(6, 4, np.uint16))
    with pytest.raises(IntegrityError, match="E-SHARD-LENGTHS"):
        read_all(tmp_path, rehashed(tmp_path, manifest), "parquet")


def test_an_unknown_task_a_missing_encoding_and_an_empty_subset_are_told_apart(tmp_path: Path) -> None:
    entries = write_shard(tmp_path, "a", toy_rows(5), task="next_sentence", subset="train", group_rows=8, encodings=["parquet"])
    manifest = write_manifest(tmp_path, Manifest("prepare", {}, {}, tuple(entries)))
    with pytest.raises(InputError, match=r"E-TASK-EMPTY.*next_sentence"):
        ShardSet.open(tmp_path, manifest, "next_sentense", "train", "parquet")
    with pytest.raises(InputError, match=r"E-ENCODING.*parquet"):
        ShardSet.open(tmp_path, manifest, "next_sentence", "train", "text")
    assert ShardSet.open(tmp_path, manifest, "next_sentence", "valid", "parquet").num_groups == 0


def test_an_unknown_encoding_and_a_row_too_long_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="E-NAME"):
        write_shard(tmp_path, "a", toy_rows(1), task="t", subset="train", group_rows=8, encodings=["csv"])
    n = 70_000
    rows = Rows.from_samples([Sample([5] * n, [0] * n, [0] * n, [0] * n, [0] * n, [0] * n, 0)])
    with pytest.raises(InputError, match="70000"):
        write_shard(tmp_path, "a", rows, task="t", subset="train", group_rows=8, encodings=["text"])


def test_a_file_that_is_replaced_while_its_shards_are_open_is_read_anew(tmp_path: Path) -> None:
    before, after = (toy_rows(20, seed=seed, names=NAMES) for seed in (1, 2))
    path = path_of(tmp_path, write(tmp_path, before), "parquet")
    assert same(decode_group(path, 0, NAMES, units=True), before.take(np.arange(8)))
    other = tmp_path / "other"
    path_of(other, write(other, after), "parquet").replace(path)
    assert same(decode_group(path, 0, NAMES, units=True), after.take(np.arange(8)))
