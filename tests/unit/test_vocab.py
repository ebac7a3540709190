"""Vocabulary files: both formats read, everything odd refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ernie_core.errors import InputError
from ernie_core.vocab import SPECIAL_TOKENS, Vocab

GOOD = b"[PAD]\n[CLS]\n[SEP]\n[MASK]\n[UNK]\n\xe7\x9a\x84\n##a\n"


def test_both_formats_give_the_same_vocabulary_and_hash() -> None:
    numbered = b"".join(line + b"\t%d\n" % i for i, line in enumerate(GOOD.splitlines()))
    one, two = Vocab.from_bytes(GOOD, "a"), Vocab.from_bytes(numbered, "b")
    assert one == two
    assert one.sha256 == two.sha256
    assert one.to_bytes() == two.to_bytes() == GOOD


def test_special_ids_are_found_by_name() -> None:
    vocab = Vocab.from_bytes(GOOD, "a")
    assert (vocab.pad_id, vocab.cls_id, vocab.sep_id, vocab.mask_id, vocab.unk_id, vocab.size) == (0, 1, 2, 3, 4, 7)
    assert vocab.ids["的"] == 5


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (GOOD + b"##a\n", "line 8"),
        (GOOD.replace(b"[CLS]\n", b"[CLS]\n\n"), "line 3"),
        (GOOD.replace(b"\n", b"\r\n"), "line 1"),
        (GOOD.replace(b"[MASK]\n", b""), "no [MASK]"),
        (b"[PAD]\t0\n[CLS]\t2\n", "line 2"),
        (b"[PAD]\t0\n[CLS]\t01\n", "line 2"),
        (b"[PAD]\t0\tx\n", "line 1"),
        (GOOD + b"\xff\n", "line 8"),
        (GOOD + b" a\n", "line 8"),
        (b"", "no [PAD]"),
    ],
    ids=["duplicate", "blank", "crlf", "no mask", "reordered", "odd id", "three columns", "not utf-8", "white space", "empty"],
)
def test_a_malformed_vocabulary_is_refused_with_its_line(data: bytes, line: str) -> None:
    with pytest.raises(InputError) as error:
        Vocab.from_bytes(data, "vocab.txt")
    assert error.value.code == "E-VOCAB-FORMAT"
    assert line in str(error.value)


def test_swapping_two_lines_changes_the_hash() -> None:
    assert Vocab((*SPECIAL_TOKENS, "a", "b")).sha256 != Vocab((*SPECIAL_TOKENS, "b", "a")).sha256


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="E-VOCAB-MISSING") as error:
        Vocab.load(tmp_path / "none.txt")
    assert "none.txt" in str(error.value)


@pytest.mark.parametrize(("name", "size", "specials"), [("zh", 17964, (0, 1, 2, 3, 17963)), ("en", 30522, (0, 101, 102, 103, 100))])
def test_the_published_vocabularies_load(test_data: Path, name: str, size: int, specials: tuple[int, ...]) -> None:
    vocab = Vocab.load(test_data / "ernie_reference" / f"vocab_{name}.txt")
    assert vocab.size == size
    assert (vocab.pad_id, vocab.cls_id, vocab.sep_id, vocab.mask_id, vocab.unk_id) == specials


@pytest.mark.parametrize(
    ("path", "size", "tokens"),
    [
        ("ernie_reference/vocab_zh.txt", 17964, {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[MASK]": 3, "，": 4, "的": 5, "[UNK]": 17963}),
        ("ernie_reference/vocab_en.txt", 30522, {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[MASK]": 103, "the": 1996}),
        ("vocab/google_zh_vocab.txt", 21128, {"[PAD]": 0, "[UNK]": 100, "\u2028": 343, "的": 4638}),
        ("vocab/google_cased_en_vocab.txt", 28996, {"[PAD]": 0, "[UNK]": 100, "The": 1109}),
    ],
)
def test_published_vocabularies_are_read(test_data: Path, path: str, size: int, tokens: dict[str, int]) -> None:
    vocab = Vocab.load(test_data / path)
    assert vocab.size == size
    assert {token: vocab.ids[token] for token in tokens} == tokens
    assert Vocab.from_bytes(vocab.to_bytes(), "again") == vocab
