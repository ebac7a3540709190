"""Files of a run in an object store, against an S3 server on loopback: content, records, and two writers of one record."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from s3_helper import S3, held, put, wins

from ernie_core import object_store
from ernie_core.errors import IntegrityError, OutputError, RecipeError, ResourceError
from ernie_core.manifest import Manifest, atomic_write, read_manifest, verified_path, whole, write_manifest
from ernie_core.object_folders import discard, entries, pull, rename, sizes
from ernie_core.object_store import commit, fetch, home, local, refresh, remove, scratch


@pytest.fixture
def here(tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This machine's scratch folder of s3://runs/mine, of which the bucket exists."""
    s3.bucket("runs")
    monkeypatch.setenv("ERNIE_SCRATCH", str(tmp_path / "one"))
    return scratch("s3://runs/mine")


@pytest.fixture
def there(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another machine's."""
    monkeypatch.setenv("ERNIE_SCRATCH", str(tmp_path / "two"))
    return scratch("s3://runs/mine")


def finished(folder: Path, text: str) -> Manifest:
    entry = atomic_write(folder / "a.txt", text.encode())
    return write_manifest(folder, Manifest("step", {}, {}, (entry,)))


def test_a_scratch_path_says_where_its_home_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ERNIE_SCRATCH", str(tmp_path))
    assert home(scratch("s3://bucket/a/b/") / "名" / "x") == "s3://bucket/a/b/名/x"
    assert home(scratch("gs://bucket") / "x") == "gs://bucket/x"
    assert home(tmp_path) is None
    for wrong in ("ftp://host/a", "s3://", "s3://b/../c", "s3://b/a//c", "s3://b/a?x=1", "https://b/c"):
        with pytest.raises(RecipeError, match="E-URI"):
            scratch(wrong)
    with pytest.raises(RecipeError, match="E-CREDENTIALS") as e:
        scratch("s3://KEY:SECRET@bucket/x")
    assert "SECRET" not in str(e.value)


def test_what_one_machine_finished_another_reads(here: Path, there: Path, s3: S3) -> None:
    made = finished(here / "step", "今天")
    assert not there.exists()
    assert read_manifest(there / "step").sha256 == made.sha256
    assert whole(there / "step") == made
    assert (there / "step" / "a.txt").read_text() == "今天"
    (there / "step" / "a.txt").write_text("昨天")  # left of other work, of the same size
    verified_path(there / "step", made.files[0])
    assert (there / "step" / "a.txt").read_text() == "今天"
    assert sizes(there / "step") == {"a.txt": 6, "manifest.json": (here / "step" / "manifest.json").stat().st_size}
    assert local(there / "none") == there / "none"
    assert not fetch(there / "none")


def test_content_is_in_the_store_before_the_record_that_names_it(here: Path, s3: S3) -> None:
    finished(here / "step", "一")
    assert [path for method, path, _ in s3.asked if method == "PUT"] == ["/runs", "/runs/mine/step/a.txt", "/runs/mine/step/manifest.json"]


def test_the_second_of_two_writers_loses_and_the_first_ones_work_stays(here: Path, there: Path) -> None:
    for folder in (here, there):
        assert not refresh(folder / "step" / "manifest.json")
    first = finished(here / "step", "一")
    with pytest.raises(OutputError, match="E-COMMIT-LOST") as e:
        write_manifest(there / "step", Manifest("step", {}, {}, (), {"other": 1}))
    assert e.value.where == "s3://runs/mine/step/manifest.json"
    assert not (there / "step" / "manifest.json").exists()
    assert read_manifest(there / "step") == first
    write_manifest(here / "step", Manifest("step", {}, {}, (), {"again": 1}))  # the one that it put itself
    with pytest.raises(OutputError, match="E-COMMIT-LOST"):
        commit(there / "step" / "manifest.json", b"from what was read before")
    with pytest.raises(OutputError, match="E-COMMIT-LOST"):
        remove(there / "step" / "manifest.json")
    assert refresh(there / "step" / "manifest.json")
    remove(there / "step" / "manifest.json")
    with pytest.raises(OutputError, match="E-COMMIT-LOST"):
        commit(here / "step" / "manifest.json", b"of one that is gone")


def test_a_record_put_twice_with_the_same_bytes_is_no_conflict(here: Path, there: Path) -> None:
    commit(here / "x", b"1")
    commit(there / "x", b"1")
    assert refresh(there / "x")
    assert (there / "x").read_bytes() == b"1"


def bare_etags_only(request: dict[str, Any]) -> None:
    """Refuse an ETag in quotes, as Ceph 16's gateway does in a PUT (tried on Debian's radosgw 16.2.15)."""
    if request["REQUEST_METHOD"] == "PUT" and request.get("HTTP_IF_MATCH", "").startswith('"'):
        request["HTTP_IF_MATCH"] = "of no record"


def test_where_etags_are_compared_without_quotes_records_are_replaced_by_one_writer(here: Path, there: Path, s3: S3) -> None:
    s3.first = bare_etags_only
    assert wins(here / "x", b"1")
    assert refresh(there / "x")
    assert wins(here / "x", b"2")
    assert not wins(there / "x", b"3")
    assert refresh(there / "x")
    assert wins(there / "x", b"4")
    assert not wins(here / "x", b"5")
    remove(there / "x")
    assert not wins(here / "x", b"6")
    assert not refresh(here / "x")


def test_the_store_is_the_truth(here: Path, there: Path, s3: S3) -> None:
    first, second = finished(here / "checkpoints" / "1", "一"), finished(here / "checkpoints" / "2", "二")
    pull(there / "checkpoints", "manifest.json")
    assert [read_manifest(there / "checkpoints" / name) for name in "12"] == [first, second]
    remove(here / "checkpoints" / "1" / "manifest.json")
    discard(here / "checkpoints" / "1")
    pull(there / "checkpoints", "manifest.json")
    assert not (there / "checkpoints" / "1" / "manifest.json").exists()
    assert entries(here / "checkpoints") == ([], ["2"])
    rename(here / "checkpoints", here / "old")
    assert entries(here) == ([], ["old"])
    shutil.rmtree(here)
    assert whole(here / "old" / "2") == second
    asked = len(s3.asked)
    assert refresh(here / "old" / "2" / "manifest.json")
    assert len(s3.asked) == asked + 1


def test_a_big_file_goes_there_and_back(here: Path, there: Path) -> None:
    data = bytes(range(256)) * 50_000
    for folder, path in ((here, here / "x"), (there, there / "x")):
        folder.mkdir(parents=True)
        if folder == here:
            path.write_bytes(data)
            object_store.put([path])
    assert fetch(there / "x")
    assert (there / "x").read_bytes() == data


def test_a_damaged_object_is_not_used(here: Path, there: Path, s3: S3) -> None:
    made = finished(here / "step", "今天")
    put(object_store._store("s3://runs", s3.url), {"mine/step/a.txt": b"what"})
    with pytest.raises(IntegrityError, match="E-SHARD-HASH"):
        verified_path(there / "step", made.files[0])


def test_a_store_that_refuses_is_named(here: Path, s3: S3) -> None:
    with s3.denying(), pytest.raises(ResourceError, match="E-STORE") as e:
        commit(here / "x", b"1")
    assert e.value.where == "s3://runs/mine/x"
    assert "credentials" in e.value.fix
    assert e.value.found.startswith("InvalidAccessKeyId: ")
    assert "403" in e.value.found
    assert "Debug source" not in e.value.found
    nowhere = scratch("s3://no-such-bucket/mine")
    for ask in (lambda: commit(nowhere / "x", b"1"), lambda: refresh(nowhere / "x"), lambda: entries(nowhere)):
        with pytest.raises(ResourceError, match="no such bucket"):
            ask()


def test_a_store_that_is_started_again_is_waited_for(here: Path, s3: S3) -> None:
    refused = iter(range(7))
    s3.first = lambda request: None if next(refused, None) is None else ("503 Service Unavailable", b"")
    commit(here / "x", b"1")
    assert next(refused, None) is None
    s3.first = lambda request: ("503 Service Unavailable", b"")
    with pytest.raises(ResourceError, match="E-STORE"):
        refresh(here / "x", retry_s=1.0)
    s3.first = lambda request: None
    assert refresh(here / "x", retry_s=1.0)


def test_paths_without_a_home_are_left_alone(tmp_path: Path, s3: S3) -> None:
    asked = len(s3.asked)
    made = finished(tmp_path / "step", "一")
    assert whole(tmp_path / "step") == made
    assert refresh(tmp_path / "step" / "a.txt")
    assert not refresh(tmp_path / "none")
    remove(tmp_path / "step" / "a.txt")
    assert not (tmp_path / "step" / "a.txt").exists()
    assert sizes(tmp_path) is None
    assert len(s3.asked) == asked
    assert held(s3.bucket("runs")) == {}
