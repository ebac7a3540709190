from __future__ import annotations

from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tasks_helper import segmented_sentence

from corpus_prep.entities import Entities, EntityTags, tagged
from corpus_prep.segment import joined_words, load_segmenter
from corpus_prep.sentences import split_sentences
from corpus_prep.words import BORDER, merge_runs, words_of
from ernie_core.normalise import basic_spans, normalise
from ernie_core.schemas import BETWEEN_WORDS

TEXT = st.text(st.sampled_from("中国人民今天3.5ab。！？…”’」）) .,，Mr’é😀"), max_size=60)


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
        ("读了《怎么办！》一书。好！", ["读了《怎么办！》一书。", "好！"]),
        ("“谁？”，他问。 ”走了……，是吗？ ，不。", ["“谁？”，他问。 ”", "走了……，是吗？ ，不。"]),
        ("“甲？” “乙！”丙", ["“甲？” ", "“乙！”", "丙"]),
        ('"Why?", he said. "Yes!" No.', ['"Why?", he said. ', '"Yes!" ', "No."]),
        ("没有标点", ["没有标点"]),
        ("", []),
    ],
)  # fmt: skip
def test_sentence_ends(text: str, expected: list[str]) -> None:
    assert split_sentences(text) == expected


@given(st.text(st.sampled_from("中国ab1é.-_ ，😀я"), max_size=40))
def test_no_word_border_lies_inside_a_basic_token(text: str) -> None:
    text = normalise(text)[0]
    (joined,) = merge_runs(joined_words(load_segmenter(), [text]))
    words = joined.split(BETWEEN_WORDS) if joined else []
    assert "".join(words) == text
    borders = {sum(map(len, words[:i])) for i in range(len(words) + 1)}
    for start, end in basic_spans(text):
        assert not borders & set(range(start + 1, end))


def test_entities_of_one_tag_side_by_side_are_one_up_to_eight_characters() -> None:
    tags = {"中国": "ns", "哈尔滨": "ns", "江泽民": "nr", "叶利钦": "nrt", "黑龙江省": "ns", "c++": "nz", "京": "ns"}
    words = ["中国", "哈尔滨", "江泽民", "，", "叶利钦", "c++", "京", "黑龙江省", "黑龙江省", "中国"]
    sentences = words_of([BETWEEN_WORDS.join(words), "中国", "哈尔滨"])
    found = list(tagged(sentences, EntityTags(lambda w: tags.get(w, ""))))
    assert found == [(0, 2), (2, 3), (4, 5), (7, 9), (9, 10), (11, 12), (13, 14)]  # a border stands behind each sentence


def test_the_seeds_example_has_its_words_and_places() -> None:
    text = "哈尔滨是黑龙江的省会，国际冰雪文化名城。"
    sentence = segmented_sentence(text, text, load_segmenter(), Entities(EntityTags(load_segmenter().tag)))
    assert sentence.words == ("哈尔滨", "是", "黑龙江", "的", "省会", "，", "国际", "冰雪", "文化名城", "。")
    assert ["".join(sentence.words[u.start : u.end]) for u in sentence.units] == ["哈尔滨", "黑龙江"]


@given(st.lists(st.lists(st.sampled_from(["中国", "𠮷", "ab", "é", "1", "，", " "]), max_size=6), max_size=6))
def test_words_of_sentences_are_numbered_and_placed(sentences: list[list[str]]) -> None:
    words = words_of(list(map(BETWEEN_WORDS.join, sentences)))
    flat = [w for sentence in sentences for w in [*sentence, BORDER]]
    assert [words.known[i] for i in words.ids.tolist()] == flat
    assert len(set(words.known)) == len(words.known)
    assert words.text == "".join(flat)
    assert [words.text[a:b] for a, b in pairwise(words.starts.tolist())] == flat
    assert words.firsts.tolist() == [0, *accumulate(len(sentence) + 1 for sentence in sentences)]
    assert words.sentence_of(np.arange(len(flat))).tolist() == [i for i, sentence in enumerate(sentences) for _ in range(len(sentence) + 1)]
