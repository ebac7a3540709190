"""The normaliser: what it drops and maps, and its invariants over any string and over every code point."""

from __future__ import annotations

import gzip
import json
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ernie_core.errors import IntegrityError
from ernie_core.manifest import canonical_json
from ernie_core.normalise import _DROP, _DROP_PRINTABLE, Normaliser, basic_spans, basic_tokens, is_run_char, normalise
from ernie_core.tokenization import load_tokenizer

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


def test_the_short_list_of_printable_text_drops_what_the_whole_list_drops() -> None:
    characters = [chr(c) for c in range(sys.maxunicode + 1)]
    whole = {c for c in characters if _DROP.match(c)}
    short = {c for c in characters if _DROP_PRINTABLE.match(c)}
    assert short < whole
    assert {c for c in whole if c.isprintable()} <= short
    assert {c for c in characters if c.isspace() and c.isprintable()} == {" "}


@given(TEXT, TEXT)
def test_printable_text_is_normalised_as_inside_other_text(text: str, other: str) -> None:
    alone = [normalise(part)[1] for part in (text, other)]
    assert normalise(f"{text}\x1f \x1f{other}")[1] == " ".join(filter(None, alone))


def test_punctuation_lies_in_the_two_planes_that_are_scanned() -> None:
    assert [hex(c) for c in range(0x20000, sys.maxunicode + 1) if unicodedata.category(chr(c))[0] == "P"] == []


TO_SIMPLIFIED = Normaliser(to_simplified=True)
TRADITIONAL = st.sampled_from(
    [
        "乾",
        "坤",
        "隆",
        "淨",
        "瞭",
        "望",
        "解",
        "藉",
        "口",
        "慰",
        "薴",
        "苧",
        "苎",
        "打",
        "坏",
        "土",
        "鍾",
        "書",
        "覆",
        "蓋",
        "么",
        "麼",
        "後",
        "后",
        "髮",
        "發",
        "里",
        "裏",
        "於",
        "A",
        "。",
        "𠮷",
        "臺",
        "台",
        "徵",
        "羽",
    ]
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("乾隆皇帝瞭望乾淨的藉口，一目瞭然 IPhone", ("乾隆皇帝瞭望干净的借口，一目了然 iphone", "乾隆皇帝瞭望干净的借口，一目了然 IPhone")),
        ("薴", ("苎", "苎")),
        ("他打坏了土坏", ("他打坏了土坏", "他打坏了土坏")),  # good simplified Chinese stays, whatever the dictionary's phrases say
        ("瞭\u200b解", ("了解", "了解")),
        ("「臺灣」，頭髮", ("「台湾」，头发", "「台湾」，头发")),
    ],
)
def test_traditional_text_is_simplified_by_option(text: str, expected: tuple[str, str]) -> None:
    assert TO_SIMPLIFIED(text) == expected


@given(st.lists(TRADITIONAL | NASTY | st.characters(min_codepoint=0x3400, max_codepoint=0x9FFF), max_size=25).map("".join))
def test_simplified_text_is_a_fixed_point_as_long_as_the_plain_one(text: str) -> None:
    lowered, original = TO_SIMPLIFIED(text)
    assert len(lowered) == len(original) == len(normalise(text)[0])
    assert TO_SIMPLIFIED(original) == (lowered, original)
    assert TO_SIMPLIFIED(lowered) == (lowered, lowered)
    assert TO_SIMPLIFIED(normalise(text)[0])[0] == lowered


def test_every_ideograph_and_every_pair_of_changing_ones_simplifies_to_a_fixed_point() -> None:
    ideographs = "".join(c for c in map(chr, range(0x3400, 0x323B0)) if normalise(c)[1])
    changing = [c for c in ideographs if TO_SIMPLIFIED(c)[1] != normalise(c)[1]]
    assert len(changing) > 4000
    for text in (ideographs, "".join(changing), "".join(reversed(changing)), " ".join(a + b for a in changing[::9] for b in changing[::31])):
        lowered, original = TO_SIMPLIFIED(text)
        assert len(lowered) == len(normalise(text)[0])
        assert TO_SIMPLIFIED(original) == (lowered, original)


def test_ernies_own_simplification_of_drcd_differs_in_few_characters(test_data: Path) -> None:
    """ERNIE's copy of DRCD is simplified, the published one is not; they were converted by another tool."""

    def contexts(name: str) -> dict[str, str]:
        data = json.loads(gzip.decompress((test_data / "drcd" / name).read_bytes()))
        return {q["id"]: p["context"] for a in data["data"] for p in a["paragraphs"] for q in p["qas"]}

    theirs = contexts("ernie_dev.json.gz")
    total = different = unchanged = 0
    for question, text in contexts("DRCD_dev.json.gz").items():
        if question in theirs and len(theirs[question]) == len(text):
            ours, wanted = TO_SIMPLIFIED(text)[0], normalise(theirs[question])[0]
            total += len(wanted)
            different += sum(a != b for a, b in zip(ours, wanted, strict=True))
            unchanged += sum(a != b for a, b in zip(normalise(text)[0], wanted, strict=True))
    assert total > 100_000
    assert unchanged > 0.2 * total
    assert different < 0.005 * total


def test_a_normaliser_is_recorded_and_another_one_refused(tmp_path: Path) -> None:
    for kind in (normalise, TO_SIMPLIFIED):
        assert Normaliser.from_bytes(kind.to_bytes(), "x") == kind
    assert normalise.version != TO_SIMPLIFIED.version
    other = canonical_json({"to_simplified": True, "version": TO_SIMPLIFIED.version + "1"})
    with pytest.raises(IntegrityError, match="E-NORMALISER") as e:
        Normaliser.from_bytes(other, "normaliser.json")
    assert e.value.found == TO_SIMPLIFIED.version
    for damaged in (b"", b"[]", b"{}", b'{"to_simplified": 1, "version": "1"}'):
        with pytest.raises(IntegrityError, match="E-NORMALISER"):
            Normaliser.from_bytes(damaged, "normaliser.json")
    (tmp_path / "vocab.txt").write_text("[PAD]\n[CLS]\n[SEP]\n[MASK]\n[UNK]\n台\n")
    with pytest.raises(IntegrityError, match=r"normaliser\.json"):
        load_tokenizer(tmp_path / "vocab.txt")
    (tmp_path / "normaliser.json").write_bytes(TO_SIMPLIFIED.to_bytes())
    assert load_tokenizer(tmp_path / "vocab.txt").encode("臺") == [5]
    (tmp_path / "normaliser.json").write_bytes(normalise.to_bytes())
    assert load_tokenizer(tmp_path / "vocab.txt").encode("臺") == [4]


@given(
    st.lists(st.sampled_from("哈尔滨是黑龙江的省会"), min_size=1, max_size=9),
    st.lists(st.sampled_from("\u200b\u200d\u202e\u2066\u2069\u00ad\ufe0f\ufeff\U000e0041\u061c"), max_size=9),
)
def test_bidi_and_zero_width_neither_hide_nor_split_a_term(term: list[str], hidden: list[str]) -> None:
    spread = "".join(c + "".join(hidden[i::3]) for i, c in enumerate(term))
    assert basic_tokens(normalise("".join(hidden) + spread)[0]) == term
