"""Capitalization: an independent labeller finds every word's label again in the raw text."""

from __future__ import annotations

import re
from itertools import accumulate
from pathlib import Path

import pytest
import tasks_helper as toy
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_prep.sentences import split_sentences
from ernie_core.errors import RecipeError
from ernie_core.schemas import Document, Sample
from ernie_core.tasks.base import all_tasks, with_labels
from ernie_core.tasks.capitalization import label_of, label_words, mostly_capitals, word_labels

TASK = all_tasks()["capitalization"]


def article(lines: list[str]) -> Document:
    return Document("0" * 16, "bbc", "", "", tuple(tuple(toy.english(s) for s in split_sentences(line)) for line in lines))


def context(**changes: object) -> toy.BuildContext:
    return toy.context(encode=toy.encode_small, **changes)


def brute_force(sentence: str) -> list[int]:
    """A label per character that is no white space, by looking at each word's spelling and at what stands before it."""
    labels = [-1] * len(sentence)
    upper, letters = len(re.findall(r"[A-Z]", sentence)), len(re.findall(r"[A-Za-z]", sentence))
    words = list(re.finditer(r"[^\W_]+(?:['’][^\W_]+)*", sentence))
    for i, word in enumerate(words):
        head = re.split("['’]", word[0])[0]
        quoted = re.search(r"(?:^|[\s(\[{–—\-/…\"'“‘])[\"'“‘]$", sentence[: word.start()])
        if i == 0 or quoted or head == "I" or upper * 2 > letters:
            continue
        spelling = re.sub(r"\d", "", head)
        label = 0 if re.fullmatch(r"[a-z]+", spelling) else 1 if re.fullmatch(r"[A-Z]+|[A-Z][a-z]+", spelling) else -1
        labels[word.start() : word.start() + len(head)] = [label] * len(head)
    return [label for label, c in zip(labels, sentence, strict=True) if not c.isspace()]


def column(row: Sample) -> list[int]:
    return row.token_labels["capitalization"]


def test_labels_of_ten_thousand_words_are_found_again_from_raw_text(test_data: Path) -> None:
    words = 0
    for lines in toy.bbc_articles(test_data, 100):
        lines = [line for line in lines if line.isascii()]
        rows, drops = toy.built(TASK, [article(lines)], context(max_seq_len=400))
        assert not drops["word_longer_than_row"]
        expected = [label for line in lines for s in split_sentences(line) for label in brute_force(s)]
        text = "".join("".join(line.split()) for line in lines).lower()
        at = 0
        for row in rows:
            part = toy.text_of(next(toy.segments_of(row, row.token_ids)))
            at = text.index(part, at)
            assert column(row) == [-1, *expected[at : at + len(part)], -1]
            words += sum(label >= 0 and seg == 0 for label, seg in zip(column(row), row.seg_labels, strict=True))
            at += len(part)
    assert words >= 10_000


def test_rows_of_reordering_carry_labels_that_are_found_again_from_raw_text(test_data: Path) -> None:
    words = 0
    for lines in toy.bbc_articles(test_data, 100):
        lines = [line for line in lines if line.isascii()]
        expected = [label for line in lines for s in split_sentences(line) for label in brute_force(s)]
        text = "".join("".join(line.split()) for line in lines).lower()
        for row in toy.carrying(all_tasks()["sentence_reordering"], [article(lines)], TASK, context(max_seq_len=400)):
            assert len(column(row)) == len(row.token_ids)
            for ids, found in zip(toy.segments_of(row, row.token_ids), toy.segments_of(row, column(row)), strict=True):
                at = text.index(toy.text_of(ids))
                if text.count(toy.text_of(ids)) == 1:
                    assert found == expected[at : at + len(found)]
                    words += sum(label >= 0 for label in found)
    assert words >= 10_000


def test_a_relation_whose_marker_went_has_no_label_on_the_word_that_now_opens_it() -> None:
    relation = all_tasks()["discourse_relation"]
    page = Document("0" * 16, "bbc", "", "", ((toy.english("It rained all day in London."), toy.english("However, Anna went to Paris anyway.")),))
    labelled = with_labels(page, [label_words(page, context())])
    complete = relation.complete({"connectives": "en", "per_class": None})
    rows, _ = toy.built(
        relation, [labelled], context(options=complete, candidates=toy.counted(relation, [page], complete), carry=("capitalization",))
    )
    first, second = (
        list(zip(toy.text_of(ids), found, strict=True))
        for ids, found in zip(toy.segments_of(rows[0], rows[0].token_ids), toy.segments_of(rows[0], column(rows[0])), strict=True)
    )
    assert [label for _, label in first] == [-1] * 2 + [0] * 6 + [0] * 3 + [0] * 3 + [0] * 2 + [1] * 6 + [-1]
    assert [label for _, label in second] == [-1] * 4 + [0] * 4 + [0] * 2 + [1] * 5 + [0] * 6 + [-1]


@settings(max_examples=50)
@given(st.text("aAbBiI '\"“”.-(1é", min_size=12, max_size=80), st.integers(16, 60))
def test_a_label_is_one_value_per_word_and_never_on_punctuation(text: str, max_seq_len: int) -> None:
    rows, _ = toy.built(TASK, [article([text.strip()])], context(max_seq_len=max_seq_len))
    for row in rows:
        labels = column(row)
        assert len(labels) == len(row.token_ids) <= max_seq_len
        assert all(labels[i] == labels[i - 1] for i, seg in enumerate(row.seg_labels) if seg == 1)
        assert all(chr(token).isalnum() for token, label in zip(row.token_ids, labels, strict=True) if label >= 0)
        assert max(labels) >= 0
        assert row.label == -1


@pytest.mark.parametrize(
    ("word", "label"),
    [("London", 1), ("BBC", 1), ("A", 1), ("BBC1", 1), ("Don't", 1), ("Élan", 1), ("the", 0), ("1st", 0), ("I", -1), ("I'm", -1), ("iPhone", -1),
     ("McDonald", -1), ("2018", -1), ("北京", -1), (",", -1)],
)  # fmt: skip
def test_a_word_is_capitalised_or_not_or_not_scored(word: str, label: int) -> None:
    assert label_of(word) == label


@pytest.mark.parametrize(
    ("text", "scored"),
    [
        ('It was in London, he said: "My word!"', "was in London he said word"),
        ("“No,” she said, “Never!” (The end)", "she said The end"),
        ("Mr O'Neil's dog isn't 'best' here.", "O dog isn here"),
        ("2018 was good", "was good"),
        ("CHAPTER THE LAST begins", ""),
    ],
)
def test_first_words_of_sentences_and_quotations_are_not_scored(text: str, scored: str) -> None:
    sentence = toy.english(text)
    words = [text[end - len(w) : end] for w, end in zip(sentence.words, accumulate(map(len, sentence.words)), strict=True)]
    assert " ".join(w for w, label in zip(words, word_labels(sentence), strict=True) if label >= 0) == scored


def test_more_than_half_of_the_letters_are_capitals() -> None:
    assert mostly_capitals("ABC de 12")
    assert not mostly_capitals("AB cd 12")
    assert not mostly_capitals("123")


def test_parts_of_a_long_sentence_keep_the_labels_that_they_have_in_it() -> None:
    sentence = toy.english("He " + "saw London today and " * 10 + "left.")
    rows, drops = toy.built(TASK, [Document("0" * 16, "toy", "", "", ((sentence,),))], context(max_seq_len=50))
    assert len(rows) > 3
    assert not +drops
    assert [label for row in rows for label in column(row)[1:-1]] == [
        label for word, label in zip(sentence.words, word_labels(sentence), strict=True) for _ in toy.encode_small(word)
    ]
    assert [column(row)[1] for row in rows] == [-1, *[column(row)[1] for row in rows[1:]]]
    assert all(column(row)[1] >= 0 for row in rows[1:])


def test_what_is_left_out_is_counted() -> None:
    dialogue = Document("0" * 16, "toy", "", "", ((toy.english("Hello there, John."),),), "dialogue", ("",))
    rows, drops = toy.built(TASK, [article(["Short."]), article(["THE WHOLE LINE SHOUTS"]), dialogue], context())
    assert (rows, +drops) == ([], {"short_run": 1, "nothing_scored": 1, "not_text": 1})


def test_a_cased_vocabulary_is_refused_before_any_row() -> None:
    with pytest.raises(RecipeError) as e:
        toy.built(TASK, [], toy.context(encode=toy.encode_characters))
    assert e.value.code == "E-VOCAB-CASED"
