"""Offsets: every code point of a normalised text is traced to the place it was made from, whatever the text."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import example, given
from test_normalise import TEXT

from ernie_core.benchmarks.offsets import _JOINS, _OPENS, _kinds, follow
from ernie_core.normalise import DROPPED, Normaliser, normalise
from ernie_core.normalise_bert import BertForm


@given(TEXT)
@example("\u1112\u1161\u11ab \u0301")
@example(" \u200b\u0301a\u200b")
def test_any_text_is_followed_and_each_code_point_comes_from_its_place(text: str) -> None:
    followed = follow(text)
    size = len(followed.text)
    assert followed.text == normalise(text)[0]
    assert len(followed.starts) == len(followed.ends) == size
    assert (np.diff(followed.starts) >= 0).all()
    assert (np.diff(followed.ends) >= 0).all()
    for character, start, end in zip(followed.text, followed.starts, followed.ends, strict=True):
        assert 0 <= start < end <= len(text)
        assert character in normalise(f"一{text[start:end]}一")[0]
    assert len(follow(text, Normaliser(to_simplified=True)).text) == size


@given(TEXT)
@example("a \u0301 b")
@example("\u1112\u1161\u11ab 한\u115f\ufeffe\u0301İ")
@pytest.mark.parametrize("form", [BertForm(), BertForm(lowercase=True, strip_accents=False), BertForm(lowercase=False, strip_accents=False)])
def test_text_normalised_as_bert_does_is_followed_too(form: BertForm, text: str) -> None:
    normaliser = Normaliser(bert=form)
    followed = follow(text, normaliser)
    lowered, original = normaliser(text)
    assert followed.text == lowered
    assert len(original) == len(lowered) == len(followed.starts) == len(followed.ends)
    assert normaliser(lowered) == (lowered, lowered)
    assert normaliser(original) == (lowered, original)
    for character, start, end in zip(followed.text, followed.starts, followed.ends, strict=True):
        assert 0 <= start < end <= len(text)
        assert character in normaliser(f"一{text[start:end]}一")[0]


@pytest.mark.parametrize(
    ("text", "normal", "starts", "ends"),
    [
        ("Ａ\u200b \u3000e\u0301", "a é", [0, 2, 4], [1, 3, 6]),
        ("  好\r\n\r\n坏 ", "好 坏", [2, 3, 7], [3, 4, 8]),
        ("\ufeff\u1112\u1161\u11ab글", "한글", [1, 4], [4, 5]),
        ("e\u200b\u0301x", "éx", [0, 3], [3, 4]),
        ("\u0958", "\u0915\u093c", [0, 0], [1, 1]),
        ("\u200b", "", [], []),
        ("", "", [], []),
    ],
)
def test_pieces_that_merge_grow_or_vanish_keep_the_rest_in_place(text: str, normal: str, starts: list[int], ends: list[int]) -> None:
    followed = follow(text)
    assert (followed.text, followed.starts.tolist(), followed.ends.tolist()) == (normal, starts, ends)


def test_simplified_text_is_followed_too() -> None:
    followed = follow("頭 \u200b髮", Normaliser(to_simplified=True))
    assert (followed.text, followed.starts.tolist()) == ("头 发", [0, 1, 3])


def test_a_text_of_every_code_point_is_followed() -> None:
    text = "".join(map(chr, range(0x30000)))
    assert follow(text).text == normalise(text)[0]


def test_code_points_that_join_lie_in_the_planes_that_are_scanned() -> None:
    beyond = np.flatnonzero(_kinds(DROPPED)[0x20000:] == _JOINS)
    assert len(beyond) == 0
    kept = [c for c in map(chr, range(0x20000, 0x110000)) if _kinds(DROPPED)[ord(c)] == _OPENS]
    assert not any(unicodedata.combining(c) for c in kept)
    assert all(len(unicodedata.decomposition(c).split()) < 2 for c in kept)
