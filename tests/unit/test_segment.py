"""The words are jieba's: on any text, on real text, with user dictionaries, whatever lies in the shared temporary folder."""

from __future__ import annotations

import io
import marshal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import chinese_text
import jieba
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jieba import finalseg

import corpus_prep.segment
from corpus_prep.segment import JiebaSegmenter, load_segmenter, segmenter_name
from ernie_core.normalise import normalise

SAMPLE = 40  # lines a file in CI
USER_DICTIONARY = """云计算 5 n
创新办 3 i
gpt4 50 nz
a1 3
c++语言 7 nz
台中
江大桥 0
中国 100000 ns
之其 1 x
"""
# Blocks, and what stands between them; listed words with ASCII in them; characters that only rjieba takes for Chinese; line ends.
PARTS = ("中华人民共和国", "在", "的", "我", "T恤", "卡拉OK", "AT&T", "c++", "AA制", "5-6", "v1.5a", "3.14%", "a", "Z", "0", "é", "+", "#", "&", ".", "_", "%", "-", "。",
         "，", " ", "\t", "\r\n", "\r", "\n", "\0", "\ue000", "㸒", "龥", "\u9fd5", "\u9fd6", "\u9fff", "豈", "𠀀", "😀", "\ud800", "\u3000", "常", "某", "武", "之", "丂", "∶")  # fmt: skip
TEXT = st.one_of(
    st.lists(st.sampled_from(PARTS), max_size=30).map("".join),
    st.text(max_size=40),
    st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), max_size=12),
    st.text(st.sampled_from("江大桥台中国云计算创新办主任gpt4a1c+语言之其"), max_size=30),
)


@pytest.fixture(scope="module", autouse=True)
def _no_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the reference away from whatever cache lies in the shared temporary folder."""
    old = jieba.dt.tmp_dir
    jieba.dt.tmp_dir = str(tmp_path_factory.mktemp("jieba"))
    yield
    jieba.dt.tmp_dir = old


@settings(max_examples=1500)
@given(st.lists(TEXT, max_size=4))
def test_words_of_any_texts_are_jiebas(texts: list[str]) -> None:
    assert load_segmenter().words(texts) == [list(jieba.cut(text)) for text in texts]


def test_every_character_is_cut_as_jieba_cuts_it() -> None:
    texts = [f"天{chr(i)}气{chr(i)}{chr(i)}a{chr(i)}1" for i in range(0, 0x110000, 7)]
    assert load_segmenter().words(texts) == [list(jieba.cut(text)) for text in texts]


def test_batches_do_not_change_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["他来到了网易杭研大厦", "", "5-6月", "常在某", "\r", "\n"] * 3
    whole = load_segmenter().words(texts)
    monkeypatch.setattr(corpus_prep.segment, "BATCH_CHARS", 3)
    assert load_segmenter().words(texts) == whole
    assert load_segmenter().words([]) == []


def test_a_very_long_line_without_a_break_is_cut_whole() -> None:
    text = "犇羴鱻麤" * 20_000
    words = load_segmenter().words([text])[0]
    assert "".join(words) == text
    assert words[:90] == list(jieba.cut(text[:400]))[:90]


@pytest.fixture(scope="module")
def with_user_words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[JiebaSegmenter, jieba.Tokenizer]]:
    path = tmp_path_factory.mktemp("user") / "words.txt"
    path.write_text(USER_DICTIONARY, encoding="utf-8")
    ours = JiebaSegmenter(user_dictionary=path.read_bytes())
    theirs = jieba.Tokenizer()
    theirs.tmp_dir = str(path.parent)
    old = set(finalseg.Force_Split_Words)
    theirs.load_userdict(io.BytesIO(path.read_bytes()))
    yield ours, theirs
    finalseg.Force_Split_Words.clear()
    finalseg.Force_Split_Words.update(old)


@settings(max_examples=1500)
@given(text=TEXT)
def test_words_with_a_user_dictionary_are_jiebas(with_user_words: tuple[JiebaSegmenter, jieba.Tokenizer], text: str) -> None:
    ours, theirs = with_user_words
    assert ours.words([text])[0] == list(theirs.cut(text))


def test_a_user_dictionary_changes_words_tags_and_the_record(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text(USER_DICTIONARY, encoding="utf-8")
    ours = JiebaSegmenter(user_dictionary=path.read_bytes())
    assert "云计算" in ours.words(["云计算好"])[0]
    assert "云计算" not in load_segmenter().words(["云计算好"])[0]
    assert (ours.tag("gpt4"), ours.tag("哈尔滨"), ours.tag("没有这词")) == ("nz", "ns", "")
    assert ours.name == segmenter_name(None, path.read_bytes()) != load_segmenter().name == segmenter_name()


def test_a_planted_cache_does_not_change_the_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "jieba.cache").write_bytes(marshal.dumps((dict.fromkeys("中国人民共和", 1), 6)))
    planted = jieba.Tokenizer()
    assert list(planted.cut("中华人民共和国", HMM=False)) == list("中华人民共和国")
    segmenter = JiebaSegmenter()
    assert segmenter.words(["中华人民共和国"]) == [["中华人民共和国"]]
    assert [p.name for p in tmp_path.iterdir()] == ["jieba.cache"]


def differences(lines: list[str]) -> list[str]:
    ours = load_segmenter().words(lines)
    return [line for line, words in zip(lines, ours, strict=True) if words != list(jieba.cut(line))]


def test_words_of_every_file_are_jiebas(test_data: Path) -> None:
    for path in chinese_text.files(test_data):
        lines = chinese_text.lines(path)
        some = lines[:: max(1, len(lines) // SAMPLE)]
        assert not differences(some + [normalise(line)[0] for line in some]), path


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("normalised", [False, True], ids=["raw", "normalised"])
def test_words_of_all_chinese_text_are_jiebas(test_data: Path, *, normalised: bool) -> None:
    count = size = 0
    for path in chinese_text.files(test_data):
        lines = chinese_text.lines(path)
        lines = [normalise(line)[0] for line in lines] if normalised else lines
        assert not differences(lines), path
        count += len(lines)
        size += sum(len(line.encode("utf-8", "replace")) for line in lines)
    print(f"{count:,} lines, {size / 1e6:.1f} MB, none different")
    assert count > 1_000_000
