"""Selection: whatever the bytes, nothing crashes and every record is accounted for; what cleaning is asked for is done to every kind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prepare_helper import SETTINGS, document, run_prepare

from corpus_prep.dedup import contamination_table
from corpus_prep.selection import OUTCOMES, Selection, select_documents
from corpus_prep.splits import plan_splits, read_split
from ernie_core.errors import InputError
from ernie_core.normalise import Normaliser, normalise, num_dropped

EVERY_FILTER = {
    "min_chars": 2, "max_chars": 60, "min_language_share": 0.3, "max_repeated_sentences": 0.4, "max_repeated_lines": 0.4, "max_top_char": 0.5,
    "max_top_run": 0.5, "max_repeated_runs": 0.5, "max_line_chars": 58, "max_broken_sentences": 0.1, "max_advert_words": 6,
}  # fmt: skip
BENCHMARK = "一二三四五六七八九十百千万亿兆"


def selected(path: Path, data: bytes, reader: dict[str, Any], **changes: Any) -> Selection:
    path.write_bytes(b"x\n\nx\n")  # a file to plan by; its bytes are then replaced
    (split,) = plan_splits({"c": {"path": str(path), **reader}}, 1 << 20)
    (piece,), _ = read_split(split)
    table = contamination_table({"b": [BENCHMARK, "天气怎么样"]}, Normaliser(changes.get("to_simplified", False)))
    return select_documents(split, [replace(piece, data=data)], table, {**SETTINGS, **changes})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=300) | st.text(st.sampled_from('好坏\n。 a{}"[]\\:\u200b\u202e\ufeff瞭') | st.characters(), max_size=80).map(lambda t: t.encode("utf-8", "surrogatepass")),
    st.sampled_from(["text", "jsonl"]), st.booleans(), st.sampled_from(["zh", "en", "mixed"]),
)  # fmt: skip
def test_no_bytes_crash_it_and_every_record_is_accounted_for(tmp_path: Path, data: bytes, reader: str, to_simplified: bool, language: str) -> None:
    found = selected(
        tmp_path / "x",
        data,
        {"reader": reader},
        filters=EVERY_FILTER,
        html_entities=True,
        escapes=True,
        whole_lines=language == "mixed",
        prompt_lines=language != "en",
        to_simplified=to_simplified,
        language=language,
    )
    sums = [sum(v.values()) if isinstance(v := found.facts[name], dict) else v for name in OUTCOMES]
    assert sum(sums) == found.facts["read"]
    assert found.facts["kept"] == len(found.kept)
    for kept in found.kept:
        assert kept.lowered
        for lower, original in kept.paragraphs:
            assert normalise(lower)[0] == lower
            assert len(lower) == len(original)


def test_what_is_invisible_is_counted_and_neither_hides_nor_splits_a_benchmark_text(tmp_path: Path) -> None:
    hidden = "\u202e".join(BENCHMARK) + "\u200b。"
    assert num_dropped(hidden) == len(BENCHMARK)
    found = selected(tmp_path / "x", f"{hidden}\n\n天\u00ad气怎么样\n\n别的文字".encode(), {"reader": "text"})
    assert found.facts["contaminated"] == {"b": 2}
    assert found.facts["dropped_characters"] == len(BENCHMARK) + 1
    assert [d["benchmark"] for d in found.facts["contaminated_documents"]] == ["b", "b"]


@pytest.mark.parametrize(("to_simplified", "kept"), [(False, 1), (True, 0)])
def test_a_benchmark_is_found_in_other_characters_where_both_are_simplified(tmp_path: Path, to_simplified: bool, kept: int) -> None:
    traditional = BENCHMARK.replace("万", "萬").replace("亿", "億")
    found = selected(tmp_path / "x", traditional.encode(), {"reader": "text"}, to_simplified=to_simplified)
    assert len(found.kept) == kept


def test_short_questions_and_sentences_of_pairs_are_compared_by_themselves_but_no_utterance_is(tmp_path: Path) -> None:
    qa = [
        {"question": "天气怎么样", "answers": ["很好。"]},
        {"question": "天气好吗", "answers": ["天气怎么样"]},
        {"question": "天气好吗", "answers": ["很好"]},
    ]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in qa).encode()
    assert selected(tmp_path / "x", lines, {"reader": "qa"}).facts["contaminated"] == {"b": 2}
    pairs = "\n".join(
        json.dumps({"sentence1": a, "sentence2": b, "label": "0"}, ensure_ascii=False) for a, b in (("甲", "天气怎么样"), ("甲", "天气"))
    )
    assert selected(tmp_path / "x", pairs.encode(), {"reader": "pairs", "options": {"format": "jsonl"}}).facts["contaminated"] == {"b": 1}
    assert selected(tmp_path / "x", "天气怎么样\n很好。".encode(), {"reader": "text"}).facts["contaminated"] == {}


def test_titles_are_compared_with_the_benchmarks_and_counted_as_text_is(tmp_path: Path) -> None:
    rows = [{"title": title, "text": "别的文字。"} for title in (f"题：{BENCHMARK}", "天气怎么样", "天气怎么样呢")]
    for i, row in enumerate(rows):
        found = selected(tmp_path / "x", json.dumps(row, ensure_ascii=False).encode(), {"reader": "jsonl", "options": {"title": "title"}})
        assert found.facts["contaminated"] == ({"b": 1} if i < 2 else {})
    assert found.token_counts == dict.fromkeys("别的文字。天气怎么样呢", 1)


def test_a_corpus_of_one_text_again_and_again_is_an_error_that_names_the_task(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    rows = [json.dumps({"title": "题", "text": document(5)}, ensure_ascii=False)] * 20
    (tmp_path / "in" / "two.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (tmp_path / "in" / "one.txt").write_text("\n\n".join([document(5)] * 20), encoding="utf-8")
    with pytest.raises(InputError, match="E-TASK-EMPTY") as e:
        run_prepare(tmp_path / "in", tmp_path / "out")
    assert "next_sentence" in e.value.what


def test_a_line_of_ten_megabytes_takes_seconds(tmp_path: Path) -> None:
    text = "今天天气很好我们去公园玩" * 300_000
    found = selected(
        tmp_path / "x",
        text.encode(),
        {"reader": "text", "max_document_bytes": 1 << 30},
        filters={**EVERY_FILTER, "max_chars": 1e9, "max_repeated_runs": 1.0},
    )
    assert found.facts["read"] == 1
