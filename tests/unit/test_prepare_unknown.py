"""[UNK] by script: counted on tokens as they are, said and kept in the manifest."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from prepare_helper import document, run_prepare

from corpus_prep.unknown import language_hint, script_of, unknown_by_script, unknown_line
from ernie_core.manifest import read_manifest
from ernie_core.normalise import basic_tokens, normalise
from ernie_core.tokenization import Tokenizer, load_tokenizer
from ernie_core.vocab import Vocab


@pytest.mark.parametrize(
    ("character", "script"),
    [("好", "han"), ("㐀", "han"), ("a", "latin"), ("é", "latin"), ("я", "cyrillic"), ("あ", "hiragana"), ("한", "hangul"), ("ス", "katakana"),
     ("7", "digits"), ("٣", "digits"), ("，", "marks"), ("😀", "marks"), ("\ue000", "marks")],
)  # fmt: skip
def test_scripts_of_characters(character: str, script: str) -> None:
    assert script_of(character) == script


def test_unknown_tokens_are_counted_by_script(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("[PAD]\n[CLS]\n[SEP]\n[MASK]\n[UNK]\n好\nab\n##c\n", encoding="utf-8")
    counts = {"好": 3, "㐀": 1, "abc": 2, "abd": 5, "я": 1, "，": 4}
    found = unknown_by_script(counts, Tokenizer(Vocab.load(path)))
    assert found == {
        "cyrillic": {"tokens": 1, "unknown": 1}, "han": {"tokens": 4, "unknown": 1}, "latin": {"tokens": 7, "unknown": 5}, "marks": {"tokens": 4, "unknown": 4},
    }  # fmt: skip
    assert unknown_line(found) == "latin 71.43 % of 7, han 25.00 % of 4, marks 100.00 % of 4, cyrillic 100.00 % of 1"


def test_rates_of_a_corpus_are_those_of_its_tokens(corpus: Path, whole: Path) -> None:
    """Document 3 is left out: it shares a run with a benchmark. The titles of the first corpus count."""
    tokenizer = load_tokenizer(whole / "tables" / "vocab.txt")
    kept = [document(i) for i in range(40) if i != 3]
    tokens = Counter(t for text in [*kept, *["题"] * 19] for t in basic_tokens(normalise(text)[0]))
    facts = read_manifest(whole).facts["vocab"]["scripts"]
    assert facts == unknown_by_script(tokens, tokenizer)
    assert facts["han"]["tokens"] > 1000


def test_rates_are_said(corpus: Path, tmp_path: Path) -> None:
    said: list[str] = []
    run_prepare(corpus, tmp_path / "out", said=said)
    assert any(line.startswith("prepare: [UNK] by script: han 0.00 % of ") for line in said), said


@pytest.mark.parametrize(
    ("han", "latin", "language", "said"),
    [(5, 4, "zh", ""), (4, 5, "zh", "en"), (4, 5, "en", ""), (5, 4, "en", "zh"), (5, 4, "mixed", ""), (0, 0, "zh", ""), (0, 0, "en", "")],
)  # fmt: skip
def test_text_that_is_mostly_of_another_language_is_told_of(han: int, latin: int, language: str, said: str) -> None:
    scripts = {name: {"tokens": tokens, "unknown": 0} for name, tokens in (("han", han), ("latin", latin)) if tokens}
    hint = language_hint(scripts, language)
    assert (f"set language: {said}, or mixed" in hint) if said else hint == ""


def test_english_text_under_the_default_language_is_told_of(tmp_path: Path) -> None:
    said: list[str] = []
    folder = tmp_path / "in"
    folder.mkdir()
    text = [f"The {i} old houses of the town stood near the river. Nobody had lived there for {i} years." for i in range(40)]
    (folder / "one.txt").write_text("\n\n".join(text) + "\n", encoding="utf-8")
    (folder / "two.jsonl").write_text(
        json.dumps({"title": "", "text": "They said it was for the best. It was not, of course."}) + "\n", encoding="utf-8"
    )
    run_prepare(folder, tmp_path / "out", said=said, tasks={"knowledge_masking": {}})
    assert any(line.startswith("prepare: WARN E-LANGUAGE most of the text is Latin") for line in said), said
