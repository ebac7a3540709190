"""English words and names, rules in both languages, gazetteers and user dictionaries: what they find, and what of them is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jieba
import pytest
import tasks_helper as toy
from hypothesis import given
from hypothesis import strategies as st
from prepare_helper import run_prepare

from corpus_prep.english import MAX_NAME_WORDS, EnglishSegmenter, names
from corpus_prep.entities import _RULES, Gazetteer, ruled
from corpus_prep.languages import entities_of, segmenter_name_of, segmenter_of
from corpus_prep.sentences import split_sentences
from corpus_prep.words import words_of
from ernie_core.errors import InputError
from ernie_core.normalise import basic_tokens, normalise
from ernie_core.schemas import BETWEEN_WORDS, Sentence


def settings(language: str = "zh", **changes: Any) -> dict[str, Any]:
    return {"language": language, "user_dictionary": None, "gazetteer": None, "to_simplified": False, **changes}


def cut(text: str, language: str, **changes: Any) -> Sentence:
    of = settings(language, **changes)
    lower, original = normalise(text)
    return toy.segmented_sentence(lower, original, segmenter_of(of), entities_of(of))


def found(text: str, language: str = "en", **changes: Any) -> list[str]:
    sentence = cut(text, language, **changes)
    return ["".join(sentence.words[u.start : u.end]) for u in sentence.units]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Bank of England said Mr. Brown lost.", ["bank of england", "mr. brown"]),
        ("However, Tony Blair's visit to New York (US) was short.", ["tony blair", "new york", "us"]),
        ("Police in Marks & Spencer found an iPhone.", ["marks & spencer", "iphone"]),
        ("London is big.", []),
        ("BBC News is big.", ["bbc news"]),
        ("UK sales fell.", ["uk"]),
        ('He said: "Paris is nice, I think" to J. K. Rowling.', ["paris", "j. k. rowling"]),
        ("Ludwig van Beethoven met us of all people.", ["ludwig van beethoven"]),
        ("Anglo-Dutch Unilever and the Anglo-Saxons.", ["anglo-dutch unilever", "anglo-saxons"]),
        ("He went to Paris. - Bonn", ["paris", "bonn"]),
        ("MICROSOFT WINS CASE IN US", []),
        ("", []),
    ],
)  # fmt: skip
def test_names_are_runs_of_capitalised_words(text: str, expected: list[str]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("It cost £3.5 million on 5 March 2018.", "en", ["£3.5 million", "5 march 2018"]),
        ("on March 5, 2018 at 12:30 it fell 2.5% to 3,000", "en", ["march 5, 2018", "12:30", "2.5%", "3,000"]),
        ("in May 2004 we may see 10 may 1999", "en", ["may 2004", "10 may 1999"]),
        ("see https://example.com/a?b=1, or mail bob@x.org now", "en", ["https://example.com/a?b=1", "bob@x.org"]),
        ("the f-16 and the a320 are no b2b2c1 things of 1998", "en", ["f-16", "a320"]),
        ("2018年3月5日，哈尔滨市共3,000万元", "zh", ["2018年3月5日", "哈尔滨市", "3,000万元"]),
        ("第3届大会于12:30在www.sina.com.cn/a.html直播", "zh", ["第3", "12:30", "www.sina.com.cn/a.html"]),
        ("苹果iPhone6S和F-16发布", "zh", ["iphone6s", "f-16"]),
        ("他3个", "zh", []),
    ],
)
def test_rules_find_dates_numbers_urls_and_models(text: str, language: str, expected: list[str]) -> None:
    assert found(text, language) == expected
    assert language == "en" or found(text, "mixed") == expected


@given(
    st.lists(st.sampled_from(["Tony", "of", "the", "I", "US", "&", "-", ".", "'", "s", " ", " ", '"', "北", "5", "5%", "x"]), max_size=30).map(
        "".join
    )
)
def test_units_of_any_text_are_whole_sorted_and_short(text: str) -> None:
    for language in ("en", "mixed"):
        sentence = cut(text, language)
        assert sentence.text == normalise(text)[0]
        covered = [i for u in sentence.units for i in range(u.start, u.end)]
        assert covered == sorted(set(covered))
        assert all(not sentence.words[i].isspace() for u in sentence.units for i in (u.start, u.end - 1))
    lower, original = normalise(text)
    words = EnglishSegmenter().words([lower])[0]
    for first, end in names(words, original):
        assert sum(not w.isspace() for w in words[first:end]) <= 2 * MAX_NAME_WORDS


@given(st.text(max_size=60))
def test_english_words_are_berts_basic_tokens_and_join_back(text: str) -> None:
    lower = normalise(text)[0]
    words = EnglishSegmenter().words([lower])[0]
    assert "".join(words) == lower
    assert [w for w in words if not w.isspace()] == basic_tokens(lower)


def test_most_names_of_real_news_are_found_and_few_else(test_data: Path) -> None:
    """Of words that are never written small in all of the articles, most inside sentences are in a name; of the others hardly any."""
    small, seen = set[str](), list[tuple[str, bool, bool]]()
    for lines in toy.bbc_articles(test_data, 300):
        for text in (s for line in lines for s in split_sentences(line)):
            sentence = cut(text, "en")
            inside = {i for u in sentence.units for i in range(u.start, u.end)}
            at = 0
            for i, word in enumerate(sentence.words):
                shown = sentence.original[at : at + len(word)]
                at += len(word)
                if word.isalpha() and len(word) > 2:
                    small.update([word] if shown.islower() else [])
                    seen.append((word, at > len(word), i in inside))
    named = [hit for word, within, hit in seen if within and word not in small]
    common = [hit for word, _, hit in seen if word in small]
    assert sum(named) / len(named) > 0.95
    assert sum(common) / len(common) < 0.05


def test_a_mixed_corpus_cuts_each_sentence_as_it_is() -> None:
    texts = ["i'm in new york.", "我来到北京清华大学", "用gpt-4写代码"]
    words = segmenter_of(settings("mixed")).words(texts)
    assert words == [["i", "'", "m", " ", "in", " ", "new", " ", "york", "."], *(list(jieba.cut(t)) for t in texts[1:])]
    assert found("Tony Blair来到北京", "mixed") == found("Tony Blair来到北京", "zh")


def test_a_gazetteer_s_names_are_found_before_all_others_between_borders_of_words(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("\ufeff上海 合作组织\nNew York Times\nNew York\n省会\n\n黑龙\n", encoding="utf-8")
    of = {"gazetteer": str(path)}
    assert found("哈尔滨是黑龙江的省会", "zh", **of) == ["哈尔滨", "黑龙江", "省会"]
    assert found("the new york times of new york", "en", **of) == ["new york times", "new york"]
    assert found("上海　合作组织", "zh", **of) == ["上海 合作组织"]
    assert segmenter_name_of(settings(**of)) != segmenter_name_of(settings())


@given(st.lists(st.text("ab ", max_size=4), max_size=6), st.text("ab ", max_size=30))
def test_a_gazetteer_takes_the_longest_name_at_each_border(entries: Sequence[str], text: str) -> None:
    words = EnglishSegmenter().words([text])[0]
    starts = [0]
    for word in words:
        starts.append(starts[-1] + len(word))
    expected, at = [], 0
    while at < len(text):
        ends = [at + len(e) for e in entries if e and text.startswith(e, at) and at + len(e) in starts]
        if at in starts and ends:
            expected.append((at, max(ends)))
            at = max(ends)
        else:
            at += 1
    assert list(Gazetteer(entries).spans(text, starts)) == expected


def test_a_user_dictionary_s_words_are_normalised_and_used(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("\ufeff云计算 5 nz\nＧＰＴ４\n\n", encoding="utf-8")
    of = {"user_dictionary": str(path)}
    assert cut("云计算和GPT4", "zh", **of).words == ("云计算", "和", "gpt4")
    assert found("云计算好", "zh", **of) == ["云计算"]
    assert found("云计算好", "zh") == []
    assert len({segmenter_name_of(settings(language, **of)) for language in ("zh", "mixed")} | {segmenter_name_of(settings())}) == 3


@pytest.mark.parametrize(
    ("data", "where", "what"),
    [
        (b"\xd4\xc6\n", "words.txt byte 0", "not UTF-8"),
        ("云计算\n云 5 nz x\n".encode(), "words.txt:2", "a line"),
        ("云 x nz\n".encode(), "words.txt:1", "a line"),
        (b"New York\n", "words.txt:1", "a line"),
        (("云" * 256 + "\n").encode(), "words.txt:1", "a line"),
        ("\u200b 5\n".encode(), "words.txt:1", "a line"),
    ],
)
def test_a_bad_user_dictionary_is_refused_by_name(tmp_path: Path, data: bytes, where: str, what: str) -> None:
    (tmp_path / "words.txt").write_bytes(data)
    with pytest.raises(InputError, match="E-DICTIONARY") as e:
        segmenter_of(settings(user_dictionary=str(tmp_path / "words.txt")))
    assert e.value.where.endswith(where)
    assert what in e.value.what


def test_dictionaries_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes(b"\xff")
    with pytest.raises(InputError, match="a gazetteer is not UTF-8"):
        entities_of(settings(gazetteer=str(tmp_path / "names.txt")))
    with pytest.raises(InputError, match="cannot be read"):
        entities_of(settings(gazetteer=str(tmp_path / "none.txt")))
    (tmp_path / "long.txt").write_text("云" * 255)
    assert segmenter_of(settings(user_dictionary=str(tmp_path / "long.txt"))).words(["云" * 256]) == [["云" * 255, "云"]]


def test_the_longest_word_of_a_user_dictionary_is_jiebas(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("云" * 255 + " 3\n")
    theirs = jieba.Tokenizer()
    theirs.load_userdict(str(path))
    text = "天上" + "云" * 300 + "很多"
    assert segmenter_of(settings(user_dictionary=str(path))).words([text]) == [list(theirs.cut(text))]


def test_a_changed_gazetteer_prepares_again_and_another_language_too(corpus: Path, tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("北京\n", encoding="utf-8")
    facts = [run_prepare(corpus, tmp_path / "out", gazetteer=str(path)).facts["segmenter"]]
    path.write_text("北京\n上海\n", encoding="utf-8")
    said: list[str] = []
    facts.append(run_prepare(corpus, tmp_path / "out", said=said, gazetteer=str(path)).facts["segmenter"])
    facts.append(run_prepare(corpus, tmp_path / "mixed", language="mixed").facts["segmenter"])
    assert (tmp_path / "out" / "tables" / "gazetteer.txt").read_bytes() == path.read_bytes()
    assert len(set(facts)) == 3
    assert any("software changed" in line for line in said), said


@given(st.text(st.sampled_from("第3年5月.$a7-b@w:/ https://www.x.com may gpt４٣元%在"), max_size=40))
def test_a_rule_is_found_from_its_first_character_on(text: str) -> None:
    matches = [(*match.span(), match.lastgroup) for match in _RULES.finditer(text)]
    letters = words_of([BETWEEN_WORDS.join(text)])  # every character a word
    assert list(ruled(letters)) == [(start, end) for start, end, name in matches if end - start > 1 or name in ("url", "model")]
