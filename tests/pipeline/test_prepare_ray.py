from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prepare_helper import SETTINGS, bytes_of, document, run_prepare, write_corpus

from corpus_prep.dedup import contamination_table
from corpus_prep.flow import _on_ray
from corpus_prep.pass_one import Plan
from corpus_prep.splits import plan_splits
from ernie_core.errors import ResourceError
from ernie_core.normalise import normalise

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

DRIVER = """
import os, sys
from pathlib import Path
import ray
from prepare_helper import run_prepare
of_workers = {name.removeprefix("WORKER_"): value for name, value in os.environ.items() if name.startswith("WORKER_")}
ray.init(address="local", num_cpus=4, include_dashboard=False, _temp_dir=sys.argv[3], log_to_driver=False, runtime_env={"env_vars": of_workers})
run_prepare(Path(sys.argv[1]), Path(sys.argv[2]), workers=4)
"""
FULL_STORE = """
import sys
from pathlib import Path
import numpy
import ray
from prepare_helper import run_prepare

ray.init(address="local", num_cpus=4, include_dashboard=False, _temp_dir=sys.argv[3], log_to_driver=False, object_store_memory=80_000_000,
         object_spilling_directory=sys.argv[3] + "-full")
held = [ray.put(numpy.full(1_000_000, i, dtype=numpy.int64)) for i in range(9)]
run_prepare(Path(sys.argv[1]), Path(sys.argv[2]), workers=4)
assert [int(ray.get(one)[0]) for one in held] == list(range(9))
"""
"""As `DRIVER`, with 72 MB of an object store of 80 in use."""


def driver(corpus: Path, out: Path, short_folder: Path, code: str = DRIVER, **environment: str) -> subprocess.Popen[str]:
    """Start a preparation by four workers on a Ray of its own."""
    paths = os.pathsep.join(str(p) for p in (Path(__file__).parents[2], Path(__file__).parents[1]))
    command = [sys.executable, "-c", code, str(corpus), str(out), str(short_folder / "k")]
    return subprocess.Popen(
        command,
        env={**os.environ, "HOME": str(short_folder), "PYTHONPATH": paths, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("workers", [1, 2])
def test_one_and_two_workers_give_the_bytes_of_none(corpus: Path, whole: Path, tmp_path: Path, workers: int) -> None:
    run_prepare(corpus, tmp_path, workers=workers)
    assert bytes_of(tmp_path) == bytes_of(whole)


@pytest.mark.usefixtures("cluster")
def test_two_workers_give_the_bytes_of_none_with_every_option_of_cleaning(tmp_path: Path) -> None:
    write_corpus(tmp_path / "in")
    near = (
        document(5) + "又一句。\n\n" + document(35).replace("。", "！", 1) + "\n\n" + "\n\n".join(f"繁體標題\n{document(i)}" for i in range(50, 56))
    )
    (tmp_path / "in" / "three.txt").write_text(near, encoding="utf-8")
    for name, text in (("words.txt", "繁体标题 5 nz\n"), ("names.txt", "天气\n北京\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    options = {
        "near_duplicates": 0.7, "boilerplate_share": 0.1, "to_simplified": True, "html_entities": True, "escapes": True, "language": "mixed",
        "filters": {"min_language_share": 0.5}, "user_dictionary": str(tmp_path / "words.txt"), "gazetteer": str(tmp_path / "names.txt"),
    }  # fmt: skip
    facts = run_prepare(tmp_path / "in", tmp_path / "none", **options).facts["documents"]
    assert (facts["near_duplicates"], facts["boilerplate"]["one"]) == (2, ["繁体标题"])
    run_prepare(tmp_path / "in", tmp_path / "two", workers=2, **options)
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "none")


@pytest.mark.usefixtures("cluster")
def test_an_error_in_a_worker_arrives_as_it_was_raised(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "attempts").mkdir()
    for name in ("1-00000", "1-00001"):
        for number in (1, 2, 3):
            (tmp_path / "attempts" / f"{name}.{number}").touch()
    splits = plan_splits({"one": {"reader": "text", "path": str(corpus / "*.txt")}}, SETTINGS["split_bytes"])[:2]
    table = contamination_table({}, normalise)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "contamination.npy").write_bytes(table.to_bytes())
    plan = Plan(str(tmp_path), 7, SETTINGS, (), {"contamination.npy": "0"})
    with pytest.raises(ResourceError) as e:
        list(_on_ray("1", splits, plan, 2, 0))
    assert (e.value.code, e.value.exit_code) == ("E-SPLIT-DIES", 6)
    assert str(corpus / "one.txt") in e.value.where


def test_a_killed_worker_of_four_changes_no_byte(corpus: Path, whole: Path, tmp_path: Path, short_folder: Path) -> None:
    once = tmp_path / "killed"
    done = driver(corpus, tmp_path / "out", short_folder, ERNIE_FAILPOINT="data.mid_write:3", ERNIE_FAILPOINT_ONCE=str(once))
    error = done.communicate()[1]
    assert done.returncode == 0, error
    assert once.exists(), "no worker was killed"
    assert bytes_of(tmp_path / "out") == bytes_of(whole)


def test_an_object_store_that_is_full_with_no_room_to_spill_changes_no_byte(corpus: Path, whole: Path, tmp_path: Path, short_folder: Path) -> None:
    full = short_folder / "k-full"
    full.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(full)], capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs can be mounted")
    try:
        (full / "taken").write_bytes(b"x" * 4096)
        done = driver(corpus, tmp_path, short_folder, FULL_STORE)
        error = done.communicate()[1]
    finally:
        subprocess.run(["umount", "-l", str(full)], check=True)
    assert done.returncode == 0, error
    assert bytes_of(tmp_path) == bytes_of(whole)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_worker_of_four_killed_at_random_changes_no_byte(corpus: Path, whole: Path, tmp_path: Path, short_folder: Path) -> None:
    draw = random.Random(7)
    points = ("data.before_tmp", "data.mid_write", "data.before_fsync", "data.after_rename", "data.before_entry")
    for number in range(20):
        once = tmp_path / f"killed-{number}"
        point = f"{draw.choice(points)}:{draw.randint(1, 3)}"
        done = driver(corpus, tmp_path / f"{number}", short_folder, WORKER_ERNIE_FAILPOINT=point, WORKER_ERNIE_FAILPOINT_ONCE=str(once))
        error = done.communicate()[1]
        assert done.returncode == 0, error
        assert once.exists(), f"no worker was killed at {point}"
        assert bytes_of(tmp_path / f"{number}") == bytes_of(whole)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_driver_killed_at_random_changes_no_byte(corpus: Path, whole: Path, tmp_path: Path, short_folder: Path) -> None:
    draw = random.Random(7)
    kills = 0
    for number in range(5):
        out = tmp_path / f"{number}"
        done = driver(corpus, out, short_folder)
        until = draw.randrange(1, 18)  # files that two passes over six splits commit, about
        while done.poll() is None and len(list(out.glob("entries/*"))) < until:
            time.sleep(0.02)
        done.kill()
        done.communicate()
        kills += not (out / "manifest.json").exists()
        again = driver(corpus, out, short_folder)
        error = again.communicate()[1]
        assert again.returncode == 0, error
        assert bytes_of(out) == bytes_of(whole)
    assert kills >= 3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_splits_that_always_end_their_workers_stop_the_job(corpus: Path, tmp_path: Path, short_folder: Path) -> None:
    done = driver(corpus, tmp_path / "out", short_folder, ERNIE_FAILPOINT="data.mid_write:2")
    error = done.communicate()[1]
    assert done.returncode == 1
    assert "E-SPLIT-DIES a split ended its worker 3 times; at split " in error
    assert "it dies at no single document, but at all of them together" in error
