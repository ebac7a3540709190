"""What a document is, and words that came with the file, on the way from reader to builders."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_prep.clean import CleanDocument, clean
from corpus_prep.entities import Entities, EntityTags
from corpus_prep.readers.base import RawDocument, join_words
from corpus_prep.segment import load_segmenter
from corpus_prep.segmented import segment_documents
from ernie_core.normalise import normalise
from ernie_core.schemas import ENTITY, Document, Unit

ENTITIES = Entities(EntityTags(load_segmenter().tag))


def cleaned(raw: RawDocument) -> CleanDocument:
    document = clean(raw, normalise, html_entities=False)
    assert document is not None
    return document


def built(*documents: CleanDocument) -> list[Document]:
    rows = segment_documents(documents, "c", load_segmenter(), ENTITIES).documents
    found = list(map(Document.from_json, rows))
    assert [d.to_json() for d in found] == rows
    return found


def segmented(*words: tuple[str, ...]) -> Document:
    raw = RawDocument("x", 0, "", tuple(map(" ".join, words)), words=words)
    return built(cleaned(raw))[0]


def test_roles_go_with_their_paragraphs_and_empty_ones_fall_out_together() -> None:
    raw = RawDocument("x", 0, "题", ("你好", "\u200b", "再见"), "dialogue", ("A", "B", "C"), "7")
    (document,) = built(cleaned(raw))
    assert (document.kind, document.roles, document.label) == ("dialogue", ("A", "C"), "7")
    assert [p[0].text for p in document.paragraphs] == ["你好", "再见"]


def test_a_title_is_cut_into_words_and_entities_and_keeps_its_case() -> None:
    raws = [RawDocument("x", 0, title, ("大雨下了一夜。", "今天停了")) for title in ("哈尔滨是GPU之城吗？不。", "", "\u200b")]
    first, *others = built(*map(cleaned, raws))
    assert first.heading is not None
    assert (first.title, first.heading.text, first.heading.original) == ("哈尔滨是gpu之城吗？不。", first.title, "哈尔滨是GPU之城吗？不。")
    assert first.heading.words[:2] == ("哈尔滨", "是")
    assert first.heading.units[0] == Unit(0, 1, ENTITY)
    assert [d.heading for d in others] == [None, None]
    assert [d.paragraphs for d in others] == [first.paragraphs] * 2


@pytest.mark.parametrize("kind", ["qa", "query", "pair"])
def test_a_question_without_words_or_without_answers_is_empty(kind: str) -> None:
    for texts in [("", "答"), ("问", " ")]:
        assert clean(RawDocument("x", 0, "", texts, kind, ("a", "b")), normalise, html_entities=False) is None
    assert clean(RawDocument("x", 0, "", ("问", "答"), kind, ("a", "b")), normalise, html_entities=False) is not None


def test_given_words_are_kept_where_the_segmenter_cuts_otherwise() -> None:
    document = segmented(("哈尔滨是", "黑", "龙江", "的", "省会", "。"), ("用", "Ｗord", "Hello", "World", "！", "好", "了"))
    assert [[s.words for s in p] for p in document.paragraphs] == [
        [("哈尔滨是", "黑", "龙江", "的", "省会", "。")],
        [("用", "word", " ", "hello", " ", "world", "！"), ("好", "了")],
    ]
    assert document.paragraphs[1][0].original == "用Word Hello World！"


def test_a_given_word_that_reaches_over_a_sentence_s_end_is_cut_there() -> None:
    assert [s.words for s in segmented(("走。好", "的")).paragraphs[0]] == [("走。",), ("好", "的")]


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=12))
def test_given_words_of_any_text_join_to_its_normalised_text(words: list[str]) -> None:
    document = clean(RawDocument("x", 0, "", (" ".join(words),), words=(tuple(words),)), normalise, html_entities=False)
    normal = normalise("".join(join_words([o for lower, o in map(normalise, words) if lower])))
    if document is None:
        assert normal[0] == ""
        return
    assert document.paragraphs == (normal,)
    assert "".join(document.words[0]) == normal[0]
    sentences = built(document)[0].paragraphs[0]
    assert "".join(s.text for s in sentences) == normal[0]
    assert "".join(s.original for s in sentences) == normal[1]
