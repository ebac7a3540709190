"""Filters: what each measures, that a document is left out exactly beyond the bound, and that every one is counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prepare_helper import document, run_prepare, write_corpus

from corpus_prep.clean import clean
from corpus_prep.filters import FILTERS, Measured, check_filters, filtered_by
from corpus_prep.paragraphs import is_prompt, is_whole
from corpus_prep.readers.base import RawDocument
from corpus_prep.token_stream import token_stream
from ernie_core.errors import RecipeError
from ernie_core.normalise import basic_tokens, normalise

TEXTS = ["第一句话在这里。第二句话在那里。第一句话在这里。", "plain english text 好", "plain english text 好"]
FIGURES = {
    "min_chars": 24 + 2 * 17, "max_chars": 24 + 2 * 17, "min_language_share": 23 / 55, "max_repeated_sentences": (8 + 20) / 64,
    "max_repeated_lines": 20 / 64, "max_line_chars": 24, "max_top_char": 4 / 58, "max_top_run": 8 / 32, "max_repeated_runs": 0.0,
    "max_broken_sentences": 0.0, "max_advert_words": 0.0,
}  # fmt: skip


def measured(paragraphs: list[str], language: str = "zh") -> Measured:
    return Measured(paragraphs, token_stream([paragraphs]).hashes, language)


@pytest.mark.parametrize("name", FILTERS)
def test_a_document_is_left_out_beyond_the_bound_and_kept_at_it(name: str) -> None:
    document = measured(TEXTS)
    figure = FIGURES[name]
    assert FILTERS[name].measure(document) == pytest.approx(figure)
    beyond = figure * 1.01 if FILTERS[name].at_least else figure * 0.99 - 1e-9
    assert filtered_by(document, {name: beyond}) == name
    assert filtered_by(document, {name: FILTERS[name].measure(document)}) is None
    assert filtered_by(document, {}) is None


@pytest.mark.parametrize(("language", "share"), [("zh", 2 / 9), ("en", 6 / 9), ("mixed", 8 / 9)])
def test_the_share_of_a_script_is_that_of_the_corpus_language(language: str, share: float) -> None:
    assert FILTERS["min_language_share"].measure(measured(["买 iphoné！吧 д 12"], language)) == pytest.approx(share)


def test_repeated_runs_are_found_wherever_they_stand() -> None:
    run = "一二三四五六七八九十"
    assert FILTERS["max_repeated_runs"].measure(measured([f"{run}甲乙{run}"])) == pytest.approx(10 / 22)
    assert FILTERS["max_repeated_runs"].measure(measured([run[:9] + "甲" + run[:9]])) == 0
    assert FILTERS["max_top_run"].measure(measured(["一二三四五一二三四"])) == pytest.approx(8 / 9)
    assert FILTERS["max_top_run"].measure(measured([run])) == 0
    assert FILTERS["max_top_char"].measure(measured(["哈哈 哈！"])) == 0.75


def test_sentence_ends_inside_words_are_found_and_chance_is_none() -> None:
    figure = FILTERS["max_broken_sentences"].measure
    assert figure(measured(["降。雨过。程持。续到今。天，雨停了。"])) == 1.0
    assert figure(measured(["降。雨过。程持。续到今。天，雨停了。他走了。我来。"])) == pytest.approx(4 / 6)
    assert figure(measured(["降。雨过。程，雨停了。他走了。我来。"])) == 0  # two may be chance
    assert figure(measured(["降雨过程持续到今天。他走了。我来。天冷。风大。"])) == 0
    assert figure(measured(["降。雨过", "程持。续到"])) == 0  # a paragraph's end joins nothing


def test_words_of_advertisements_count_from_two_different_ones_on() -> None:
    figure = FILTERS["max_advert_words"].measure
    assert figure(measured(["一款轻松的全新游戏。"])) == 300
    assert figure(measured(["一款游戏，", "一款音乐。"])) == 0
    assert figure(measured(["buy now, special offer! call now!"])) == pytest.approx(1000 * 3 / 28)
    assert figure(measured(["discounted subscribers, 一款"])) == 0  # parts of English words are none


@given(st.lists(st.text(st.sampled_from("甲乙丙 "), max_size=40), max_size=3))
def test_coverage_by_runs_equals_a_plain_count(paragraphs: list[str]) -> None:
    tokens = basic_tokens("\n".join(paragraphs).replace("\n", " "))
    runs = [tuple(tokens[i : i + 10]) for i in range(len(tokens) - 9)]
    again = {i + k for i, run in enumerate(runs) if run in runs[:i] for k in range(10)}
    assert FILTERS["max_repeated_runs"].measure(measured(paragraphs)) == pytest.approx(len(again) / max(1, len(tokens)))


@given(st.lists(st.text()), st.sampled_from(["zh", "en", "mixed"]))
def test_no_text_breaks_a_measure_and_shares_are_shares(texts: list[str], language: str) -> None:
    document = measured([normalise(text)[0] for text in texts], language)
    for rule in FILTERS.values():
        assert 0 <= rule.measure(document) <= rule.largest


@pytest.mark.parametrize(
    "bounds", [{"min_chars": -1}, {"max_repeated_sentences": 1.5}, {"min_language_share": float("nan")}, {"min_chars": 9, "max_chars": 8}]
)
def test_impossible_bounds_are_refused(bounds: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="E-FILTER"):
        check_filters(bounds)


def test_written_out_escapes_end_paragraphs_or_become_spaces_only_where_asked() -> None:
    raw = RawDocument("x", 0, r"标题\n", (r"第一行\n\n第二行\t完。", r"\r\n", "真的\n换行"))
    plain, replaced = clean(raw, normalise, html_entities=False), clean(raw, normalise, html_entities=False, escapes=True)
    assert plain is not None
    assert replaced is not None
    assert plain.lowered == [r"第一行\n\n第二行\t完。", r"\r\n", "真的 换行"]
    assert (replaced.lowered, replaced.title) == (["第一行", "第二行 完。", "真的 换行"], "标题")
    turns = clean(replace(raw, kind="dialogue", roles=("a", "b", "a")), normalise, html_entities=False, escapes=True)
    assert turns is not None
    assert (turns.lowered, turns.roles) == (["第一行 第二行 完。", "真的 换行"], ("a", "a"))


LINES = {
    "他来了。": True, "“他来了！”": True, "he came. (and went.)": True, "他想……": True, "why?": True, "相关阅读": False, "，他来了。": False, "”他说。": False,
    "如下：": False, "1. 首页": False, "内容简介...": False, "?他来了。": False, "他来了；": False,
    "〔3〕本篇最初发表于报上。": False, "[12] 见前文。": False, "（1）他来了。": True,
}  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_lines_that_do_not_begin_and_end_as_text_go_where_asked(line: str) -> None:
    assert is_whole(line) == LINES[line]
    raw = RawDocument("x", 0, "标题", ("前一句。", line, "后一句。"))
    found, plain = (clean(raw, normalise, html_entities=False, whole_lines=asked) for asked in (True, False))
    assert found is not None
    assert plain is not None
    assert (found.lowered, found.cut_lines) == ((plain.lowered, ()) if LINES[line] else (["前一句。", "后一句。"], (line,)))
    talk = clean(replace(raw, kind="dialogue"), normalise, html_entities=False, whole_lines=True)
    assert talk is not None
    assert len(talk.paragraphs) == 3


PROMPTS = {
    "你怎么看？欢迎留言。": True, "责任编辑：张三。": True, "点击上方蓝字关注我们！": True, "来源：新华社。": True, "大家觉得好看就点“好看”。": True, "欢迎在下面的评论栏提出你的想法。": True, f"本站{'声明' * 30}，版权归原作者所有。": True, "click here to read more.": True,
    "他留言说要走。": False, "这部电影好看。": False, "他在银行点击鼠标。": False, "水的来源不明。": False, "there was a clicking noise.": False,
    "他认真地读完了那本书，然后合上它，望着窗外的雨，想起许多年前在南方小城里的那个下午，也想起那时候的人，他们都走了，只有雨还在下，原标题：也忘了。": False, f"{'他说' * 100}版权归他所有。": False,
}  # fmt: skip


@pytest.mark.parametrize("line", PROMPTS)
def test_short_lines_that_speak_of_the_page_go_where_asked(line: str) -> None:
    assert is_prompt(line) == PROMPTS[line]
    raw = RawDocument("x", 0, "标题", ("前一句。", line, "没有完", "后一句。"))
    found, plain = (clean(raw, normalise, html_entities=False, whole_lines=True, prompt_lines=asked) for asked in (True, False))
    assert found is not None
    assert plain is not None
    assert (plain.lowered, plain.cut_lines, plain.prompt_lines) == (["前一句。", line, "后一句。"], ("没有完",), ())
    assert found.cut_lines == ("没有完",)
    assert (found.lowered, found.prompt_lines) == ((["前一句。", "后一句。"], (line,)) if PROMPTS[line] else (plain.lowered, ()))
    talk = clean(replace(raw, kind="dialogue"), normalise, html_entities=False, prompt_lines=True)
    assert talk is not None
    assert len(talk.paragraphs) == 4


def test_lines_taken_out_are_counted_and_shown_on_the_card(tmp_path: Path) -> None:
    write_corpus(tmp_path / "in")
    plain = run_prepare(tmp_path / "in", tmp_path / "all").facts["documents"]
    (tmp_path / "in" / "page.txt").write_text(f"首页 新闻\n{document(500)}\n欢迎留言。\n\n只有标题", encoding="utf-8")
    facts = run_prepare(tmp_path / "in", tmp_path / "out", whole_lines=True, prompt_lines=True).facts["documents"]
    assert (facts["cut_lines"], facts["prompt_lines"], facts["kept"], facts["empty"]) == (1, 1, plain["kept"] + 1, plain["empty"] + 1)
    assert any(
        line.startswith("| no whole line | corpus ") and line.endswith("|  | 首页 新闻 |")
        for line in (tmp_path / "out" / "card.md").read_text().splitlines()
    )


def test_html_entities_become_characters_only_where_asked() -> None:
    raw = RawDocument("a", 0, "A&amp;B", ("&#20320;&nbsp;好&lt;br&gt;",))
    plain, replaced = clean(raw, normalise, html_entities=False), clean(raw, normalise, html_entities=True)
    assert plain is not None
    assert replaced is not None
    assert plain.paragraphs[0][0] == "&#20320;&nbsp;好&lt;br&gt;"
    assert (replaced.title, replaced.paragraphs[0][0]) == ("a&b", "你 好<br>")


def test_every_filtered_document_is_counted_by_its_filter_and_shown_on_the_card(tmp_path: Path) -> None:
    write_corpus(tmp_path / "in")
    sentence = "同一句话说了又说。"
    texts = [sentence * 9, "plain english words only here", "太短。", document(500), "短|\u202e。\x1b[31m"]
    (tmp_path / "in" / "poor.txt").write_text("\n\n".join(texts), encoding="utf-8")
    bounds = {"min_chars": 8, "min_language_share": 0.5, "max_repeated_sentences": 0.5}
    facts = run_prepare(tmp_path / "in", tmp_path / "out", filters=bounds).facts["documents"]
    assert facts["filtered_by"] == {"min_chars": 2, "min_language_share": 1, "max_repeated_sentences": 1}
    unfiltered = run_prepare(tmp_path / "in", tmp_path / "all").facts["documents"]
    assert facts["kept"] == unfiltered["kept"] - 4
    card = (tmp_path / "out" / "card.md").read_text().splitlines()
    assert "| filtered: min_chars | poor.txt |  | 太短。 |" in card
    assert "| filtered: min_chars | poor.txt |  | 短\\|。[31m |" in card
    assert f"| filtered: max_repeated_sentences | poor.txt |  | {sentence * 3}… |" not in card  # cut to 80 bytes
    assert any(line.startswith(f"| filtered: max_repeated_sentences | poor.txt |  | {sentence * 2}") for line in card)
