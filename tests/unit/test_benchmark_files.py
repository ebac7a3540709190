"""From a user's or a publisher's files to the rows that fine-tuning reads: found, counted, told apart from the published sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from finetune_helper import save_start

from corpus_prep.benchmark_files import benchmark_inputs, import_benchmark
from ernie_core.benchmarks.base import Example
from ernie_core.benchmarks.chinese import CHNSENTICORP, LCQMC
from ernie_core.benchmarks.custom import benchmark_of
from ernie_core.benchmarks.packed import PACKED
from ernie_core.benchmarks.rows import fewer, read_rows
from ernie_core.errors import InputError, RecipeError
from ernie_core.manifest import FileEntry
from jobs.cli import main
from pipelines.estimate import describe, estimate
from pipelines.recipe import load_recipe
from pipelines.recipe_finetune import BenchmarkSettings, Custom, Finetune
from pipelines.results import is_official, majority, spread, stand_ins
from pipelines.suite import SUITES, Suite, suite_recipe

HEAD = "label\ttext_a\n"


def wanted(**changes: Any) -> dict[str, Any]:
    return BenchmarkSettings.model_validate(changes).model_dump()


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text, encoding="utf-8")
    return folder


def imported(name: str, settings: dict[str, Any], folder: Path) -> dict[str, FileEntry]:
    return {e.facts["subset"]: e for e in import_benchmark(name, settings, folder, 7, lambda _line: None)}


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    return write(
        tmp_path / "chnsenticorp",
        train_tsv=HEAD + "".join(f"{i % 2}\t好书{i}\n" for i in range(20)) + "-100\t坏\n",
        dev_tsv=HEAD + "1\t好\n", test_tsv=HEAD + "0\t坏\n",
    )  # fmt: skip


def test_a_folder_is_read_whole_and_its_facts_are_kept(reviews: Path, tmp_path: Path) -> None:
    entries = imported("chnsenticorp", wanted(path=str(reviews)), tmp_path / "run")
    facts = entries["train"].facts
    assert (facts["rows"], facts["read"], facts["dropped"], facts["from"], facts["official"]) == (20, 21, {"ignored": 1}, "train.tsv", 9600)
    rows = read_rows(tmp_path / "run" / entries["train"].path, CHNSENTICORP)
    assert rows[3] == Example(("好书3",), (1,), id="3")


def test_rows_are_chosen_by_hash_and_keep_their_order(reviews: Path, tmp_path: Path) -> None:
    entries = imported("chnsenticorp", wanted(path=str(reviews), train_rows=5), tmp_path / "run")
    rows = read_rows(tmp_path / "run" / entries["train"].path, CHNSENTICORP)
    assert len(rows) == 5
    assert [int(r.id) for r in rows] == sorted(int(r.id) for r in rows)
    questions = [Example((f"q{i // 4}", "a"), (i % 2,), group=f"q{i // 4}", id=str(i)) for i in range(40)]
    some = fewer(questions, 10, 7, "n")
    assert len(some) == 8, "two whole questions"
    assert all(sum(e.group == q.group for e in some) == 4 for q in some)
    assert fewer(questions, 1, 7, "n"), "at least one question"


def test_a_file_instead_of_the_folder_s_is_read_by_its_name(reviews: Path, tmp_path: Path) -> None:
    pairs = write(tmp_path / "other", train_txt="甲\t乙\t1\n丙\t丁\t0\n", dev_tsv="甲\t乙\t1\n")
    found = benchmark_inputs("lcqmc", wanted(path=str(pairs), train=str(pairs / "train.txt")))
    assert [path.name for path, _ in found.values()] == ["train.txt", "dev.tsv"]
    for ending in PACKED:
        packed = pairs / f"train.txt{ending}"
        packed.touch()
        assert benchmark_inputs("lcqmc", wanted(path=str(pairs), train=str(packed)))["train"] == (packed, found["train"][1])
    with pytest.raises(RecipeError, match="E-BENCH-FILE") as error:
        benchmark_inputs("lcqmc", wanted(path=str(pairs), train=str(write(tmp_path, mine_dat="x") / "mine.dat")))
    assert "train.tsv" in error.value.expected


def test_absent_files_and_unknown_names_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="E-BENCH-MISSING benchmark xnli has no train and no dev rows"):
        benchmark_inputs("xnli", wanted(path=str(tmp_path)))
    with pytest.raises(RecipeError, match="E-NAME package 'reviews' does not hold benchmark xnli"):
        import_benchmark("xnli", wanted(package="reviews"), tmp_path, 7, print)


CUSTOM = [
    ("csv", {"kind": "classification", "format": "csv", "labels": ["bad", "good"], "columns": {"text_a": "review", "label": "stars"}},
     'id,review,stars\n1,"好, ""真""",good\n2,差,bad\n', Example(('好, "真"',), (1,), id="0")),
    ("tsv", {"kind": "classification", "format": "tsv", "labels": ["a", "b", "c"], "header": False, "columns": {"text_a": 1, "text_b": 2, "label": 0}},
     "c\t甲\t乙\na\t丙\t丁\n", Example(("甲", "乙"), (2,), id="0")),
    ("jsonl", {"kind": "regression", "format": "jsonl", "columns": {"text_a": "s1", "text_b": "s2", "value": "score"}},
     '{"s1": "a", "s2": "b", "score": 2.5}\n', Example(("a", "b"), value=2.5, id="0")),
    ("tsv", {"kind": "ranking", "format": "tsv", "columns": {"text_a": "q", "text_b": "a", "label": "y", "group": "q"}},
     "q\ta\ty\n谁\t我\t1\n谁\t你\t0\n", Example(("谁", "我"), (1,), group="谁", id="0")),
    ("tsv", {"kind": "classification", "format": "tsv", "labels": ["a", "b"]}, "text_a\ttext_b\tlabel\tid\n甲\t乙\tb\tr7\n", Example(("甲", "乙"), (1,), id="r7")),
    ("tsv", {"kind": "regression", "format": "tsv"}, "value\ttext_a\n2.5\t甲\n", Example(("甲",), value=2.5, id="0")),
    ("tsv", {"kind": "ranking", "format": "tsv"}, "group\ttext_a\ttext_b\tlabel\nq1\t谁\t我\t1\n", Example(("谁", "我"), (1,), group="q1", id="0")),
    ("txt", {"kind": "tagging", "format": "conll", "labels": ["B-X", "I-X", "O"], "delimiter": " "},
     "张 B-X\n三 I-X\n\n好 O\n", Example(("张", "三"), (0, 1), id="0")),
    ("txt", {"kind": "tagging", "format": "conll", "labels": ["B-X", "I-X", "O"], "scheme": "bmes"},
     "张\tB-X\n三\tE-X\n好\tO\n", Example(("张", "三", "好"), (0, 1, 2), id="0")),
    ("json", {"kind": "span", "format": "squad"},
     json.dumps({"data": [{"paragraphs": [{"context": "鲁迅写的。", "qas": [{"id": "q", "question": "谁？", "answers": [{"text": "鲁迅", "answer_start": 0}]}]}]}]}),
     Example(("谁？", "鲁迅写的。"), answers=(("鲁迅", 0),), id="q")),
]  # fmt: skip


@pytest.mark.parametrize(("ending", "custom", "text", "first"), CUSTOM)
def test_data_of_the_user_s_own_is_read_as_described(ending: str, custom: dict[str, Any], text: str, first: Example, tmp_path: Path) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_text(text, encoding="utf-8")
    settings = wanted(train=str(path), dev=str(path), custom=custom)
    entries = imported("mine", settings, tmp_path / "run")
    assert read_rows(tmp_path / "run" / entries["dev"].path, benchmark_of("mine", settings["custom"]))[0] == first
    assert entries["train"].facts["official"] is None
    Finetune.model_validate({"benchmarks": {"mine": {"train": str(path), "dev": str(path), "custom": custom}}})


WRONG = [
    ({"kind": "classification", "format": "tsv", "labels": []}, "the names of two classes or more"),
    ({"kind": "classification", "format": "squad", "labels": ["a", "b"]}, "for classification one of tsv, csv, jsonl"),
    ({"kind": "tagging", "format": "conll", "labels": ["B-X", "I-X"]}, "O and, of each kind of chunk, tags such as B-PER"),
    ({"kind": "tagging", "format": "conll", "labels": ["O", "B-X"]}, "O and, of each kind of chunk"),
    ({"kind": "classification", "format": "tsv", "labels": ["a", "a"]}, "each label once"),
    ({"kind": "classification", "format": "tsv", "labels": ["a", "b"], "columns": {"text_b": "x", "label": "y"}}, "a column for label, text_a"),
    ({"kind": "ranking", "format": "tsv", "columns": {"text_a": "q", "text_b": "a", "label": "y"}}, "none for group"),
    ({"kind": "ranking", "format": "tsv", "labels": ["0", "1", "2"]}, "two names, of a wrong and of a right answer"),
    ({"kind": "classification", "format": "csv", "labels": ["a", "b"], "delimiter": "||"}, "one character"),
    ({"kind": "classification", "format": "tsv", "labels": ["a", "b"], "columns": {"question": "q"}}, "names out of text_a"),
    ({"kind": "span", "format": "squad", "columns": {"text_a": "q"}}, "nothing: span in squad does not read it"),
    ({"kind": "tagging", "format": "tsv", "labels": ["O", "B-X", "I-X"], "encoding": "gb18030"}, "nothing: tagging in tsv does not read it"),
    ({"kind": "regression", "format": "jsonl", "labels": ["a"]}, "nothing: regression in jsonl does not read it"),
]


@pytest.mark.parametrize(("custom", "says"), WRONG)
def test_a_description_that_does_not_hold_together_is_refused_by_the_recipe(custom: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Finetune.model_validate({"benchmarks": {"mine": {"train": "a", "dev": "b", "custom": custom}}})
    with pytest.raises(RecipeError, match="E-BENCH-CUSTOM"):
        benchmark_of("mine", Custom.model_validate(custom).model_dump())


ORIGINS = [
    ({}, "give package, or path"), ({"train": "a"}, "train and dev"), ({"package": "reviews", "path": "x"}, "package goes without path"),
    ({"path": "x", "custom": {"kind": "span", "format": "squad"}}, "custom names its files"),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "says"), ORIGINS)
def test_a_benchmark_has_one_origin(entry: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        BenchmarkSettings.model_validate(entry)


def test_a_preset_lies_under_what_the_recipe_sets_itself() -> None:
    entries = {"lcqmc": {"path": "x", "preset": "base", "epochs": 1}, "cola": {"path": "x", "preset": "large"}}
    lcqmc, cola = Finetune.model_validate({"benchmarks": entries}).benchmarks.values()
    assert (lcqmc.learning_rates, lcqmc.epochs, lcqmc.batch_size, lcqmc.schedule, lcqmc.weight_decay) == ([2e-5], 1, 32, "constant", 0.0)
    assert (cola.learning_rates, cola.epochs, cola.schedule, cola.warmup_share) == ([3e-5], 5, "linear", 0.1)
    for wrong, says in (
        ({"ocnli": {"path": "x", "preset": "base"}}, "has none"),
        ({"lcqmcc": {"path": "x"}}, "unknown benchmark 'lcqmcc'; one of lcqmc"),
    ):
        with pytest.raises(ValueError, match=says):
            Finetune.model_validate({"benchmarks": wrong})


def facts(read: int, rows: int | None = None, **dropped: int) -> dict[str, Any]:
    return {"read": read, "rows": read - sum(dropped.values()) if rows is None else rows, "dropped": dropped, "from": "train.txt"}


def test_only_the_publisher_s_whole_sets_are_official() -> None:
    whole = {"train": facts(238_766), "dev": facts(8802), "test": facts(12_500)}
    assert is_official(LCQMC, whole)
    assert is_official(LCQMC, {k: v for k, v in whole.items() if k != "test"}), "hidden test sets do not count"
    assert is_official(LCQMC, {**whole, "train": facts(238_766, malformed=2)})
    assert not is_official(LCQMC, {**whole, "train": facts(34_334)})
    assert not is_official(LCQMC, {**whole, "train": facts(238_766, rows=1000)})
    assert not is_official(benchmark_of("ocnli", None), {"train": facts(10_000)})
    found = stand_ins(LCQMC, {**whole, "train": facts(34_334, rows=1000)})
    assert found == {"train": "train.txt, 1,000 of 34,334 rows (published: 238,766)"}


def test_the_commonest_class_and_the_spread_over_seeds() -> None:
    assert majority([Example(("a",), (1,)), Example(("b",), (1,)), Example(("c",), (0,))]) == pytest.approx(2 / 3)
    assert majority([Example(("a", "b", "c"), (0, 0, 1))]) is None
    assert spread([0.5, 0.7, 0.6]) == {"median": 0.6, "min": 0.5, "max": 0.7}
    assert spread([0.5, None]) == {"median": None, "min": None, "max": None}


def suite(data: Path, **changes: Any) -> Suite:
    values: dict[str, Any] = {
        "name": "zh", "data": data, "model": Path("runs/mine"), "run": "zh_of_mine", "seeds": 2, "preset": "", "only": (), "rows": None, "overrides": (),
    }  # fmt: skip
    return Suite(**values | changes)


def test_a_suite_is_a_recipe_of_what_is_there(reviews: Path, tmp_path: Path) -> None:
    write(tmp_path / "lcqmc", dev_tsv="甲\t乙\t1\n")
    text, left_out = suite_recipe(suite(tmp_path, preset="base", rows=50))
    (tmp_path / "suite.yaml").write_text(text)
    recipe = load_recipe(tmp_path / "suite.yaml")
    assert recipe.finetune is not None
    assert list(recipe.finetune.benchmarks) == ["chnsenticorp"]
    entry = recipe.finetune.benchmarks["chnsenticorp"]
    assert (entry.path, entry.train_rows, entry.epochs, recipe.finetune.seeds) == (str(reviews), 50, 10, [1, 2])
    assert len(left_out) == len(SUITES["zh"]) - 1
    assert any("lcqmc is left out: benchmark lcqmc has no train rows, expected train.tsv or train.txt" in line for line in left_out)
    given = (f"finetune.benchmarks.lcqmc.train={write(tmp_path / 'afqmc', train_txt='甲	乙	1') / 'train.txt'}",)
    assert "lcqmc:" in suite_recipe(suite(tmp_path, overrides=given))[0]
    with pytest.raises(InputError, match=r"E-SUITE-EMPTY.*expected folders such as drcd; found none of them") as error:
        suite_recipe(suite(tmp_path, only=("drcd",)))
    assert error.value.fix == "give the folder that holds the benchmarks' folders"
    (tmp_path / "above" / "zh" / "lcqmc").mkdir(parents=True)
    for given_folder, better in ((tmp_path / "afqmc", tmp_path), (tmp_path / "above", tmp_path / "above" / "zh")):
        with pytest.raises(InputError, match="found none of them") as error:
            suite_recipe(suite(given_folder))
        assert error.value.fix.endswith(f"--data {better}")
    with pytest.raises(InputError, match="lcqmc is left out: benchmark lcqmc has no train rows"):
        suite_recipe(suite(tmp_path, only=("lcqmc",)))


def finetune_command(folder: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    monkeypatch.chdir(folder)
    return main(["finetune", "--suite", "zh", "--data", str(folder), "--model", "ERNIE-2.0-Base", "--print-config", *more])


def test_a_suite_is_written_once_under_a_name_made_of_the_model_s(
    reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetune_command(tmp_path, monkeypatch) == 0
    path = tmp_path / "runs" / "zh_of_ernie_2_0_base.yaml"
    assert f'model: "{tmp_path / "ERNIE-2.0-Base"}"' in path.read_text()
    assert finetune_command(tmp_path, monkeypatch) == 0, "the same again"
    path.write_text(path.read_text().replace("seeds: [1, 2", "seeds: [9, 2"))
    assert finetune_command(tmp_path, monkeypatch) == 2
    assert "E-SUITE-EXISTS" in capsys.readouterr().err
    assert finetune_command(tmp_path, monkeypatch, "--name", "../evil") == 2
    assert "'../evil' is no name for a run" in capsys.readouterr().err
    assert str(reviews) in path.read_text()


def test_a_suite_whose_model_is_not_there_leaves_no_recipe_that_the_right_one_would_clash_with(
    reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["finetune", "--suite", "zh", "--data", str(reviews.parent), "--model", "typo", "--name", "mine"]) == 3
    assert "E-MODEL-MISSING" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    assert main(["finetune", "--suite", "zh", "--data", str(reviews.parent), "--model", "typo", "--only", "ocnli"]) == 2
    assert "ocnli is a benchmark for a recipe" in capsys.readouterr().err


def test_what_a_suite_would_cost_names_trials_and_no_text(reviews: Path, tmp_path: Path) -> None:
    save_start(tmp_path / "model", seed=1)
    text, _ = suite_recipe(suite(tmp_path, model=tmp_path / "model", rows=10))
    (tmp_path / "suite.yaml").write_text(text)
    said = describe(estimate(load_recipe(tmp_path / "suite.yaml")), tmp_path / "run")
    assert "  finetune  about" in said
    assert "4 trials" in said, "three rates at the first seed, one more seed"
    assert "input " not in said
    assert str(reviews) in text


def test_a_recipe_does_not_take_a_suite_s_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finetune", str(tmp_path / "r.yaml"), "--model", "x", "--seeds", "3"]) == 2
    assert "--model, --seeds goes with --suite only" in capsys.readouterr().err
    assert main(["finetune"]) == 2
