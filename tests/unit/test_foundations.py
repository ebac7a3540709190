"""Errors, manifests and atomic files, keys and the registry: what every other part stands on."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ernie_core import errors, registry, seeding
from ernie_core.errors import IntegrityError, RecipeError, ResourceError, closest, printable
from ernie_core.failpoints import NAMES
from ernie_core.manifest import FileEntry, Manifest, atomic_write, canonical_json, disk_errors, inside, read_manifest, verified_path, write_manifest

ROOT = Path(__file__).parents[2]


def test_an_error_says_everything_on_one_line_and_survives_pickling() -> None:
    error = IntegrityError("E-X", "it broke", where="a.txt:3", expected="1", found="2", fix="mend it")
    assert str(error) == "E-X it broke; at a.txt:3; expected 1; found 2; fix: mend it"
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.exit_code) == (IntegrityError, str(error), 4)


def test_every_error_class_has_its_documented_exit_code() -> None:
    codes = {k.__name__: k.exit_code for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.ErnieError)}
    assert codes == {
        "ErnieError": 1, "RecipeError": 2, "InputError": 3, "IntegrityError": 4, "OutputError": 5, "ResourceError": 6, "DivergedError": 7,
        "PreemptedError": 75,
    }  # fmt: skip


def test_closest_names_come_first() -> None:
    assert closest("lerning_rate", ["seed", "warmup_share", "learning_rate"], limit=2) == "learning_rate, seed and 1 more"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mred\n\r\tb", "a\\x1b[31mred\\n\\r\\tb"), ("\u202eevil\u2066", "\\u202eevil\\u2066"), ("x\u2028y\u2029z\x85", "x\\u2028y\\u2029z\\x85"),
        ("zero\u200bwidth", "zero\\u200bwidth"), ("哈尔滨" * 30, "哈尔滨" * 8 + "哈尔…"), (b"\xff\xfeab", "\\xff\\xfeab"), ("\ud800", ""), ("", ""), ("平常", "平常"),
    ],
)  # fmt: skip
def test_document_text_in_messages_is_cut_and_cannot_break_the_line(text: str | bytes, shown: str) -> None:
    assert printable(text) == shown


@given(st.one_of(st.text(), st.binary()))
def test_printable_text_is_always_one_short_line(text: str | bytes) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    assert "\x1b" not in shown


OUTSIDE = [
    "../a", "a/../../b", "/etc/passwd", "..", "a/..", "a/../b", "./../a", "//etc", "/", "a\0b", "\0", "link/secret", "link", "linkfile", "deep/up/secret",
    "a/b/../../../c", "../folder2/x", "..//a", "a//../../b", "../../../../../../etc/passwd",
]  # fmt: skip
INSIDE = ["a.txt", "a/b.parquet", "%2e%2e/a", "a#b", "file:/a", "s3:a", "..a", "a..b", "~", "C:\\a", "..\\a", "name with space", "中文.txt", "a/./b"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    (folder / "link").symlink_to(tmp_path)
    (folder / "linkfile").symlink_to(tmp_path / "secret")
    (folder / "deep/up").symlink_to("../..")
    return folder


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_path_that_leaves_its_folder_is_refused(folder: Path, path: str) -> None:
    with pytest.raises(IntegrityError, match="E-PATH"):
        inside(folder, path)


@pytest.mark.parametrize("path", INSIDE)
def test_odd_names_that_stay_inside_are_plain_names(folder: Path, path: str) -> None:
    assert inside(folder, path).resolve().is_relative_to(folder.resolve())


def finished(folder: Path) -> Manifest:
    entry = atomic_write(folder / "a.bin", b"hello")
    return write_manifest(folder, Manifest("prepare", {"a": 1}, {}, (FileEntry(entry.path, entry.size_bytes, entry.sha256, {"rows": 5}),), {"n": 2}))


def test_a_manifest_reads_back_as_it_was_written(tmp_path: Path) -> None:
    written = finished(tmp_path)
    assert read_manifest(tmp_path, "prepare") == written


def test_a_flipped_bit_in_any_byte_of_a_manifest_is_noticed(tmp_path: Path) -> None:
    finished(tmp_path)
    path = tmp_path / "manifest.json"
    raw = path.read_bytes()
    assert len(raw) > 300
    for position in range(len(raw)):
        flipped = bytearray(raw)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        with pytest.raises(IntegrityError, match="E-MANIFEST"):
            read_manifest(tmp_path, "prepare")


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"null", b"[" * 100_000, b'{"sha256": 1}', b"\xff"])
def test_a_manifest_that_is_something_else_is_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(raw)
    with pytest.raises(IntegrityError, match="E-MANIFEST manifest is damaged"):
        read_manifest(tmp_path)


def test_a_missing_manifest_means_not_finished_and_another_step_s_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="E-MANIFEST-MISSING"):
        read_manifest(tmp_path)
    finished(tmp_path)
    with pytest.raises(IntegrityError, match="manifest of another step"):
        read_manifest(tmp_path, "pretrain")


@pytest.mark.parametrize("damage", [b"hellp", b"hell", b"hello!", None])
def test_a_file_is_verified_before_it_is_used(tmp_path: Path, damage: bytes | None) -> None:
    entry = finished(tmp_path).files[0]
    assert verified_path(tmp_path, entry) == tmp_path / "a.bin"
    if damage is None:
        (tmp_path / "a.bin").unlink()
    else:
        (tmp_path / "a.bin").write_bytes(damage)
    with pytest.raises(IntegrityError, match="E-SHARD-MISSING" if damage is None else "E-SHARD-HASH"):
        verified_path(tmp_path, entry)


@pytest.mark.parametrize("point", sorted(n for n in NAMES if n.startswith("data.") and n not in {"data.before_entry", "data.before_manifest"}))
def test_a_kill_anywhere_in_a_write_leaves_the_old_file_or_the_new_one(tmp_path: Path, point: str) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    code = "import sys; from pathlib import Path; from ernie_core.manifest import atomic_write; atomic_write(Path(sys.argv[1]), b'new!')"
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, env={**os.environ, "ERNIE_FAILPOINT": point}, check=False)
    assert done.returncode == -9
    assert path.read_bytes() == (b"new!" if point == "data.after_rename" else b"old")


def test_an_atomic_write_that_fails_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ResourceError, match=r"E-DISK-FULL.*bytes free"):
        atomic_write(tmp_path / "a.bin", b"x")
    assert list(tmp_path.iterdir()) == []


def test_permission_errors_name_the_path_and_the_user(tmp_path: Path) -> None:
    with pytest.raises(ResourceError) as caught, disk_errors(tmp_path):
        raise PermissionError(13, "Permission denied")
    assert (caught.value.code, caught.value.where, f"uid {os.getuid()}" in caught.value.found) == ("E-PERMISSION", str(tmp_path), True)


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_canonical_json_does_not_depend_on_the_order_of_keys(value: dict[str, object]) -> None:
    assert canonical_json(dict(reversed(value.items()))) == canonical_json(value)
    assert json.loads(canonical_json(value)) == value


def test_keys_tell_types_and_borders_apart() -> None:
    parts: list[tuple[int | str | bytes, ...]] = [("ab", "c"), ("a", "bc"), ("abc",), (1,), ("1",), (b"1",), (), ("",), (1, 2), (12,)]
    assert len({seeding.key(*p) for p in parts}) == len(parts)
    # coreutils: printf 'i\x01\0\0\0\0\0\0\0007s\x04\0\0\0\0\0\0\0maski\x01\0\0\0\0\0\0\0000' | b2sum -l 64
    assert seeding.key(7, "mask", 0) == int.from_bytes(bytes.fromhex("c906470aecdac46e"), "little")


def test_uniform_draws_are_flat_and_independent_of_neighbours() -> None:
    draws = seeding.uniform(seeding.combine(seeding.key(7), np.arange(200_000, dtype=np.uint64)))
    assert 0 <= draws.min() < draws.max() < 1
    counts = np.histogram(draws, bins=20, range=(0, 1))[0]
    assert abs(counts - 10_000).max() < 500  # 5 standard deviations
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.012


def test_combine_is_elementwise_and_ordered() -> None:
    a, b = np.arange(5, dtype=np.uint64), np.uint64(3)
    assert [int(x) for x in seeding.combine(a, int(b))] == [int(seeding.combine(int(x), 3)) for x in a]
    assert int(seeding.combine(1, 2)) != int(seeding.combine(2, 1))


def package_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **modules: str) -> ModuleType:
    name = f"toy_{tmp_path.name.replace('-', '_')}"
    (tmp_path / name).mkdir()
    for module, text in {"__init__": "", **modules}.items():
        (tmp_path / name / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return __import__(name)


class Thing:
    def __init__(self, name: str) -> None:
        self.name = name


HEAD = "from tests_thing import Thing\n"


@pytest.fixture
def things(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("tests_thing")
    module.Thing = Thing  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests_thing", module)


@pytest.mark.usefixtures("things")
def test_the_registry_finds_what_lives_one_per_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = package_of(tmp_path, monkeypatch, b=HEAD + "B = Thing('bee')", a=HEAD + "A = Thing('ant')\nagain = A", other="x = 1")
    assert list(registry.scan(package, Thing)) == ["ant", "bee"]
    with pytest.raises(RecipeError, match="unknown insect 'be'; expected one of bee, ant"):
        registry.pick(registry.scan(package, Thing), "be", "insect")


@pytest.mark.usefixtures("things")
@pytest.mark.parametrize("texts", [{"a": "A = Thing('x')", "b": "B = Thing('x')"}, {"a": "A = Thing('Bad-Name')"}])
def test_clashing_and_ill_formed_names_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: dict[str, str]) -> None:
    package = package_of(tmp_path, monkeypatch, **{k: HEAD + v for k, v in texts.items()})
    with pytest.raises(ValueError, match=r"is defined in|not lower_snake_case"):
        registry.scan(package, Thing)
