"""Rows made elsewhere, of five and of seven fields, from file lists to a pretrained model; what is wrong with a line is said with its number."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recipe_helper import model_facts, points, pretrained

from corpus_prep.verify import verify
from ernie_core.data.reference import import_filelist
from ernie_core.data.shards import ShardSet
from ernie_core.errors import InputError, RecipeError
from ernie_core.manifest import Manifest, read_manifest
from ernie_core.vocab import Vocab
from pipelines.estimate import estimate
from pipelines.portable import relative_paths
from pipelines.prepared import prepared_tokenizer
from pipelines.rank_state import LOG_NAME
from pipelines.recipe import load_recipe
from pipelines.recipe_print import print_config
from pipelines.recipe_schema import Recipe
from pipelines.steps import run_steps
from pipelines.workflow import run_folder, steps_of

VOCAB = Vocab(("[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", *"abcdefghij"))
WORDS = ("capitalization", "token_document")
PAIR = "1 5 6 2 7 2;0 0 0 0 1 1;0 1 2 3 4 5;-1 0 1 -1 0 -1;1"
SEVEN = "1 5 6 2 7 2;0 0 0 0 1 1;0 1 2 3 4 5;-1 0 1 -1 0 -1;-1 1 1 -1 0 -1;-1 0 0 -1 -1 -1;1"
RECIPE = """
name: rows
filelists:
  knowledge_masking: {{train: five_list, valid: five_list}}
  next_sentence: {{train: words_list, valid: five_list}}
  sentence_reordering: {{train: seven_list, valid: seven_list, token_labels: [capitalization, token_document], options: {{max_segments: 4}}}}
  capitalization: {{train: seven_list, valid: seven_list, token_labels: [capitalization, token_document]}}
  token_document: {{train: seven_list, valid: seven_list, token_labels: [capitalization, token_document]}}
prepare: {{vocab: vocab.txt, max_seq_len: 16, group_rows: 16}}
pretrain:
  model: {{num_hidden_layers: 1, hidden_size: 16, num_attention_heads: 2}}
  iterations: {{knowledge_masking: 4, next_sentence: 4, capitalization: 2, token_document: 2, sentence_reordering: 6}}
  stages:
    - {{enter: [knowledge_masking, next_sentence, capitalization, token_document]}}
    - {{enter: [sentence_reordering], carry: [capitalization, token_document]}}
  batch_tokens: 256
  warmup_share: 0
  validation_steps: 9
{more}
"""


def row(draw: np.random.Generator, segments: int, *, seven: bool) -> str:
    """Return a line: segments of 1 to 3 words of 1 or 2 tokens; labels of words that follow from their tokens."""
    columns: list[list[int]] = [[1], [0], [-1], [-1], [-1]]
    for segment in range(segments):
        for _ in range(int(draw.integers(1, 4))):
            word = draw.integers(5, VOCAB.size, draw.integers(1, 3)).tolist()
            labels = (word[0] % 2, word[0] % 3 - 1)
            for place, token in enumerate(word):
                for column, value in zip(columns, (token, segment, min(place, 1), *labels), strict=True):
                    column.append(value)
        for column, value in zip(columns, (2, segment, -1, -1, -1), strict=True):
            column.append(value)
    ids, types, seg, *labels_of = columns
    fields = [ids, types, list(range(len(ids))), seg, *(labels_of if seven else []), [int(draw.integers(2))]]
    return ";".join(" ".join(map(str, field)) for field in fields)


def write_files(folder: Path) -> None:
    draw = np.random.default_rng(5)
    files = {"five": [row(draw, 2, seven=False) for _ in range(120)], "seven": [row(draw, 2 + i % 3, seven=True) for i in range(150)]}
    for name, lines in files.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    for name, line in (("five", "five.gz\t0"), ("words", "five.gz\t1.1"), ("seven", "seven.gz\t1.1")):
        (folder / f"{name}_list").write_text(f"{line}\n")
    (folder / "vocab.txt").write_bytes(VOCAB.to_bytes())


def written(folder: Path, *changes: tuple[str, str], more: str = "") -> Path:
    write_files(folder)
    text = RECIPE.format(more=more)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "rows.yaml").write_text(text)
    return folder / "rows.yaml"


def test_listed_rows_of_five_and_seven_fields_are_trained_on_as_their_lists_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, said = pretrained(written(tmp_path), monkeypatch)
    manifest = read_manifest(run / "prepare")
    assert verify(run / "prepare", manifest, prepared_tokenizer(run / "prepare", manifest).vocab)["rows"] == 5 * 2 * 120 + 3 * 2 * 30 - sum(
        t["drops"].get("too_long", 0) for t in manifest.facts["tasks"].values()
    )
    lines = [line for line in (run / "pretrain" / LOG_NAME).read_text().splitlines() if "mask_type" in line]
    kinds = {(match[1], match[2]) for line in lines if (match := re.search(r"file: shards/(\w+)/\S+, mask_type: (\w+),", line))}
    assert {kind for kind in kinds if kind[0] in {"knowledge_masking", "next_sentence"}} == {
        ("knowledge_masking", "mask_char"), ("next_sentence", "mask_word"),
    }  # fmt: skip
    assert {name for name, _ in kinds} == {"knowledge_masking", "next_sentence", "sentence_reordering", *WORDS}
    scored = {name for point in points(run) for name in point["metrics"]}
    assert {f"valid/{task}/auc" for task in WORDS} | {"valid/sentence_reordering/acc_4", "valid/next_sentence/acc"} <= scored
    assert any("carries" in line for line in said)
    assert model_facts(run)["steps"] == 18


def test_every_field_of_a_line_arrives_where_it_belongs(tmp_path: Path) -> None:
    write_files(tmp_path)
    entries = import_filelist(
        tmp_path / "seven_list",
        tmp_path / "out",
        subset="train",
        task="sentence_reordering",
        vocab=VOCAB,
        options={"max_segments": 4},
        token_labels=WORDS,
    )
    text = next(e for e in entries if e.facts["encoding"] == "text")
    assert gzip.decompress((tmp_path / "out" / text.path).read_bytes()) == gzip.decompress((tmp_path / "seven.gz").read_bytes())
    masking = import_filelist(tmp_path / "seven_list", tmp_path / "two", subset="train", task="knowledge_masking", vocab=VOCAB, token_labels=WORDS)
    text = next(e for e in masking if e.facts["encoding"] == "text")
    lines = gzip.decompress((tmp_path / "two" / text.path).read_bytes()).decode().splitlines()
    given = gzip.decompress((tmp_path / "seven.gz").read_bytes()).decode().splitlines()
    assert lines == [line.rpartition(";")[0] + ";-1" for line in given], "masking has no sentence-level label"
    manifest_like: Any = type("M", (), {"files": tuple(entries), "settings": {}})
    rows = ShardSet.open(tmp_path / "out", manifest_like, "sentence_reordering", "train", "parquet").read_group(0).sample(0)
    fields = [list(map(int, field.split())) for field in given[0].split(";")]
    assert [
        rows.token_ids,
        rows.sentence_type_ids,
        rows.position_ids,
        rows.seg_labels,
        *(rows.token_labels[n] for n in WORDS),
        [rows.label],
    ] == fields


@pytest.mark.parametrize(
    ("task", "line", "code", "expected", "found"),
    [
        ("next_sentence", SEVEN, "E-SAMPLE-FORMAT", "must be named: token_labels", "7 fields"),
        ("seven", PAIR, "E-SAMPLE-FORMAT", "7 fields", "5 fields"),
        ("next_sentence", PAIR.replace("4 5;", "4;"), "E-SAMPLE-FORMAT", "equally many in every field", "[6, 6, 5, 6, 1]"),
        ("next_sentence", PAIR.replace(";1", ";x"), "E-SAMPLE-FORMAT", "digits", "not an integer"),
        ("next_sentence", PAIR + " 1", "E-SAMPLE-FORMAT", "one label", "6, 2]"),
        ("next_sentence", PAIR[:-1] + "2", "E-LABEL-RANGE", "-1 to 1", "found 2"),
        ("next_sentence", PAIR.replace("5 6", "5 15"), "E-TOKEN-RANGE", "0 to 14", "found 15"),
        ("next_sentence", PAIR.replace("5 6", "5 0"), "E-TOKEN-RANGE", "any but 0", "found 0"),
        ("next_sentence", PAIR.replace("-1 0 1", "-1 0 2"), "E-SEG-RANGE", "-1 to 1", "found 2"),
        ("next_sentence", PAIR.replace("-1 0 1", "-1 -1 1"), "E-CONTRACT", "-1 exactly at [CLS] and [SEP]", "token id 5"),
        ("next_sentence", PAIR.replace("-1 0 1", "-1 1 1"), "E-CONTRACT", "a word begins behind", "seg label 1"),
        ("next_sentence", PAIR.replace("0 1 2 3", "0 1 1 3"), "E-CONTRACT", "positions count", "position 1"),
        ("next_sentence", PAIR.replace("1 5 6", "5 5 6").replace("-1 0 1", "0 0 1"), "E-CONTRACT", "begins with [CLS]", "token id 5"),
        ("seven", SEVEN.replace("-1 1 1 -1", "1 1 1 -1"), "E-CONTRACT", "no label of capitalization at [CLS]", "token id 1"),
        ("seven", SEVEN.replace("-1 1 1 -1", "-1 2 1 -1"), "E-LABEL-RANGE", "-1 to 1", "found 2"),
        ("sentence_reordering", "1 5 2 6 2 7 2 8 2;0 0 0 1 1 2 2 3 3;0 1 2 3 4 5 6 7 8;-1 0 -1 0 -1 0 -1 0 -1;8", "E-LABEL-RANGE", "0 to 8", "4 segments"),
    ],
)  # fmt: skip
def test_a_malformed_line_is_named_with_what_was_expected_and_found(
    tmp_path: Path, task: str, line: str, code: str, expected: str, found: str
) -> None:
    names = WORDS if task == "seven" else ()
    good = SEVEN if names else PAIR
    (tmp_path / "a.gz").write_bytes(gzip.compress("".join(f"{one}\n" for one in [good] * 600 + [line] + [good] * 3).encode()))
    (tmp_path / "list").write_text("a.gz\t1.1\n")
    with pytest.raises(InputError) as error:
        import_filelist(
            tmp_path / "list", tmp_path / "out", subset="train", task="next_sentence" if names else task, vocab=VOCAB, token_labels=names
        )  # fmt: skip
    said = str(error.value)
    assert (error.value.code, error.value.exit_code) == (code, 3)
    assert "a.gz line 601" in error.value.where
    assert expected in error.value.expected
    assert found in said
    assert not list((tmp_path / "out").glob("**/*.parquet"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ((("vocab: vocab.txt, ", ""),), "prepare.vocab: file lists hold token ids"),
        ((("group_rows: 16", "group_rows: 16, whole_lines: true"),), "prepare: whole_lines is of text"),
        ((("token_labels: [capitalization, token_document]}\n  token", "token_labels: [token_document]}\n  token"),), "filelists.capitalization: its labels are those of single tokens"),
        ((("token_labels: [capitalization, token_document], opt", "token_labels: [next_sentence], opt"),), "next_sentence: no task with labels of single tokens"),
        ((("max_segments: 4", "max_segments: 5"),), "sentence_reordering cannot take this max_segments"),
        ((("  knowledge_masking: {train: five_list, valid: five_list}\n", ""),), "filelists name no rows of knowledge_masking"),
        ((("carry: [capitalization, token_document]", "carry: [capitalization], mask_unit: basic"),), "mask_unit basic: the file lists' probability decides"),
        ((("name: rows", "name: rows\ncorpora: {a: {reader: text, path: x}}"),), "filelists: stand instead of corpora"),
    ],
)  # fmt: skip
def test_a_recipe_whose_lists_do_not_fit_is_refused(tmp_path: Path, changes: tuple[tuple[str, str], ...], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe(written(tmp_path, *changes))
    assert message in str(error.value)


def prepared(recipe: Recipe) -> Manifest:
    """Bring the prepare step up to date, without tracking."""
    return run_steps(steps_of(recipe), run_folder(recipe), lambda _: None, until="prepare")["prepare"]


def load_recipe_of(text: str, folder: Path) -> Any:
    (folder / "printed.yaml").write_text(text)
    return load_recipe(folder / "printed.yaml")


def test_another_probability_does_the_import_again_and_lists_without_rows_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(written(tmp_path), ["workers=0"])
    assert load_recipe_of(print_config(recipe), tmp_path) == recipe
    assert estimate(recipe).input_bytes == sum(2 * (tmp_path / f).stat().st_size for f in ("five.gz", "five.gz", "seven.gz", "seven.gz", "seven.gz"))
    assert relative_paths(recipe)[1:3] == ["filelists.knowledge_masking.train: five_list", "filelists.knowledge_masking.valid: five_list"]
    first = prepared(recipe).sha256
    assert prepared(recipe).sha256 == first
    (tmp_path / "five_list").write_text("five.gz\t0.25\n")
    again = prepared(recipe)
    assert again.sha256 != first
    assert {f.facts["mask_word_probability"] for f in again.files if f.facts.get("task") == "knowledge_masking"} == {0.25}
    (tmp_path / "five.gz").write_bytes(
        gzip.compress(("1" + " 5" * 30 + " 2;" + " ".join(["0"] * 32) + ";" + " ".join(map(str, range(32))) + ";-1" + " 0" * 30 + " -1;1\n").encode())
    )
    with pytest.raises(InputError, match=r"E-TASK-EMPTY task knowledge_masking has no train rows; at five_list; .*at most 16 tokens; found 1 longer"):
        prepared(recipe)
    (tmp_path / "seven.gz").unlink()
    with pytest.raises(InputError, match=r"E-FILELIST a listed file is missing; at seven_list line 1"):
        prepared(recipe)
