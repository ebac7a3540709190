"""Text in tar and zip archives: read when asked for, refused when unsafe, never written to disk."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from reader_helper import good, read_corpus

from corpus_prep import inputs
from corpus_prep.readers.base import Reject
from corpus_prep.splits import plan_splits, read_split
from ernie_core.errors import InputError

FILES = {"a/1.txt": "一。", "a/2.txt": "二。\n\n三。", "b/3.txt": "四。", "b/readme.md": "no", ".hidden/x.txt": "no", "a/empty.txt": ""}


def tar_info(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info


def write_tar(path: Path, files: dict[str, str], *extra: tarfile.TarInfo) -> Path:
    mode = {".gz": "w:gz", ".tgz": "w:gz", ".xz": "w:xz", ".bz2": "w:bz2"}.get(path.suffix, "w:")
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
        for name, text in files.items():
            tar.addfile(tar_info(name, len(text.encode())), io.BytesIO(text.encode()))
        for info in extra:
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    return path


def write_zip(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


WRITE: dict[str, Callable[[Path, dict[str, str]], Path]] = {
    "x.tar": write_tar, "x.tar.gz": write_tar, "x.tgz": write_tar, "x.tar.xz": write_tar, "x.tar.bz2": write_tar, "x.zip": write_zip,
}  # fmt: skip


@pytest.mark.parametrize("name", WRITE)
@pytest.mark.parametrize("size", [1, 2000, 1 << 20])
def test_the_wanted_members_of_an_archive_are_read_in_order(tmp_path: Path, name: str, size: int) -> None:
    long = {f"{'很长的名字' * 30}{i}.txt": f"长{i}。" for i in range(3)}
    path = WRITE[name](tmp_path / name, {**FILES, **long})
    found = good(read_corpus(path, "text", size, archives=True, members="**/*.txt", work="folder"))
    assert [d.paragraphs[0] for d in found] == ["一。", "二。", "三。", "四。", "长0。", "长1。", "长2。"]
    assert [d.work for d in found] == ["a", "a", "a", "b", "", "", ""]


def test_tables_in_archives_have_headers_of_their_own_and_bad_members_are_named(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {"1.csv": "id,text\n1,a\n", "2.csv": "text\nb\n", "3.csv": "id\nc\n"})
    found = read_corpus(path, "csv", archives=True)
    assert [d.paragraphs for d in good(found)] == [("a",), ("b",)]
    assert [(d.path, d.offset) for d in found if isinstance(d, Reject)] == [(f"{path}!3.csv", 3)]


def test_a_member_in_another_folder_is_other_input_only_where_folders_are_works(tmp_path: Path) -> None:
    hashes: dict[str, list[str]] = {"file": [], "folder": []}
    for name in ("甲/1!.txt", "乙/1!.txt"):
        path = write_zip(tmp_path / "x.zip", {name: "一。"})
        for work, found in hashes.items():
            (split,) = plan_splits({"c": {"reader": "text", "path": str(path), "archives": True, "work": work}}, 1000)
            found.append(read_split(split)[1])
            assert good(read_corpus(path, "text", archives=True, work=work))[0].work == (name[0] if work == "folder" else "1!.txt")
    assert (len(set(hashes["file"])), len(set(hashes["folder"]))) == (1, 2)


def test_a_member_s_name_reaches_no_message_as_it_is(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"a\x1b[31m\n.txt": "一。", "b": "一"})
    path.write_bytes(path.read_bytes().replace("一。".encode(), b"\xff" * 6))
    (rejected,) = [d for d in read_corpus(path, "text", archives=True) if isinstance(d, Reject)]
    assert rejected.path == f"{path}!a\\x1b[31m\\n.txt"


def test_an_archive_is_refused_unless_the_recipe_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"E-ARCHIVE.*archives: true"):
        read_corpus(write_tar(tmp_path / "x.tar", FILES), "text")


UNSAFE_TAR = {
    "dots": tar_info("../up.txt", 3), "inner dots": tar_info("a/../../up.txt", 3), "absolute": tar_info("/etc/x", 3), "drive": tar_info("C:/x", 3),
    "backslashes": tar_info("..\\up.txt", 3), "symlink": tar_info("l", 0, tarfile.SYMTYPE, "/etc/passwd"), "hard link": tar_info("h", 0, tarfile.LNKTYPE, "a/1.txt"),
    "device": tar_info("d", 0, tarfile.CHRTYPE), "fifo": tar_info("f", 0, tarfile.FIFOTYPE), "duplicate": tar_info("a/1.txt", 3),
    "duplicate by dots": tar_info("a/./1.txt", 3), "nested": tar_info("a/in.txt.gz", 3),
}  # fmt: skip


@pytest.mark.parametrize("info", UNSAFE_TAR.values(), ids=UNSAFE_TAR)
def test_an_unsafe_tar_member_refuses_the_archive_and_nothing_is_written(tmp_path: Path, info: tarfile.TarInfo) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    path = write_tar(inside / "x.tar.gz", {"a/1.txt": "一。"}, info)
    with pytest.raises(InputError, match=r"E-ARCHIVE"):
        read_corpus(path, "text", archives=True)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["inside", "x.tar.gz"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["../up.txt", "a/../../up.txt", "/etc/x", "..\\up.txt", "a/1.txt", "a/in.zip"])
def test_an_unsafe_zip_member_refuses_the_archive(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/1.txt", "一。")
        archive.writestr(name, "x")
    with pytest.raises(InputError, match=r"E-ARCHIVE"):
        read_corpus(path, "text", archives=True)


def test_a_symlink_or_an_encrypted_member_of_a_zip_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("l")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match="a link, device"):
        read_corpus(tmp_path / "x.zip", "text", archives=True)
    data = bytearray(write_zip(tmp_path / "y.zip", {"a.txt": "一。"}).read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + at] |= 1
    (tmp_path / "y.zip").write_bytes(data)
    with pytest.raises(InputError, match="an encrypted member"):
        read_corpus(tmp_path / "y.zip", "text", archives=True)


@pytest.mark.parametrize("name", WRITE)
def test_a_damaged_archive_is_refused(tmp_path: Path, name: str) -> None:
    path = WRITE[name](tmp_path / name, {f"{i}.txt": f"{i}。" * 3000 for i in range(9)})
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"no archive at all" * 99):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"E-ARCHIVE|E-COMPRESSED"):
            read_corpus(path, "text", archives=True)


def test_a_zip_whose_bytes_do_not_fit_their_checksum_is_refused_when_read(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.txt", "abc" * 100)
    path.write_bytes(path.read_bytes().replace(b"abcabc", b"abcabd", 1))
    with pytest.raises(InputError, match="a damaged member"):
        read_corpus(path, "text", archives=True)


@pytest.mark.parametrize("name", ["x.tar.gz", "x.zip"])
def test_size_ratio_and_count_of_an_archive_have_limits(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = WRITE[name](tmp_path / name, {f"{i}.txt": "a" * 200_000 for i in range(5)})
    assert len(good(read_corpus(path, "text", archives=True, max_files=5, max_expanded_bytes=1_020_000))) == 5
    with pytest.raises(InputError, match=r"E-CORPUS-FILES"):
        read_corpus(path, "text", archives=True, max_files=4)
    with pytest.raises(InputError, match=r"E-BOMB"):
        read_corpus(path, "text", archives=True, max_expanded_bytes=900_000)
    monkeypatch.setattr(inputs, "FREE_BYTES", 1000)
    monkeypatch.setattr(inputs, "MAX_RATIO", 20)
    with pytest.raises(InputError, match=r"E-BOMB.*20 times"):
        read_corpus(path, "text", archives=True)


def test_an_archive_without_a_wanted_member_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no member matches.*\*\.html"):
        read_corpus(write_tar(tmp_path / "x.tar", FILES), "html", archives=True, members="**/*.html")
