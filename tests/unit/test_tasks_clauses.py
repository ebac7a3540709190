"""Clauses of sentences, and what is left of a sentence from which characters are taken out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ernie_core.schemas import ENTITY, Sentence, Unit
from ernie_core.tasks.clauses import split_clauses
from ernie_core.tasks.halves import cuts, joined, kept


def clauses(text: str) -> list[str]:
    ends = split_clauses(text)
    return [text[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("他来了，我走了；雨停了。", ["他来了，", "我走了；", "雨停了。"]),
        ("他说“好，走吧；快”，走了。", ["他说“好，走吧；快”，", "走了。"]),
        ("书名《红，与黑》（1830，巴黎），很厚。", ["书名《红，与黑》（1830，巴黎），", "很厚。"]),
        ("走了3,000步，花了1，000元，5，好。", ["走了3,000步，", "花了1，000元，", "5，", "好。"]),
        ("“好，他说，走了。", ["“好，他说，走了。"]),
        ("好”，他说，走了。", ["好”，", "他说，", "走了。"]),
        ('He said "no, never", and left, quickly.', ['He said "no, never",', " and left,", " quickly."]),
        ("It’s late, he’s gone (yes, gone); bye.", ["It’s late,", " he’s gone (yes, gone);", " bye."]),
        ("（他“来，了）好，走。", ["（他“来，了）好，", "走。"]),
        ("没有", ["没有"]),
    ],
)
def test_commas_and_semicolons_end_clauses_but_not_inside_others(text: str, found: list[str]) -> None:
    assert clauses(text) == found


@given(st.text('甲乙，；,;“”（）()《》"3 .。', min_size=1, max_size=40))
def test_clauses_join_to_the_sentence_and_each_but_the_last_ends_with_a_mark(text: str) -> None:
    found = clauses(text)
    assert "".join(found) == text
    assert all(clause[-1] in "，；,;" for clause in found[:-1])
    assert all(found)


@given(st.lists(st.text("甲乙丙，", min_size=1, max_size=4), min_size=1, max_size=8), st.data())
def test_what_is_left_holds_whole_words_and_whole_units(words: list[str], data: st.DataObject) -> None:
    text = "".join(words)
    spans = data.draw(st.lists(st.integers(0, len(words)), max_size=6, unique=True).map(sorted))
    units = tuple(Unit(a, b, ENTITY) for a, b in zip(spans[::2], spans[1::2], strict=False))
    sentence = Sentence(tuple(words), units, text)
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=4, unique=True).map(sorted))
    ranges = list(zip(places[::2], places[1::2], strict=False))
    (cut,) = cuts(sentence, [len(text)])
    left = kept(cut, ranges)
    bounds = {len("".join(words[:i])) for i in range(len(words) + 1)}
    assert (left is None) == any(place not in bounds for pair in ranges for place in pair)
    if left is not None:
        assert left.text == left.original == "".join(text[a:b] for a, b in ranges)
        of = ["".join(words[u.start : u.end]) for u in units]
        assert all("".join(left.words[u.start : u.end]) in of for u in left.units)


def test_parts_have_no_white_space_around_them_and_empty_ones_are_none() -> None:
    sentence = Sentence(("he", ",", " ", "so", " "), (), "He, so ")
    assert [cut.text for cut in cuts(sentence, [3, 7])] == ["he,", "so"]
    assert [cut.text for cut in cuts(sentence, [3, 6, 7])] == ["he,", "so"]


def test_a_capital_moves_to_what_is_left() -> None:
    (cut,) = cuts(Sentence(("but", " ", "ann", " ", "ran"), (Unit(2, 3, ENTITY),), "But ann ran"), [11])
    left = kept(cut, [(4, 11)])
    assert left == Sentence(("ann", " ", "ran"), (Unit(0, 1, ENTITY),), "Ann ran")
    assert kept(cut, [(5, 11)]) is None


def test_sentences_are_joined_with_their_units() -> None:
    first, second = Sentence(("a", "."), (Unit(0, 1, ENTITY),), "A."), Sentence(("b", "c"), (Unit(1, 2, ENTITY),), "bC")
    assert joined([first, second]) == Sentence(("a", ".", "b", "c"), (Unit(0, 1, ENTITY), Unit(3, 4, ENTITY)), "A.bC")
    assert joined([]) == Sentence((), (), "")
