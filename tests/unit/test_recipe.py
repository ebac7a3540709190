"""Recipes: the strict YAML, what is refused and how it is said, overrides, marks, and that every recipe of ours loads."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from ernie_core.errors import RecipeError
from pipelines.recipe import load_recipe, parse_yaml
from pipelines.recipe_base import changes_results, given_settings, results_settings
from pipelines.recipe_print import print_config
from pipelines.recipe_schema import Recipe

OURS = sorted((Path(__file__).parents[2] / "pipelines/recipes").glob("*.yaml"))
SMALL = "name: mine\ncorpora:\n  a: {reader: text, path: x.txt}\n"


def write(folder: Path, text: str, name: str = "r.yaml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def problems(folder: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(folder, text), overrides)
    assert caught.value.exit_code == 2
    return [line.replace(f"{folder}/", "") for line in caught.value.found.split("\n  ")[1:]] or [str(caught.value).replace(f"{folder}/", "")]


@pytest.mark.parametrize("path", OURS, ids=lambda p: p.stem)
def test_every_recipe_of_ours_loads_and_prints_to_the_same_recipe(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERNIE_TEST_DATA", "data")
    monkeypatch.setenv("ERNIE_CORPORA", "corpora")
    assert len(OURS) >= 2
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert load_recipe(write(tmp_path, print_config(recipe))) == recipe


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1e4", 1e4), ("+1.5E+3", 1500.0), (".5", 0.5), ("2.", 2.0), ("7", 7), ("-0", 0),
        ("no", "no"), ("on", "on"), ("Yes", "Yes"), ("True", "True"), ("true", True), ("false", False), ("null", None), ("~", None), ("", None),
        ("012", "012"), ("01.5", "01.5"), ("1e", "1e"), (".", "."), ("0x1F", "0x1F"), ("0o17", "0o17"), ("12:30", "12:30"), ("1_000", "1_000"), ("2026-11-22", "2026-11-22"),
        ("'7'", "7"), ('"true"', "true"), ("[1, a]", [1, "a"]), ("{a: 1e-3}", {"a": 0.001}), ("中文", "中文"),
    ],
)  # fmt: skip
def test_scalars_are_what_they_look_like(text: str, value: Any) -> None:
    found = parse_yaml(f"k: {text}", "x").value["k"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: !!python/object/apply:os.system [id]", "tag .*is refused"),
        ("a: !!str 1", "tag .*is refused"),
        ("!!map {a: 1}", "tag .*is refused"),
        ("a: 1\n---\nb: 2", "more than one document"),
        ("[" * 3000 + "]" * 3000, "nested deeper than 50"),
        ("a: [1, 2", "expected"),
        ("a: b: c", "mapping values are not allowed"),
        ("a: *b", "before its anchor"),
        ("? [1]\n: 2", "a key must be plain text"),
        ("a: '\x00'", "special characters"),
        ("a: " + "x" * 1_000_001, "too large"),
    ],
)
def test_dangerous_or_broken_yaml_is_refused(text: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says) as caught:
        parse_yaml(text, "r.yaml")
    assert (caught.value.code, caught.value.exit_code) == ("E-RECIPE-YAML", 2)


def test_an_alias_bomb_is_refused_within_a_second_and_100_megabytes() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    memory, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(RecipeError, match="aliases"):
        parse_yaml("\n".join(lines), "bomb.yaml")
    assert time.monotonic() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 100_000  # KiB


def test_a_hundred_aliases_are_allowed_and_one_more_is_not() -> None:
    text = "a: &a 1\nb: [{}]"
    assert parse_yaml(text.format(", ".join(["*a"] * 100)), "x").value["b"] == [1] * 100
    with pytest.raises(RecipeError, match="more than 100 aliases"):
        parse_yaml(text.format(", ".join(["*a"] * 101)), "x")


def test_all_problems_are_listed_with_line_and_closest_name(tmp_path: Path) -> None:
    text = """name: Mine!
seed: -1
corpora:
  a: {reader: text, path: x}
prepare:
  max_seq_len: "128"
  vocab_size: 1e4
  tasks: {knowledge_maskin: {}, next_sentence: {}}
pretrain:
  learning_rat: 1e-3
  weight_decay: .nan
  batch_tokens: 0
  batch_tokens: 2048
  clip_norm: .inf
  precision: fp8
"""
    found = problems(tmp_path, text)
    wanted = [
        "r.yaml:13 pretrain.batch_tokens: key given twice, first at r.yaml:12",
        "r.yaml:1 name: 'Mine!' is not a name",
        "r.yaml:2 seed: Input should be greater than or equal to 0, found -1",
        "r.yaml:6 prepare.max_seq_len: Input should be a valid integer, found '128'",
        "r.yaml:7 prepare.vocab_size: Input should be a valid integer, found 10000.0",
        "r.yaml:8 prepare.tasks.knowledge_maskin: unknown task 'knowledge_maskin'; one of knowledge_masking, ",
        "r.yaml:10 pretrain.learning_rat: unknown key, expected one of learning_rate, ",
        "r.yaml:11 pretrain.weight_decay: ",
        "r.yaml:14 pretrain.clip_norm: Input should be a finite number, found inf",
        "r.yaml:15 pretrain.precision: Input should be 'auto', 'bf16', 'fp16' or 'fp32', found 'fp8'",
    ]
    for start in wanted:
        assert any(line.startswith(start) for line in found), (start, found)
    assert len(found) == len(wanted)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "name: is missing"),
        ("corpora: {a: {package: inews}}", "name: is missing"),
        ("- a", "a recipe is a mapping of keys"),
        ("name: mine\ncorpora: {}", "corpora: "),
        (SMALL + "corpora_: 1", "unknown key, expected one of corpora, "),
        (SMALL.replace("text,", "cvs,"), "corpora.a.reader: unknown reader 'cvs'; one of csv, "),
        (SMALL.replace("}", ", options: {document: file}}"), "reader text has no option 'document'; expected documents, "),
        (
            SMALL.replace("}", ", options: {documents: page}}"),
            "option documents of reader text; expected blank_line, file, line, heading; found 'page'",
        ),
        (SMALL.replace("text,", "csv,").replace("}", ", options: {text: 0}}"), "expected a name, or a column's number from 1; found 0"),
        ("name: m\ncorpora: {a: {package: inews, weight: 0.3}}", "corpora: their weights sum to 0.3, under 1"),
        ("name: m\ncorpora: {a: {package: inews, encoding: big5}}", "encoding: goes with reader and path, not with package"),
        ("name: m\ncorpora: {a: {reader: text}}", "reader and path go together"),
        ("name: m\ncorpora: {a: {package: inews, reader: text, path: x}}", "give either package, or reader and path"),
        ("name: m\ncorpora: {a: {package: os.system}}", "unknown package 'os.system'; one of "),
        ("name: m\ncorpora: {../a: {package: inews}}", "'../a' is not a name"),
        (SMALL + "workers: yes", "workers: Input should be a valid integer, found 'yes'"),
        (
            SMALL + "prepare: {tasks: {sentence_reordering: {max_segment: 3}}}",
            "task sentence_reordering has no option 'max_segment'; expected max_segments",
        ),
        (SMALL + "prepare: {tasks: {sentence_reordering: {max_segments: three}}}", "expected 3 or 4; found 'three'"),
        (SMALL + "prepare: {tasks: {sentence_reordering: {max_segments: 9}}}", "max_segments"),
        (SMALL + "prepare: {encodings: [parquet, csv]}", "prepare.encodings.1: Input should be 'parquet' or 'text', found 'csv'"),
        (SMALL + "finetune: {benchmarks: {reviews: {package: reviews}}}", "finetune needs a pretrain section"),
        (SMALL + "prepare: {tasks: {knowledge_masking: {}}}\npretrain: {}", "prepare.tasks does not build next_sentence, "),
        (SMALL + "pretrain: {stages: [{enter: [dialogues]}]}", "unknown task 'dialogues'"),
        (SMALL + "pretrain: {iterations: {knowledge_masking: 5}}", "iterations: none given for "),
        (SMALL + "pretrain: {stages: [{enter: [knowledge_masking]}]}", "no stage enters "),
        (SMALL + "pretrain: {model: {hidden_size: 100, num_attention_heads: 3}}", "hidden_size 100 is no multiple of num_attention_heads 3"),
        (SMALL + "pretrain: {model: {class: os.system}}", "pretrain.model.class: unknown key"),
        (SMALL + "prepare: {encodings: [text]}\npretrain: {}", "prepare.encodings does not write parquet"),
        (SMALL + "pretrain: {encoding: text}", "mask_unit entity needs encoding: parquet"),
        (
            SMALL + "pretrain: {}\nfinetune: {benchmarks: {reviews: {package: reviews, max_seq_len: 256}}}",
            "256 is beyond the longest trained position, 128",
        ),
        (SMALL + "pretrain: {}\nfinetune: {benchmarks: {daily_nre: {package: reviews}}}", "unknown benchmark 'daily_nre'; one of daily_ner, "),
        (SMALL + "<<: {seed: 1}", "unknown key"),
    ],
)
def test_a_wrong_recipe_is_explained(tmp_path: Path, text: str, says: str) -> None:
    assert any(says in line for line in problems(tmp_path, text)), problems(tmp_path, text)


def test_environment_variables_are_filled_in_and_missing_ones_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SEED", "11")
    monkeypatch.setenv("MY_ROOT", "out # [not yaml")
    monkeypatch.delenv("NOT_SET", raising=False)
    recipe = load_recipe(write(tmp_path, SMALL + "seed: ${MY_SEED}\nroot: ${MY_ROOT}/runs"))
    assert (recipe.seed, recipe.root) == (11, "out # [not yaml/runs")
    assert problems(tmp_path, SMALL + "root: ${NOT_SET}") == ["r.yaml:4 environment variable NOT_SET is not set"]


def test_base_is_merged_key_by_key_and_null_removes(tmp_path: Path) -> None:
    write(
        tmp_path,
        SMALL + "seed: 1\npretrain: {learning_rate: 5e-4, batch_tokens: 512}\nfinetune: {benchmarks: {reviews: {package: reviews}}}",
        "base.yaml",
    )
    recipe = load_recipe(write(tmp_path, "base: base.yaml\nname: other\npretrain: {learning_rate: null}\nfinetune: null"))
    assert recipe.pretrain is not None
    assert (recipe.name, recipe.seed, recipe.finetune) == ("other", 1, None)
    assert (recipe.pretrain.learning_rate, recipe.pretrain.batch_tokens) == (1e-3, 512)


def test_null_is_a_value_where_a_key_has_it_as_one(tmp_path: Path) -> None:
    write(tmp_path, SMALL + "prepare: {phrases: 0.6, vocab_size: 300, tasks: {discourse_relation: {per_class: 9}, next_sentence: {}}}", "base.yaml")
    recipe = load_recipe(
        write(
            tmp_path,
            "base: base.yaml\nprepare: {phrases: null, vocab_size: null, tasks: {discourse_relation: {per_class: null}, next_sentence: null}}",
        )
    )
    assert (recipe.prepare.phrases, recipe.prepare.vocab_size, recipe.prepare.tasks) == (None, 6000, {"discourse_relation": {}})
    assert load_recipe(write(tmp_path, SMALL + "prepare: {phrases: null}")).prepare.phrases is None
    assert load_recipe(write(tmp_path, SMALL), ["prepare.phrases=null"]).prepare.phrases is None
    assert load_recipe(write(tmp_path, print_config(recipe))) == recipe


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("pretrain.iterations={knowledge_masking:20}", "pretrain.iterations.knowledge_masking:20: unknown task"),
        ("pretrain.iterations={knowledge_masking: null}", "pretrain.iterations.knowledge_masking: Input should be a valid integer"),
        ("sede=null", "sede: unknown key, expected one of seed"),
        ("finetune.benchmarks.reviews.seed=null", "unknown key"),
    ],
)
def test_a_null_that_takes_nothing_out_is_no_way_around_the_checks(tmp_path: Path, override: str, says: str) -> None:
    found = problems(tmp_path, SMALL + "pretrain: {batch_tokens: 512}\nfinetune: {benchmarks: {reviews: {package: reviews}}}", override)
    assert any(says in line for line in found), found


def test_a_problem_in_the_base_names_the_base(tmp_path: Path) -> None:
    write(tmp_path, SMALL + "sede: 1\n", "base.yaml")
    assert problems(tmp_path, "base: base.yaml\n")[0].startswith("base.yaml:4 sede: unknown key, expected one of seed")


def test_bases_in_a_circle_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "base: r.yaml\n", "other.yaml")
    assert "circle" in problems(tmp_path, "base: other.yaml\n")[0]


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("seed=9", "seed", 9), ("pretrain.learning_rate=5e-4", "pretrain.learning_rate", 5e-4), ("pretrain.model.num_hidden_layers=2", "pretrain.model.num_hidden_layers", 2),
        ("prepare.encodings=[parquet]", "prepare.encodings", ["parquet"]), ("root=a=b", "root", "a=b"), ("pretrain=null", "pretrain", None),
    ],
)  # fmt: skip
def test_set_overrides_one_key_with_the_recipe_s_own_yaml(tmp_path: Path, override: str, path: str, value: object) -> None:
    recipe: Any = load_recipe(write(tmp_path, SMALL + "pretrain: {batch_tokens: 512}"), [override])
    for name in path.split("."):
        recipe = getattr(recipe, name)
    assert recipe == value


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("seed", "E-SET --set needs KEY=VALUE"),
        ("=3", "E-SET --set needs KEY=VALUE"),
        ("pretrain.model.class=os.system", "--set pretrain.model.class pretrain.model.class: unknown key"),
        ("pretrain.lerning_rate=1", "expected one of learning_rate"),
        ("seed=!!python/name:os.system", "is refused"),
    ],
)
def test_a_wrong_set_is_explained(tmp_path: Path, override: str, says: str) -> None:
    assert says in problems(tmp_path, SMALL, override)[0]


def test_a_missing_recipe_file_exits_2(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"E-RECIPE-MISSING.*nowhere\.yaml"):
        load_recipe(tmp_path / "nowhere.yaml")


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(b"name: \xff")
    with pytest.raises(RecipeError, match="byte 6"):
        load_recipe(tmp_path / "r.yaml")


def every_section(kind: type[BaseModel]) -> set[type[BaseModel]]:
    found: set[type[BaseModel]] = {kind}
    for info in kind.model_fields.values():
        stack: list[Any] = [info.annotation]
        while stack:
            part = stack.pop()
            if isinstance(part, type) and issubclass(part, BaseModel):
                found |= every_section(part)
            stack += getattr(part, "__args__", ())
    return found


def test_every_field_has_a_meaning() -> None:
    sections = every_section(Recipe)
    assert len(sections) == 12
    assert [f"{s.__name__}.{name}" for s in sections for name, info in s.model_fields.items() if not info.description] == []


def test_what_a_recipe_gives_is_told_apart_from_defaults(tmp_path: Path) -> None:
    text = SMALL + "workers: 3\nprepare: {vocab_size: 700, tasks: {next_sentence: {}}}\n"
    recipe = load_recipe(write(tmp_path, text), ["prepare.valid_share=0.2"])
    given = given_settings(recipe)
    assert given == {
        "name": "mine", "corpora": {"a": {"reader": "text", "path": given["corpora"]["a"]["path"]}},
        "prepare": {"vocab_size": 700, "tasks": {"next_sentence": {}}, "valid_share": 0.2},
    }  # fmt: skip
    assert given["corpora"]["a"]["path"].endswith("x.txt")


def test_the_fields_that_do_not_change_results_are_exactly_these() -> None:
    free = {f"{s.__name__}.{name}" for s in every_section(Recipe) for name, info in s.model_fields.items() if not changes_results(info)}
    assert free == {
        "Recipe.root", "Recipe.workers", "Recipe.gpus_on_demand", "Recipe.resources_wait_s", "Recipe.tracking", "Tracking.uri", "Tracking.experiment", "Tracking.system_metrics", "Pretrain.device_tokens", "Pretrain.workers",
        "Pretrain.save_steps", "Pretrain.skip_steps", "Pretrain.keep_checkpoints", "Pretrain.keep_best", "Pretrain.timeout_s", "Pretrain.recompute", "Tracking.register_as", "Finetune.workers_per_trial", "Corpus.max_files", "Corpus.max_expanded_bytes",
            "Prepare.memory_gb", "Pretrain.memory_gb", "Finetune.memory_gb", "Pretrain.grow_after_s",
    }  # fmt: skip


def test_results_settings_hold_only_what_changes_results(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL + "pretrain: {}")
    one = results_settings(load_recipe(path))
    assert one == results_settings(
        load_recipe(path, ["root=elsewhere", "workers=0", "tracking.uri=http://x:1", "pretrain.skip_steps=1", "pretrain.workers=3"])
    )
    assert one != results_settings(load_recipe(path, ["pretrain.model.dropout=0.1"]))
    assert one["pretrain"]["stages"][1] == {
        "enter": ["token_document"],
        "mask_unit": "entity",
        "mask_probability": None,
        "learning_rate": None,
        "carry": [],
    }


def test_print_config_hides_passwords_and_marks_what_is_free(tmp_path: Path) -> None:
    text = print_config(load_recipe(write(tmp_path, SMALL + "tracking: {uri: 'http://me:secret@host:5000'}")))
    assert "secret" not in text
    assert "http://***@host:5000" in text
    assert "seed: 7  # every random" in text
    assert "workers: 2  # ~ " in text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pretrain: {model: {named: ernie1_base_zh}}", "ernie1_base_zh tells 2 sentence types apart, and sentence_reordering needs more"),
        ("pretrain: {model: {named: [x]}}", "pretrain.model.named: Input should be a valid string"),
        ("prepare: {long_rows: {max_seq_len: 100}}", "long_rows.max_seq_len 100 is not over max_seq_len 128"),
        ("prepare: {long_rows: {}}\npretrain: {schedule: sequential}", "set pretrain.long_share: 0"),
        (
            "prepare: {long_rows: {}}\npretrain: {stages: [{enter: [next_sentence], mask_unit: word}], iterations: {next_sentence: 9}}",
            "none of pretrain.iterations' tasks has long rows",
        ),
    ],
)
def test_shapes_and_rows_that_do_not_fit_the_tasks_are_refused(tmp_path: Path, text: str, says: str) -> None:
    assert any(says in line for line in problems(tmp_path, SMALL + text)), problems(tmp_path, SMALL + text)


def test_sequential_may_be_compared_on_a_preparation_with_long_rows(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, SMALL + "prepare: {long_rows: {}}\npretrain: {schedule: sequential, long_share: 0}")).trained_positions == 128
