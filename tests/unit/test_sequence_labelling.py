"""Tagged sentences: files in any scheme, tags that stay on their characters, long sentences in pieces, and only legal tags as answers."""

from __future__ import annotations

import gzip
import itertools
import time
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ernie_core.benchmarks.base import Encoded, Example, Layout, Outputs, Subset
from ernie_core.benchmarks.decoding import best_tags, first_illegal
from ernie_core.benchmarks.sequence_labelling import DAILY_NER, MSRA_NER, align, cut_places, deciders
from ernie_core.benchmarks.tagged_layouts import SCHEMES, Conll, TaggedTable, scheme_of, to_bio
from ernie_core.errors import InputError
from ernie_core.normalise import normalise
from ernie_core.tokenization import Tokenizer
from ernie_core.vocab import SPECIAL_TOKENS, Vocab

LABELS = MSRA_NER.labels
O = LABELS.index("O")  # noqa: E741 (the tag's name)
TOKENS = (*SPECIAL_TOKENS, *"张三到北京大学好一二。，", "ab", "##cd", "##c", "##d", "e", "1", "##2", "n", "##y")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(Vocab(TOKENS))


@pytest.fixture(scope="module")
def chinese(test_data: Path) -> Tokenizer:
    return Tokenizer(Vocab.load(test_data / "ernie_reference" / "vocab_zh.txt"))


def _ids(text: str) -> tuple[int, ...]:
    return tuple(LABELS.index(t) for t in text.split())


def _legal(tags: Sequence[str]) -> bool:
    return all(tag[0] != "I" or before[1:] == tag[1:] for before, tag in itertools.pairwise(["O", *tags]))


def _sure(encoded: Encoded) -> Outputs:
    """Logits that say the gold tag of every token."""
    tags = np.concatenate([s.token_labels["tags"] for s in encoded.samples])
    return np.eye(len(LABELS), dtype=np.float32)[np.where(tags < 0, O, tags)]


def _logits(tags: Sequence[int]) -> Outputs:
    return np.eye(len(LABELS), dtype=np.float32)[list(tags)]


def _read(layout: Layout, folder: Path, text: str | bytes, name: str = "dev.tsv") -> Subset:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return layout.read(folder / name, MSRA_NER)


TABLE, TABBED, SPACED = TaggedTable(), Conll("\t"), Conll(" ")
BAD_ROWS = [
    (TABLE, "text_a\tlabel\n张\x02三\tB-PER\n", ":2", "one tag a character, both joined by U+0002", "2 characters and 1 tags"),
    (TABLE, "text_a\tlabel\n张 三\tB-PER I-PER\n三  张\tO O\n", ":3", "one tag a character, both joined by a space", "3 characters and 2 tags"),
    (TABLE, "text_a\tlabel\n张\tO\n张\x02三\tB-PER\x02PER\n", ":3", "one of B-PER, I-PER", "label 'PER'"),
    (TABLE, "text_a\tlabel\n张\t-100\n", ":2", "one of", "label '-100'"),
    (TABLE, "text_a\tlabel\n张\tB-XYZ\n", ":2", "one of B-", "label 'B-XYZ'"),
    (TABLE, "text_a\tlabel\n\tO\n", ":2", "a text in text_a", "nothing"),
    (TABLE, "text_a\tlabel\n张\tO\n\n", ":3", "2 columns", "1: "),
    (TABLE, "text_a\tlabel\textra\n", ":1", "text_a TAB label", "text_a TAB label TAB extra"),
    (TABLE, "", ":1", "text_a TAB label", "nothing"),
    (TABBED, "张\tB-PER\n三 I-PER\n", ":2", "a character, a tab and a tag", "三 I-PER"),
    (TABBED, "张\tB-PER\n\tO\n", ":2", "a character, a tab and a tag", "\\tO"),
    (TABBED, "张\tB-PER\tNR\n", ":1", "a character, a tab and a tag", "张\\tB-PER"),
    (SPACED, "\n\n张 B-PER\n三 I-PRE\n", ":4", "one of I-PER", "label 'I-PRE'"),
    (SPACED, "张 B-PER\n三 M-PER\n三 E-PER\n\n好 O\n到 E-PER\n", ":6", "B-PER before E-PER, in the scheme bmes", "O E-PER"),
    (
        SPACED,
        "张 B-PER\n三 E-PER\n好 S-LOC\n到 B-LOC\n\n好 O\n",
        ":4",
        "I-LOC or E-LOC after B-LOC, in the scheme bioes",
        "B-LOC at the sentence's end",
    ),
    (SPACED, "张 B-PER\n三 I-PER\n好 I-LOC\n到 E-LOC\n", ":3", "I-PER or E-PER after I-PER, in the scheme bioes", "I-PER I-LOC"),
    (SPACED, "张 B-PER\n三 I-PER\n\n好 O\n到 M-LOC\n", ":5", "one of ", "label 'M-LOC'"),
    (Conll(" ", "bio"), "张 B-PER\n三 E-PER\n", ":2", "one of ", "label 'E-PER'"),
]


@pytest.mark.parametrize(("layout", "text", "place", "expected", "found"), BAD_ROWS)
def test_a_wrong_row_is_named_with_what_is_allowed(layout: Layout, text: str, place: str, expected: str, found: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        _read(layout, tmp_path, text)
    assert error.value.exit_code == 3
    assert error.value.where == f"{tmp_path / 'dev.tsv'}{place}"
    assert error.value.expected.startswith(expected)
    assert error.value.found.startswith(found)


@pytest.mark.parametrize(("layout", "text"), [(TABLE, "label\ttext_a\n"), (TABBED, ""), (SPACED, "\n \n")])
def test_a_file_without_sentences_is_refused(layout: Layout, text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="E-BENCH-EMPTY"):
        _read(layout, tmp_path, text)
    with pytest.raises(InputError, match="E-BENCH-MISSING"):
        layout.read(tmp_path / "no.tsv", MSRA_NER)


TWO = (Example(("张", "三"), _ids("B-PER I-PER"), id="0"), Example(("到",), _ids("O"), id="1"))


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        (TABLE, "text_a\tlabel\n张\x02三\tB-PER\x02I-PER\n到\tO\n"),
        (TABLE, "label\ttext_a\r\nB-PER I-PER\t张 三\r\nO\t到"),
        (TABBED, "张\tB-PER\n三\tI-PER\n\n到\tO\n"),
        (SPACED, "\n张 B-PER\r\n三 I-PER\r\n \r\n\n到 O"),
        (SPACED, "张 B-PER\n三 E-PER\n\n到 O\n"),
        (SPACED, "张 I-PER\n三 I-PER\n\n到 O\n"),
    ],
)
def test_the_same_sentences_are_read_from_any_layout_packed_or_not(layout: Layout, text: str, tmp_path: Path) -> None:
    assert _read(layout, tmp_path, text).examples == TWO
    (tmp_path / "packed.tsv.gz").write_bytes(gzip.compress(text.encode()))
    assert layout.read(tmp_path / "packed.tsv", MSRA_NER).examples == TWO


def test_the_joint_of_a_file_holds_for_its_rows_of_one_character(tmp_path: Path) -> None:
    subset = _read(TABLE, tmp_path, "text_a\tlabel\n好\tO\n张\x02 \x02三\tB-PER\x02I-PER\x02I-PER\n")
    assert [e.texts for e in subset.examples] == [("好",), ("张", " ", "三")]


def test_white_space_can_be_a_tagged_character_of_columns(tmp_path: Path) -> None:
    assert _read(SPACED, tmp_path, "张 O\n  O\n三 O\n").examples[0].texts == ("张", " ", "三")
    assert _read(TABBED, tmp_path, "张\tO\n \tO\n\u2028\tO\n").examples[0].texts == ("张", " ", "\u2028")


def test_a_zip_of_one_file_is_read_and_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tagged.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folder/", "")
        archive.writestr("folder/a.txt", "\ufeff张\tB-PER\r\n三\tI-PER\r\n\r\n到\tO\r\n")
    assert TABBED.read(path, MSRA_NER).examples == TWO
    for content, code, place in ((b"\xff\tO\n", "E-BENCH-ROW", ":2, byte 0"), (None, "E-BENCH-PACKED", "")):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", b"\xe5\xa5\xbd\tO\n" + (content or b""))
            if content is None:
                archive.writestr("b.txt", "")
        with pytest.raises(InputError, match=code) as error:
            TABBED.read(path, MSRA_NER)
        assert error.value.where == f"{path}{place}"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match="E-BENCH-PACKED cannot unpack"):
        TABBED.read(path, MSRA_NER)


chunk_list = st.lists(st.tuples(st.sampled_from(["PER", "LOC", ""]), st.integers(1, 4)), max_size=8)


def _encode(chunks: list[tuple[str, int]], scheme: str) -> list[str]:
    tags: list[str] = []
    for kind, size in chunks:
        middle = "M" if scheme == "bmes" else "I"
        if not kind:
            letters = ["O"] * size
        elif scheme == "iob1":
            letters = ["B" if tags and tags[-1] != "O" and tags[-1][2:] == kind else "I", *["I"] * (size - 1)]
        elif scheme == "bio":
            letters = ["B", *["I"] * (size - 1)]
        else:
            letters = ["S"] if size == 1 else ["B", *[middle] * (size - 2), "E"]
        tags += [x if x == "O" else f"{x}-{kind}" for x in letters]
    return tags


@given(chunk_list, st.sampled_from(["bio", "iob1", "bmes", "bioes"]))
def test_every_scheme_gives_the_chunks_back(chunks: list[tuple[str, int]], scheme: str) -> None:
    tags = to_bio(_encode(chunks, scheme), "bio" if scheme == "iob1" else scheme)
    starts = np.cumsum([0, *(size for _, size in chunks)])
    expected = ["O"] * starts[-1]
    for (kind, size), start in zip(chunks, starts, strict=False):
        if kind:
            expected[start : start + size] = [f"B-{kind}", *[f"I-{kind}"] * (size - 1)]
    assert tags == expected
    assert _legal(tags)


@given(st.lists(st.sampled_from(["O", "B-X", "M-X", "I-X", "E-X", "S-X", "E-Y", "B-Y", "X", ""]), max_size=6), st.sampled_from(list(SCHEMES)))
def test_any_tags_become_legal_ones_or_are_refused_at_a_place_of_theirs(tags: list[str], scheme: str) -> None:
    try:
        converted = to_bio(tags, scheme)
    except ValueError as e:
        expected, found, place = e.args
        assert expected, found
        assert 0 <= place < len(tags)
        return
    assert _legal(converted)
    assert [tag == "O" for tag in converted] == [tag == "O" for tag in tags]


def test_the_scheme_of_a_file_is_that_of_most_of_its_tags_and_stands_in_the_notes(tmp_path: Path) -> None:
    for scheme in SCHEMES:
        assert scheme_of(Counter(_encode([("PER", 3), ("", 2), ("LOC", 1)], scheme))) == scheme
    assert scheme_of(Counter({"O": 3})) == "bio"
    assert _read(SPACED, tmp_path, "张 B-PER\n三 M-PER\n三 E-PER\n").notes == {"scheme": "bmes"}
    assert _read(SPACED, tmp_path, "张 B-PER\n三 I-PER\n").notes == {"scheme": "bio"}
    assert _read(SPACED, tmp_path, "张 I-PER\n三 I-LOC\n三 B-LOC\n").notes == {"scheme": "bio", "chunks without B": "2"}


@given(st.lists(st.text("aeＡÉe\u0301\u0302\u200b \t\u3000好，\u1100\u1161한J\u030cΣİ𠀀", min_size=1, max_size=2), max_size=12))
def test_alignment_gives_the_normalised_text_with_rising_sources(characters: list[str]) -> None:
    text, source = align(characters)
    assert text == normalise("".join(characters))[0]
    assert len(source) == len(text)
    assert source == sorted(source)
    assert all(0 <= i < len(characters) for i in source)


def test_combining_marks_and_dropped_characters_keep_the_rest_in_place() -> None:
    assert align(["Ａ", "\u200b", " ", " ", "好"]) == ("a 好", [0, 2, 4])
    assert align(["e", "\u200b", "\u0301", "x"]) == ("éx", [0, 3])
    assert align([" ", "好", " "]) == ("好", [1])


def test_tags_follow_their_characters_into_tokens_and_back(tokenizer: Tokenizer) -> None:
    characters = ("\u200b", "张", "三", " ", "到", "Ａ", "b", "c", "d", "e", "好")
    tags = _ids("O B-PER I-PER O O B-ORG I-ORG I-ORG I-ORG O B-LOC")
    encoded = DAILY_NER.encode([Example(characters, tags)], DAILY_NER, tokenizer, 32)
    (sample,) = encoded.samples
    pieces = [tokenizer.vocab.tokens[i] for i in sample.token_ids]
    assert pieces == ["[CLS]", "张", "三", "到", "[UNK]", "好", "[SEP]"]
    assert sample.token_labels["tags"] == [-1, *_ids("B-PER I-PER O B-ORG B-LOC"), -1]
    assert encoded.outcomes(_sure(encoded)).tolist() == [[3, 3, 2]], "one token cannot end a chunk in its middle"
    expected = ["O", "B-PER", "I-PER", "O", "O", "B-ORG", "I-ORG", "I-ORG", "I-ORG", "I-ORG", "B-LOC"]
    assert encoded.answers(_sure(encoded)) == [{"tags": expected}]


def test_a_character_without_a_token_stands_in_a_chunk_that_goes_on_behind_it(tokenizer: Tokenizer) -> None:
    characters = ("\u200b", "张", " ", "\u200b", "三", " ", "到", " ")
    tags = _ids("O B-PER I-PER I-PER I-PER O B-LOC O")
    examples = [Example(characters, tags), Example(("\u200b", " "), _ids("O O")), Example(("好",), _ids("B-LOC"))]
    encoded = DAILY_NER.encode(examples, DAILY_NER, tokenizer, 8)
    assert [a["tags"] for a in encoded.answers(_sure(encoded))] == [[LABELS[t] for t in e.labels] for e in examples]


def test_further_tokens_of_one_character_carry_inside_tags() -> None:
    tokenizer = Tokenizer(Vocab((*SPECIAL_TOKENS, "1", "##2", "好")))
    encoded = DAILY_NER.encode([Example(("12", "好"), _ids("B-LOC I-LOC"))], DAILY_NER, tokenizer, 16)
    assert encoded.samples[0].token_labels["tags"] == [-1, *_ids("B-LOC I-LOC I-LOC"), -1]
    assert encoded.outcomes(_logits([O, *_ids("B-LOC O I-LOC"), O])).tolist() == [[1, 1, 1]], "the first token of a character decides"
    assert deciders([[0], [0, 1], [3]], 4) == ([0, 2], [0, 0, -1, 1], [False, True, False, False])


def test_a_long_sentence_is_split_and_every_character_is_scored(tokenizer: Tokenizer) -> None:
    unit, tags = "张三到北京，一二。", _ids("B-PER I-PER O B-LOC I-LOC O O O O")
    long = Example(tuple(unit * 66 + "北京大学好好"), (*tags * 66, *_ids("B-ORG I-ORG I-ORG I-ORG O O")))
    examples = [Example(tuple("张三"), _ids("B-PER I-PER")), long, Example(tuple("好"), _ids("O"))]
    assert len(long.texts) == 600
    encoded = MSRA_NER.encode(examples, MSRA_NER, tokenizer, 64)
    assert encoded.truncated == 1
    assert max(len(s.token_ids) for s in encoded.samples) <= 64
    assert [len(s.token_ids) - 2 for s in encoded.samples] == [2, *[54] * 10, 60, 1], "the longest pieces that end with a sentence"
    assert encoded.outcomes(_sure(encoded)).tolist() == [[1, 1, 1], [133, 133, 133], [0, 0, 0]]
    assert [a["tags"] for a in encoded.answers(_sure(encoded))] == [[LABELS[t] for t in e.labels] for e in examples]


def test_a_chunk_goes_on_over_a_cut(tokenizer: Tokenizer) -> None:
    example = Example(tuple("到北京大学好"), _ids("O B-ORG I-ORG I-ORG I-ORG O"))
    encoded = MSRA_NER.encode([example], MSRA_NER, tokenizer, 5)
    assert [s.token_labels["tags"] for s in encoded.samples] == [[-1, *_ids("O B-ORG I-ORG"), -1], [-1, *_ids("I-ORG I-ORG O"), -1]]
    assert encoded.outcomes(_sure(encoded)).tolist() == [[1, 1, 1]]


def test_cuts_stand_after_the_strongest_mark_and_not_inside_a_word(tokenizer: Tokenizer) -> None:
    def cut(text: str, room: int) -> list[str]:
        ids, spans = tokenizer.encode_with_offsets(text)
        places = cut_places(text, spans, [tokenizer.vocab.tokens[i] for i in ids], room)
        starts = [0, *(spans[i][0] for i in places), len(text)]
        return [text[a:b] for a, b in itertools.pairwise(starts)]

    assert cut("好。张三，好", 6) == ["好。张三，好"]
    assert cut("好。张三，好", 5) == ["好。", "张三，好"]
    assert cut("好。张三，好", 3) == ["好。", "张三，", "好"]
    assert cut("好。”张三，好", 4) == ["好。”", "张三，好"], "closing marks stay with their sentence"
    assert cut("好好abcd好", 3) == ["好好", "abcd好"], "ab ##cd is one word"
    assert cut("abcdcd", 2) == ["abcd", "cd"], "a word of more tokens than there is room is cut between tokens"
    assert cut("好好好好好", 2) == ["好好", "好好", "好"]


def test_unlabelled_sentences_are_tagged_and_not_scored(tokenizer: Tokenizer) -> None:
    examples = [Example(tuple("张三")), Example(tuple("北京"), _ids("B-LOC I-LOC"))]
    encoded = MSRA_NER.encode(examples, MSRA_NER, tokenizer, 8)
    assert encoded.samples[0].token_labels["tags"] == [-1] * 4
    outputs = _logits([O, *_ids("B-PER I-PER"), O, O, *_ids("B-LOC I-LOC"), O])
    assert encoded.outcomes(outputs).tolist() == [[0, 0, 0], [1, 1, 1]]
    assert encoded.answers(outputs)[0] == {"tags": ["B-PER", "I-PER"]}


ODD = st.floats(width=32, allow_nan=True, allow_infinity=True)


def _flat(lengths: list[int], data: st.DataObject, number: st.SearchStrategy[float]) -> tuple[Outputs, np.ndarray]:
    rows = data.draw(st.lists(st.lists(number, min_size=len(LABELS), max_size=len(LABELS)), min_size=sum(lengths), max_size=sum(lengths)))
    return np.array(rows, np.float32).reshape(-1, len(LABELS)), np.cumsum([0, *lengths])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.data())
@settings(max_examples=60)
def test_any_outputs_give_legal_tags_and_legal_best_tags_stay(lengths: list[int], data: st.DataObject) -> None:
    logits, offsets = _flat(lengths, data, ODD)
    tags = best_tags(logits, offsets, LABELS)
    finite = np.nan_to_num(logits, nan=np.finfo(np.float32).min)
    for start, end in itertools.pairwise(offsets):
        assert _legal([LABELS[t] for t in tags[start:end]])
        argmax = finite[start:end].argmax(1)
        if _legal([LABELS[t] for t in argmax]):
            assert tags[start:end].tolist() == argmax.tolist()
    assert not first_illegal(tags, offsets, LABELS).any()


def test_a_score_that_is_no_number_is_the_lowest() -> None:
    logits = np.full((1, len(LABELS)), np.nan, np.float32)
    logits[0, O] = -7
    assert best_tags(logits, np.array([0, 1]), LABELS).tolist() == [O]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=3), st.data())
@settings(max_examples=40)
def test_no_legal_tags_score_higher(lengths: list[int], data: st.DataObject) -> None:
    logits, offsets = _flat(lengths, data, st.integers(-9, 9).map(float))
    tags = best_tags(logits, offsets, LABELS)
    scores = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    for start, end in itertools.pairwise(offsets):
        places = np.arange(start, end)
        every = (t for t in itertools.product(range(len(LABELS)), repeat=end - start) if _legal([LABELS[i] for i in t]))
        best = max(scores[places, list(t)].sum() for t in every)
        assert scores[places, tags[start:end]].sum() == pytest.approx(best, abs=1e-4)


@given(st.lists(st.lists(st.text("abcd1２\u200b 好张。", min_size=1, max_size=3), max_size=9), min_size=1, max_size=4), st.integers(0, 99))
@settings(max_examples=60)
def test_answers_are_legal_and_one_a_character_whatever_the_model_says(sentences: list[list[str]], seed: int) -> None:
    tokenizer = Tokenizer(Vocab(TOKENS))
    examples = [Example(tuple(s), (O,) * len(s)) for s in sentences]
    encoded = MSRA_NER.encode(examples, MSRA_NER, tokenizer, 6)
    tokens = sum(len(s.token_ids) for s in encoded.samples)
    answers = encoded.answers(np.random.default_rng(seed).normal(size=(tokens, len(LABELS))).astype(np.float32))
    assert [len(a["tags"]) for a in answers] == [len(s) for s in sentences]
    assert all(_legal(a["tags"]) for a in answers)
    assert all(len(s.token_ids) <= 6 for s in encoded.samples)


def test_a_test_set_is_decoded_within_a_second() -> None:
    offsets = np.arange(0, 4636 * 50 + 1, 50)
    logits = np.random.default_rng(0).normal(size=(offsets[-1], len(LABELS))).astype(np.float32)
    start = time.process_time()
    best_tags(logits, offsets, LABELS)
    assert time.process_time() - start < 1.0


def test_msra_ner_is_read_whole_and_scored_whole_at_64_tokens(test_data: Path, chinese: Tokenizer) -> None:
    subsets = {}
    for subset in ("dev", "test"):
        (source,) = MSRA_NER.sources[subset]
        subsets[subset] = source.layout.read(test_data / "msra_ner" / source.file, MSRA_NER).examples
        assert len(subsets[subset]) == MSRA_NER.rows[subset]
    assert max(len(e.texts) for e in itertools.chain(*subsets.values())) == 577
    encoded = MSRA_NER.encode(subsets["dev"], MSRA_NER, chinese, 64)
    assert (encoded.truncated, len(encoded.samples)) == (466, 2894)
    assert MSRA_NER.metric.of(encoded.outcomes(_sure(encoded))) == 1.0, "in this set no token ends a chunk in its middle"
    assert [a["tags"] for a in encoded.answers(_sure(encoded))] == [[LABELS[t] for t in e.labels] for e in subsets["dev"]]


def test_the_other_msra_files_are_read_whole(test_data: Path) -> None:
    derived = TaggedTable().read(test_data / "msra_ner" / "train_derived.tsv", MSRA_NER)
    assert (len(derived.examples), derived.notes) == (46516, {"scheme": "bio", "chunks without B": "17"})
    columns = Conll("\t").read(test_data / "msra_ner" / "dh_msra.zip", MSRA_NER)
    assert (len(columns.examples), columns.notes) == (55289, {"scheme": "bio", "chunks without B": "17"})
    assert {e.texts: e.labels for e in derived.examples}.items() <= {e.texts: e.labels for e in columns.examples}.items()
