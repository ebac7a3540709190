"""The normaliser: what it drops and maps, and its invariants over any string and over every code point."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ernie_core.normalise import basic_spans, basic_tokens, is_run_char, normalise

NASTY_STRINGS = (
    "\u200b|\ufeff|\u202e|\u00ad|\ufe0f|\ud800|\U000e0041|\x00|\x85|\u2028|\u3000|Ａ|９|，|ｶ|ﬁ|e\u0301|İ|Σ|ς|J\u030c|Υ\u0308\u0301|한|\u1112\u1161\u11ab|"
    "👩\u200d🦰|🇨🇳|𠮷|豈|好|哈尔滨|a|B|7| |\t|\r\n|.|[MASK]|##a"
)
NASTY = st.sampled_from(NASTY_STRINGS.split("|"))
MARKED = st.builds(
    str.__add__, st.sampled_from("AHIJTWYΑΙΥΩaάϊ"), st.text(st.sampled_from("\u0300\u0301\u0307\u0308\u030a\u030c\u0331\u0338\u0345"), max_size=3)
)
TEXT = st.lists(NASTY | MARKED | st.text(max_size=3), max_size=20).map("".join)


@given(TEXT)
@example("J\u030c")
@example("İ\u0301Σ")
def test_any_text_normalises_to_an_encodable_fixed_point_of_equal_lengths(text: str) -> None:
    lowered, original = normalise(text)
    assert len(lowered) == len(original)
    assert normalise(lowered) == (lowered, lowered)
    assert normalise(original) == (lowered, original)
    lowered.encode("utf-8")


def test_every_assigned_code_point_normalises_to_a_fixed_point() -> None:
    text = " ".join(chr(c) for c in range(0x32400))
    lowered, original = normalise(text)
    assert len(lowered) == len(original) > 200_000
    assert normalise(original) == (lowered, original)
    assert normalise(lowered) == (lowered, lowered)


def test_every_capital_with_every_mark_normalises_to_a_fixed_point() -> None:
    capitals = [c for c in map(chr, range(0x2000)) if c.lower() != c]
    lowered, original = normalise(" ".join(c + chr(m) for c in capitals for m in range(0x300, 0x346)))
    assert len(lowered) == len(original)
    assert normalise(original) == (lowered, original)
    assert normalise(lowered) == (lowered, lowered)


def test_no_control_format_surrogate_or_private_character_survives() -> None:
    left = [hex(ord(c)) for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co"} and normalise(c)[0]]
    assert left == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ａpple\u200b　手机，\r\n第１代", ("apple 手机， 第1代", "Apple 手机， 第1代")),
        ("\ufeff 哈\u00ad尔\ufe0f滨\U000e0001 ", ("哈尔滨", "哈尔滨")),
        ("a\x00b\x07c\ufffd", ("abc", "abc")),
        ("a\x85b\u2028c\x0bd\x0ce", ("a b c d e", "a b c d e")),
        ("e\u0301 É", ("é é", "é É")),
        ("！＂（）：；，。", ("！＂（）：；，。", "！＂（）：；，。")),
        ("①ﬁ㎏", ("①ﬁ㎏", "①ﬁ㎏")),
        ("ΟΔΟΣ İ", ("οδοσ İ", "ΟΔΟΣ İ")),
        ("x\ud800y", ("xy", "xy")),
        ("e\u200b\u0301", ("é", "é")),
        ("a  \tb \u3000 c", ("a b c", "a b c")),
        ("", ("", "")),
        (" \t\n ", ("", "")),
    ],
)
def test_listed_cases_normalise_as_documented(text: str, expected: tuple[str, str]) -> None:
    assert normalise(text) == expected


def test_original_case_differs_from_the_lowered_text_only_in_case() -> None:
    lowered, original = normalise("GPT-4 和 iPhone　Ａ")
    assert original == "GPT-4 和 iPhone A"
    assert lowered == "gpt-4 和 iphone a"


@given(TEXT)
def test_hidden_characters_never_change_the_result(text: str) -> None:
    spread = "\u200b".join(text)
    assert normalise(spread) == normalise(text)


def test_basic_tokens_split_cjk_and_punctuation_and_keep_runs() -> None:
    assert basic_tokens("gpt-4 很好。emoji😀x 𠮷") == ["gpt", "-", "4", "很", "好", "。", "emoji😀x", "𠮷"]


@given(TEXT)
def test_basic_tokens_hold_every_character_but_spaces_once(text: str) -> None:
    normal = normalise(text)[0]
    tokens = basic_tokens(normal)
    assert "".join(tokens) == normal.replace(" ", "")
    assert [normal[a:b] for a, b in basic_spans(normal)] == tokens


@given(TEXT)
def test_only_runs_are_longer_than_one_character(text: str) -> None:
    for token in basic_tokens(normalise(text)[0]):
        assert len(token) == 1 or all(map(is_run_char, token))


def test_punctuation_lies_in_the_two_planes_that_are_scanned() -> None:
    assert [hex(c) for c in range(0x20000, sys.maxunicode + 1) if unicodedata.category(chr(c))[0] == "P"] == []
