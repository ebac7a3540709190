from __future__ import annotations

import gzip
import json
import marshal
import tempfile
from pathlib import Path

import jieba
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_prep.segment import MAX_CHARS, Segmenter, dictionary_path, load_segmenter
from corpus_prep.sentences import split_sentences
from corpus_prep.spans import entities, make_sentence, merge_runs
from ernie_core.normalise import basic_spans, normalise
from ernie_core.schemas import ENTITY, Unit

TEXT = st.text(st.sampled_from("中国人民今天3.5ab。！？…”’」）) .,，Mr’é😀"), max_size=60)


@pytest.fixture(scope="module")
def news(test_data: Path) -> list[str]:
    with gzip.open(test_data / "raw_zh_inews/train.jsonl.gz", "rt", encoding="utf-8") as f:
        return [normalise(json.loads(next(f))["content"])[0] for _ in range(60)]


@given(TEXT)
def test_sentences_join_back_to_the_paragraph(text: str) -> None:
    pieces = split_sentences(text)
    assert "".join(pieces) == text
    assert all(pieces)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("“你好！”他说。走了。", ["“你好！”", "他说。", "走了。"]),
        ("真的？！（完）然后……没有", ["真的？！", "（完）然后……", "没有"]),
        ("It costs 3.5 dollars. Mr. Smith and J. K. Rowling paid. ok", ["It costs 3.5 dollars. ", "Mr. Smith and J. K. Rowling paid. ok"]),
        ("没有标点", ["没有标点"]),
        ("", []),
    ],
)  # fmt: skip
def test_sentence_ends(text: str, expected: list[str]) -> None:
    assert split_sentences(text) == expected


def test_words_are_exactly_jiebas(news: list[str]) -> None:
    ours = [load_segmenter().words(page) for page in news]
    assert ours == [list(jieba.cut(page)) for page in news]
    assert sum(map(len, ours)) > 20_000


@given(st.text(st.sampled_from("中华人民共和国的在我天气abZ01é+#&._%-。， \t㸒龥\u9fd6😀"), max_size=30))
def test_words_of_any_text_are_jiebas(text: str) -> None:
    assert load_segmenter().words(text) == list(jieba.cut(text))


@given(TEXT)
def test_words_join_back_to_the_text(text: str) -> None:
    assert "".join(load_segmenter().words(text)) == text


def test_words_do_not_depend_on_where_sentences_were_cut(news: list[str]) -> None:
    for page in news[:20]:
        cut = [piece for piece in page.replace("。", "。\n").split("\n") if piece]
        assert [w for piece in cut for w in load_segmenter().words(piece)] == load_segmenter().words(page)


def test_a_very_long_line_is_cut_before_segmentation() -> None:
    text = "天气" * MAX_CHARS
    assert "".join(load_segmenter().words(text)) == text


def test_a_planted_cache_does_not_change_the_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "jieba.cache").write_bytes(marshal.dumps((dict.fromkeys("中国人民共和", 1), 6)))
    planted = jieba.Tokenizer()
    assert list(planted.cut("中华人民共和国", HMM=False)) == list("中华人民共和国")
    segmenter = Segmenter(dictionary_path())
    assert segmenter.words("中华人民共和国") == ["中华人民共和国"]
    assert [p.name for p in tmp_path.iterdir()] == ["jieba.cache"]


@given(st.text(st.sampled_from("中国ab1é.-_ ，😀я"), max_size=40))
def test_no_word_border_lies_inside_a_basic_token(text: str) -> None:
    text = normalise(text)[0]
    words = merge_runs(load_segmenter().words(text))
    assert "".join(words) == text
    borders = {sum(map(len, words[:i])) for i in range(len(words) + 1)}
    for start, end in basic_spans(text):
        assert not borders & set(range(start + 1, end))


def test_entities_of_one_tag_side_by_side_are_one_up_to_eight_characters() -> None:
    tags = {"中国": "ns", "哈尔滨": "ns", "江泽民": "nr", "叶利钦": "nrt", "黑龙江省": "ns", "c++": "nz", "京": "ns"}
    words = ["中国", "哈尔滨", "江泽民", "，", "叶利钦", "c++", "京", "黑龙江省", "黑龙江省", "中国"]
    found = entities(words, lambda w: tags.get(w, ""))
    assert found == (Unit(0, 2, ENTITY), Unit(2, 3, ENTITY), Unit(4, 5, ENTITY), Unit(7, 9, ENTITY), Unit(9, 10, ENTITY))


def test_the_seeds_example_has_its_words_and_places() -> None:
    text = "哈尔滨是黑龙江的省会，国际冰雪文化名城。"
    sentence = make_sentence(text, text, load_segmenter().words, load_segmenter().tag)
    assert sentence.words == ("哈尔滨", "是", "黑龙江", "的", "省会", "，", "国际", "冰雪", "文化名城", "。")
    assert ["".join(sentence.words[u.start : u.end]) for u in sentence.units] == ["哈尔滨", "黑龙江"]
