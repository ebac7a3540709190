"""The tokenizer on a toy vocabulary, and against the tokenizers package on real lines."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path

import chinese_text
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer

from ernie_core.normalise import basic_tokens, is_run_char, normalise
from ernie_core.tokenization import Tokenizer
from ernie_core.vocab import SPECIAL_TOKENS, Vocab

PIECES = ("哈", "尔", "滨", "是", "，", ".", "[", "]", "#", "a", "b", "##a", "##b", "gp", "##t", "##t4", "mask", "1", "##1")
TOKENIZER = Tokenizer(Vocab((*SPECIAL_TOKENS, *PIECES)))


def tokens(text: str) -> list[str]:
    return [TOKENIZER.vocab.tokens[i] for i in TOKENIZER.encode(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("哈尔滨是，", ["哈", "尔", "滨", "是", "，"]),
        ("GPT4是", ["gp", "##t4", "是"]),
        ("gptt", ["gp", "##t", "##t"]),
        ("Ａ哈b ab", ["a", "哈", "b", "a", "##b"]),
        ("[MASK]", ["[", "mask", "]"]),
        ("##a", ["#", "#", "a"]),
        ("黑", ["[UNK]"]),
        ("abx ab", ["[UNK]", "a", "##b"]),
        ("a" * 101, ["[UNK]"]),
        ("a" * 100, ["a"] + ["##a"] * 99),
        (" \n", []),
    ],
)
def test_text_becomes_the_expected_pieces(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


@given(st.text(alphabet="哈尔黑是，. #[]ab1gpt4\u200bＡ", max_size=40))
def test_offsets_cover_every_character_but_spaces_once(text: str) -> None:
    ids, offsets = TOKENIZER.encode_with_offsets(text)
    normal = normalise(text)[0]
    assert ids == TOKENIZER.encode(text)
    covered = [i for start, end in offsets for i in range(start, end)]
    assert covered == [i for i, c in enumerate(normal) if c != " "]
    for i, (start, end) in zip(ids, offsets, strict=True):
        token = TOKENIZER.vocab.tokens[i]
        assert token == "[UNK]" or normal[start:end] == token.removeprefix("##" if len(token) > 2 else "")


@given(st.text(alphabet="哈尔是，. #[]ab1\u200bＡ", max_size=40))
def test_decoding_gives_the_normalised_text_back_but_for_spaces_beside_cjk_and_punctuation(text: str) -> None:
    normal = normalise(text)[0]
    kept = "".join(c for i, c in enumerate(normal) if c != " " or (is_run_char(normal[i - 1]) and is_run_char(normal[i + 1])))
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == kept


@given(st.lists(st.text(alphabet="哈尔，a1", min_size=1, max_size=5), max_size=8))
def test_words_encoded_one_by_one_equal_the_text_when_no_run_is_cut(words: list[str]) -> None:
    whole = [w + " " for w in words]
    assert [i for w in whole for i in TOKENIZER.encode_word(w)] == TOKENIZER.encode("".join(whole))


@given(st.lists(st.one_of(st.text(max_size=30), st.text(alphabet="哈尔黑是，. #[]ab1gpt4", max_size=30)), max_size=5))
def test_many_texts_at_once_have_the_ids_and_offsets_of_each(texts: list[str]) -> None:
    assert parts(TOKENIZER, [normalise(text)[0] for text in texts]) == [TOKENIZER.encode_with_offsets(text) for text in texts]


def parts(tokenizer: Tokenizer, texts: list[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
    found = tokenizer.encode_batch(texts)
    offsets = list(zip(found.starts.tolist(), found.ends.tolist(), strict=True))
    return [(found.ids[a:b].tolist(), offsets[a:b]) for a, b in pairwise(found.bounds.tolist())]


def different(ours: Tokenizer, theirs: BertWordPieceTokenizer, lines: list[str]) -> list[str]:
    expected = [(e.ids, e.offsets) for e in theirs.encode_batch(lines, add_special_tokens=False)]
    return [line for line, a, b in zip(lines, parts(ours, lines), expected, strict=True) if a != b]


@pytest.mark.parity
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])], ids=["sample", "all"])
def test_ids_and_offsets_of_all_chinese_text_equal_the_tokenizers_package(test_data: Path, tmp_path: Path, *, every: bool) -> None:
    vocab = Vocab.load(test_data / "ernie_reference" / "vocab_zh.txt")
    (tmp_path / "vocab.txt").write_bytes(vocab.to_bytes())
    theirs = BertWordPieceTokenizer(str(tmp_path / "vocab.txt"), clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=False)
    ours = Tokenizer(vocab)
    for path in chinese_text.files(test_data):
        lines = chinese_text.lines(path)
        lines = [normalise(line)[0] for line in (lines if every else lines[:: max(1, len(lines) // 40)])]
        assert not different(ours, theirs, lines), path


def real_lines(test_data: Path, count: int) -> list[str]:
    with gzip.open(test_data / "raw_zh_inews" / "train.jsonl.gz", "rt", encoding="utf-8") as f:
        pages = [str(json.loads(next(f))) for _ in range(count // 2)]
    with gzip.open(test_data / "raw_zh_cluecorpussmall" / "CLUECorpusSmall_bert_sampled.txt.gz", "rt", encoding="utf-8") as f:
        return pages + [next(f) for _ in range(count // 2)]


@pytest.mark.parity
@pytest.mark.parametrize("name", ["zh", "en"])
def test_ids_and_offsets_equal_the_tokenizers_package_on_real_lines(test_data: Path, tmp_path: Path, name: str) -> None:
    vocab = Vocab.load(test_data / "ernie_reference" / f"vocab_{name}.txt")
    (tmp_path / "vocab.txt").write_bytes(vocab.to_bytes())
    theirs = BertWordPieceTokenizer(str(tmp_path / "vocab.txt"), clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=False)
    ours = Tokenizer(vocab)
    lines = real_lines(test_data, 160)
    assert sum(map(len, lines)) > 50_000
    for line in lines:
        normal = normalise(line)[0]
        expected = theirs.encode(normal, add_special_tokens=False)
        ids, offsets = ours.encode_with_offsets(line)
        assert ids == expected.ids
        assert offsets == expected.offsets
        assert [i for token in basic_tokens(normal) for i in ours.encode_word(token)] == ids
