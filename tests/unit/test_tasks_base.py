"""What all tasks share: the registry, options, encoding and assembling."""

from __future__ import annotations

import pytest
import tasks_helper as toy

from ernie_core.errors import RecipeError
from ernie_core.schemas import ENTITY, PHRASE, Sentence, Unit
from ernie_core.tasks.base import all_tasks, assemble, encode_sentences, merge


def test_the_folder_holds_these_tasks_with_their_fixed_ids() -> None:
    assert {t.name: t.task_id for t in all_tasks().values()} == {
        "knowledge_masking": 0, "capitalization": 1, "token_document": 2, "sentence_reordering": 3, "next_sentence": 7, "sentence_distance": 8,
        "discourse_relation": 10, "ir_relevance": 11, "dialogue": 12,
    }  # fmt: skip


def test_head_sizes_follow_level_and_options() -> None:
    tasks = all_tasks()
    assert {n: t.classes({}) for n, t in tasks.items()} == {
        "capitalization": 2, "dialogue": 2, "discourse_relation": 9, "ir_relevance": 3, "knowledge_masking": 0, "next_sentence": 2, "sentence_distance": 3, "sentence_reordering": 9, "token_document": 2,
    }  # fmt: skip
    assert tasks["sentence_reordering"].classes({"max_segments": 4}) == 33
    assert {n: t.metric for n, t in tasks.items()} == {
        "capitalization": "average_precision", "dialogue": "accuracy", "discourse_relation": "accuracy", "ir_relevance": "accuracy", "knowledge_masking": "loss", "next_sentence": "accuracy", "sentence_distance": "accuracy", "sentence_reordering": "accuracy", "token_document": "average_precision",
    }  # fmt: skip


def test_an_unknown_option_names_the_valid_ones() -> None:
    with pytest.raises(RecipeError) as e:
        all_tasks()["sentence_reordering"].complete({"max_segment": 3})
    assert e.value.code == "E-TASK-OPTION"
    assert "max_segments" in str(e.value)
    with pytest.raises(RecipeError) as e:
        all_tasks()["token_document"].complete({"classes": 3})
    assert "none" in str(e.value)


@pytest.mark.parametrize("value", [2, 5, "3", 3.5])
def test_max_segments_takes_three_or_four_only(value: object) -> None:
    with pytest.raises(RecipeError) as e:
        all_tasks()["sentence_reordering"].classes({"max_segments": value})
    assert "expected 3 or 4" in str(e.value)


@pytest.mark.parametrize("value", [1, 4, "3", None])
def test_next_sentence_has_two_classes_or_three(value: object) -> None:
    assert all_tasks()["next_sentence"].classes({"classes": 3}) == 3
    with pytest.raises(RecipeError) as e:
        all_tasks()["next_sentence"].classes({"classes": value})
    assert "expected 2 or 3" in str(e.value)


def test_words_units_and_white_space_become_columns() -> None:
    s = Sentence(("哈尔滨", " ", "是", "黑龙江", "的", "省会"), (Unit(0, 1, ENTITY), Unit(3, 6, PHRASE)), "哈尔滨 是黑龙江的省会")
    ids, seg, unit, kind = encode_sentences([s], toy.encode_characters)
    assert toy.text_of(ids) == "哈尔滨是黑龙江的省会"
    assert seg == [0, 1, 1, 0, 0, 1, 1, 0, 0, 1]
    assert unit == [0, 1, 1, 0, 0, 1, 1, 1, 1, 1]
    assert kind == [2, 2, 2, 0, 1, 1, 1, 1, 1, 1]


def test_a_unit_of_more_than_eight_tokens_falls_back_to_its_words() -> None:
    words = ("中华人民", "共和国", "外交部")
    long = Sentence(words, (Unit(0, 3, ENTITY),), "".join(words))
    short = Sentence(words, (Unit(0, 2, ENTITY),), "".join(words))
    assert encode_sentences([long], toy.encode_characters)[2:] == ([0, 1, 1, 1, 0, 1, 1, 0, 1, 1], [0] * 10)
    assert encode_sentences([short], toy.encode_characters)[2:] == ([0, 1, 1, 1, 1, 1, 1, 0, 1, 1], [2] * 7 + [0] * 3)


def test_merging_parts_equals_encoding_them_together() -> None:
    s = [toy.sentence("今天北京下雨。", toy.by_jieba), toy.sentence("地很湿。", toy.by_jieba)]
    assert merge([encode_sentences([one], toy.encode_characters) for one in s]) == encode_sentences(s, toy.encode_characters)


def test_segments_stand_between_specials_and_types_count_them() -> None:
    row = assemble([([5, 6], [0, 1], [0, 1], [2, 2]), ([7], [0], [0], [0])], toy.context(), 1)
    assert (row.token_ids, row.sentence_type_ids, row.position_ids) == ([1, 5, 6, 2, 7, 2], [0, 0, 0, 0, 1, 1], [0, 1, 2, 3, 4, 5])
    assert (row.seg_labels, row.unit_labels, row.unit_kind, row.label) == ([-1, 0, 1, -1, 0, -1], [-1, 0, 1, -1, 0, -1], [-1, 2, 2, -1, 0, -1], 1)
