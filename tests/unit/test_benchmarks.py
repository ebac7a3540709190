"""Benchmarks' files and their encoding: every bad row is named, and tags stay on their characters."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ernie_core.benchmarks.base import Benchmark, Example, all_benchmarks, overlap, read_subset
from ernie_core.benchmarks.classification import REVIEWS
from ernie_core.benchmarks.sequence_labelling import DAILY_NER, align
from ernie_core.errors import InputError
from ernie_core.normalise import normalise
from ernie_core.tokenization import Tokenizer
from ernie_core.vocab import SPECIAL_TOKENS, Vocab

O = DAILY_NER.labels.index("O")  # noqa: E741 (the tag's name)
TOKENS = (*SPECIAL_TOKENS, *"张三到北京大学好一二", "ab", "##cd", "##c", "##d", "e", "1", "##2", "n", "##y")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(Vocab(TOKENS))


def _write(folder: Path, text: str | bytes) -> Path:
    path = folder / "dev.tsv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_folder_scan_finds_the_benchmarks() -> None:
    assert list(all_benchmarks()) == ["daily_ner", "reviews"]


BAD_ROWS = [
    (REVIEWS, "label\ttext_a\n1\t好\n2\t坏\n", ":3", "one of 0, 1", "label '2'"),
    (REVIEWS, "label\ttext_a\n1.0\t好\n", ":2", "one of 0, 1", "label '1.0'"),
    (REVIEWS, "label\ttext_a\nnan\t好\n", ":2", "one of 0, 1", "label 'nan'"),
    (REVIEWS, "label\ttext_a\npositive\t好\n", ":2", "one of 0, 1", "label 'positive'"),
    (REVIEWS, "label\ttext_a\n\t好\n", ":2", "one of 0, 1", "label ''"),
    (REVIEWS, "label\ttext_a\n1\t好\t坏\n", ":2", "2 columns", "3: 1\\t好\\t坏"),
    (REVIEWS, "label\ttext_a\n1\n", ":2", "2 columns", "1: 1"),
    (REVIEWS, "label\ttext_a\n1\t\n", ":2", "a text in text_a", "nothing"),
    (REVIEWS, "1\t好\n0\t坏\n", ":1", "label TAB text_a", "1 TAB 好"),
    (REVIEWS, b"label\ttext_a\n1\t\xff\n", ":2, byte 2", "", "1\\t\\xff"),
    (REVIEWS, "", ":1", "label TAB text_a", "nothing"),
    (DAILY_NER, "text_a\tlabel\n张\x02三\tB-PER\n", ":2", "one tag a character", "2 characters and 1 tags"),
    (DAILY_NER, "text_a\tlabel\n张\tPER\n", ":2", "one of B-PER, I-PER", "label 'PER'"),
    (DAILY_NER, "text_a\tlabel\n张\t-100\n", ":2", "one of", "label '-100'"),
    (DAILY_NER, "text_a\tlabel\textra\n", ":1", "text_a TAB label", "text_a TAB label TAB extra"),
]


@pytest.mark.parametrize(("benchmark", "text", "place", "expected", "found"), BAD_ROWS)
def test_a_wrong_row_is_named_with_what_is_allowed(
    benchmark: Benchmark, text: str | bytes, place: str, expected: str, found: str, tmp_path: Path
) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(InputError) as error:
        read_subset(benchmark, path)
    assert error.value.exit_code == 3
    assert error.value.where == f"{path}{place}"
    assert error.value.expected.startswith(expected)
    assert error.value.found.startswith(found)


@pytest.mark.parametrize("text", ["label\ttext_a\n", "label\ttext_a\n-100\t好\n"])
def test_a_file_without_labelled_rows_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="E-BENCH-EMPTY"):
        read_subset(REVIEWS, _write(tmp_path, text))
    with pytest.raises(InputError, match="E-BENCH-MISSING"):
        read_subset(REVIEWS, tmp_path / "no.tsv")


def test_rows_are_read_in_any_order_of_columns_and_ignored_ones_are_counted(tmp_path: Path) -> None:
    subset = read_subset(REVIEWS, _write(tmp_path, "text_a\tlabel\r\n好\t1\r\n坏\t-100\r\n一 \u2028二\t0"))
    assert subset.examples == (Example(("好",), (1,)), Example(("一 \u2028二",), (0,)))
    assert subset.ignored == 1


def test_texts_that_stand_in_both_subsets_are_counted_after_normalising() -> None:
    train = [Example(("ＡＢ 好",), (1,)), Example(("二",), (0,))]
    assert overlap(train, [Example(("ab 好",), (0,)), Example(("ab好",), (0,)), Example(("ab  好",), (1,))]) == 2


def test_a_classified_text_is_cut_at_the_end_and_keeps_its_label(tokenizer: Tokenizer) -> None:
    examples = [Example(("张三到北京",), (1,)), Example(("好",), (0,))]
    encoded = REVIEWS.encode(examples, REVIEWS, tokenizer, 5)
    long, short = encoded.samples
    assert long.token_ids == [tokenizer.vocab.cls_id, *tokenizer.encode("张三到"), tokenizer.vocab.sep_id]
    assert (long.label, short.label, len(short.token_ids), encoded.truncated) == (1, 0, 3, 1)
    assert encoded.outcomes(np.array([1, 1])).tolist() == [[1, 1], [0, 1]]


def _tags(text: str) -> tuple[int, ...]:
    return tuple(DAILY_NER.labels.index(t) for t in text.split())


def test_tags_follow_their_characters_into_tokens_and_back(tokenizer: Tokenizer) -> None:
    characters = ("\u200b", "张", "三", " ", "到", "Ａ", "b", "c", "d", "e", "好")
    tags = _tags("O B-PER I-PER O O B-ORG I-ORG I-ORG I-ORG O B-LOC")
    encoded = DAILY_NER.encode([Example(characters, tags)], DAILY_NER, tokenizer, 32)
    (sample,) = encoded.samples
    pieces = [tokenizer.vocab.tokens[i] for i in sample.token_ids]
    assert pieces == ["[CLS]", "张", "三", "到", "[UNK]", "好", "[SEP]"]
    assert sample.token_labels["tags"] == [-1, *_tags("B-PER I-PER O B-ORG B-LOC"), -1]
    perfect = np.maximum(np.array(sample.token_labels["tags"]), 0)
    assert encoded.outcomes(perfect).tolist() == [[3, 3, 2]], "one token cannot end a chunk in its middle"


def test_further_tokens_of_one_character_carry_inside_tags() -> None:
    tokenizer = Tokenizer(Vocab((*SPECIAL_TOKENS, "1", "##2", "好")))
    encoded = DAILY_NER.encode([Example(("12", "好"), _tags("B-LOC I-LOC"))], DAILY_NER, tokenizer, 16)
    assert encoded.samples[0].token_labels["tags"] == [-1, *_tags("B-LOC I-LOC I-LOC"), -1]
    assert encoded.outcomes(np.array([O, *_tags("B-LOC O I-LOC"), O])).tolist() == [[1, 1, 1]], "the first token of a character decides"


def test_a_chunk_cut_away_by_the_length_counts_as_missed(tokenizer: Tokenizer) -> None:
    examples = [Example(tuple("张三到北京"), _tags("B-PER I-PER O B-LOC I-LOC")), Example(tuple("张三"), _tags("B-PER I-PER"))]
    encoded = DAILY_NER.encode(examples, DAILY_NER, tokenizer, 6)
    predicted = np.concatenate([np.maximum(s.token_labels["tags"], 0) for s in encoded.samples])
    assert encoded.truncated == 1
    assert encoded.outcomes(predicted).tolist() == [[2, 2, 1], [1, 1, 1]]


@given(st.lists(st.text("aeＡÉe\u0301\u0302\u200b \t\u3000好，\u1100\u1161한J\u030cΣİ𠀀", min_size=1, max_size=2), max_size=12))
def test_alignment_gives_the_normalised_text_with_rising_sources_or_says_that_it_cannot(characters: list[str]) -> None:
    try:
        text, source = align(characters)
    except InputError as e:
        assert e.code == "E-BENCH-ALIGN"  # noqa: PT017 (either outcome is right)
        assert "\u1161" in "".join(characters) or "\u030c" in "".join(characters)
        return
    assert text == normalise("".join(characters))[0]
    assert len(source) == len(text)
    assert source == sorted(source)
    assert all(0 <= i < len(characters) for i in source)


def test_combining_marks_and_dropped_characters_keep_the_rest_in_place() -> None:
    assert align(["Ａ", "\u200b", " ", " ", "好"]) == ("a 好", [0, 2, 4])
    assert align(["e", "\u200b", "\u0301", "x"]) == ("éx", [0, 3])
    assert align([" ", "好", " "]) == ("好", [1])


def test_real_reviews_and_entities_are_read_and_encoded_whole(test_data: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer(Vocab.load(test_data / "ernie_reference" / "vocab_zh.txt"))
    for benchmark, folder, rows in ((REVIEWS, "chnsenticorp", 1200), (DAILY_NER, "msra_ner", 2318)):
        path = _write(tmp_path, gzip.decompress((test_data / folder / "dev.tsv.gz").read_bytes()))
        subset = read_subset(benchmark, path)
        assert len(subset.examples) == rows
        encoded = benchmark.encode(subset.examples, benchmark, tokenizer, 512)
        if benchmark.kind == "classification":
            assert benchmark.metric.of(encoded.outcomes(np.array([s.label for s in encoded.samples]))) == 1.0
        else:
            perfect = np.concatenate([np.maximum(s.token_labels["tags"], 0) for s in encoded.samples])
            assert benchmark.metric.of(encoded.outcomes(perfect)) > 0.995
