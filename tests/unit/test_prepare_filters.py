"""Filters: what each measures, that a document is left out exactly beyond the bound, and that every one is counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prepare_helper import document, run_prepare, write_corpus

from corpus_prep.clean import clean
from corpus_prep.filters import FILTERS, check_filters, chinese_share, filtered_by, num_chars, repeated_share
from corpus_prep.readers.base import RawDocument
from ernie_core.errors import RecipeError

DOCUMENT = ["第一句话在这里。第二句话在那里。第一句话在这里。", "plain english text 好"]
FIGURES = {"min_chars": 24 + 17, "max_chars": 24 + 17, "min_chinese_share": 22 / 38, "max_repeated_share": 8 / 44}


@pytest.mark.parametrize("name", FILTERS)
def test_a_document_is_left_out_beyond_the_bound_and_kept_at_it(name: str) -> None:
    figure = FIGURES[name]
    assert FILTERS[name].measure(DOCUMENT) == pytest.approx(figure)
    beyond = figure * 1.01 if FILTERS[name].at_least else figure * 0.99
    assert filtered_by(DOCUMENT, {name: beyond}) == name
    assert filtered_by(DOCUMENT, {name: FILTERS[name].measure(DOCUMENT)}) is None
    assert filtered_by(DOCUMENT, {}) is None


@given(st.lists(st.text()))
def test_no_text_breaks_a_measure_and_shares_are_shares(paragraphs: list[str]) -> None:
    assert num_chars(paragraphs) >= 0
    assert 0 <= chinese_share(paragraphs) <= 1
    assert 0 <= repeated_share(paragraphs) < 1


@pytest.mark.parametrize(
    "bounds", [{"min_chars": -1}, {"max_repeated_share": 1.5}, {"min_chinese_share": float("nan")}, {"min_chars": 9, "max_chars": 8}]
)
def test_impossible_bounds_are_refused(bounds: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="E-FILTER"):
        check_filters(bounds)


def test_html_entities_become_characters_only_where_asked() -> None:
    raw = RawDocument("a", 0, "A&amp;B", ("&#20320;&nbsp;好&lt;br&gt;",))
    plain, replaced = clean(raw, html_entities=False), clean(raw, html_entities=True)
    assert plain is not None
    assert replaced is not None
    assert plain.paragraphs[0][0] == "&#20320;&nbsp;好&lt;br&gt;"
    assert (replaced.title, replaced.paragraphs[0][0]) == ("a&b", "你 好<br>")


def test_every_filtered_document_is_counted_by_its_filter(tmp_path: Path) -> None:
    write_corpus(tmp_path / "in")
    sentence = "同一句话说了又说。"
    texts = [sentence * 9, "plain english words only here", "太短。", document(500)]
    (tmp_path / "in" / "poor.txt").write_text("\n\n".join(texts), encoding="utf-8")
    bounds = {"min_chars": 8, "min_chinese_share": 0.5, "max_repeated_share": 0.5}
    facts = run_prepare(tmp_path / "in", tmp_path / "out", filters=bounds).facts["documents"]
    assert facts["filtered_by"] == {"min_chars": 1, "min_chinese_share": 1, "max_repeated_share": 1}
    unfiltered = run_prepare(tmp_path / "in", tmp_path / "all").facts["documents"]
    assert facts["kept"] == unfiltered["kept"] - 3
