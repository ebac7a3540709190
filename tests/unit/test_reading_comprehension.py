"""Reading comprehension: windows over a context, the answer's tokens, and predictions that stand in the context as it was written."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_normalise import TEXT

from ernie_core.benchmarks.base import SPAN_END, SPAN_START, Encoded, Example, all_benchmarks
from ernie_core.benchmarks.reading_comprehension import CMRC2018, DRCD, DUREADER, MAX_ANSWER, SPAN
from ernie_core.benchmarks.squad_layout import NO_ANSWER, Squad
from ernie_core.benchmarks.windows import windows
from ernie_core.normalise import Normaliser, normalise
from ernie_core.tokenization import Tokenizer
from ernie_core.vocab import SPECIAL_TOKENS, Vocab

TOKENIZER = Tokenizer(Vocab((*SPECIAL_TOKENS, *"谁写的鲁迅在头发一。？", "ab", "##c", "é", "19", "##18")))
SIMPLIFYING = Tokenizer(TOKENIZER.vocab, Normaliser(to_simplified=True))
CLS = SPAN_START | SPAN_END
ENGLISH = replace(CMRC2018, name="english", language="en")


def encode(*examples: Example, length: int = 64, tokenizer: Tokenizer = TOKENIZER) -> Encoded:
    return CMRC2018.encode(examples, CMRC2018, tokenizer, length)


def labels(encoded: Encoded) -> list[list[int]]:
    return [s.token_labels[SPAN] for s in encoded.samples]


def perfect(encoded: Encoded) -> NDArray[np.float32]:
    """Return outputs that are 10 at the labelled starts and ends."""
    flat = np.concatenate([s.token_labels[SPAN] for s in encoded.samples])
    return np.stack([flat & SPAN_START, flat & SPAN_END], axis=1).astype(bool).astype(np.float32) * 10


def texts(encoded: Encoded, outputs: NDArray[np.float32]) -> list[str]:
    return [row["text"] for row in encoded.answers(outputs)]


def test_the_declared_benchmarks_have_ernies_settings() -> None:
    declared = all_benchmarks()
    assert [declared[b.name] for b in (CMRC2018, DRCD, DUREADER)] == [CMRC2018, DRCD, DUREADER]
    for benchmark, rates in ((CMRC2018, (3e-5, 3e-5)), (DRCD, (5e-5, 3e-5)), (DUREADER, (5e-5, 2e-5))):
        presets = [benchmark.presets[size] for size in ("base", "large")]
        assert (benchmark.kind, benchmark.num_outputs, benchmark.metric.name) == ("span", 2, "em")
        assert [(p.learning_rate, p.epochs, p.batch_size, p.max_seq_len, p.warmup_share) for p in presets] == [(r, 2, 64, 512, 0.0) for r in rates]


@given(st.integers(0, 400), st.integers(1, 40) | st.integers(200, 300))
def test_windows_cover_every_token_and_each_is_decided_where_most_stands_around_it(size: int, room: int) -> None:
    found = windows(size, room)
    assert found[0].start == 0
    assert found[-1].end == size
    assert all(w.end - w.start == room for w in found[:-1])
    assert [token for w in found for token in range(w.first, w.last)] == list(range(size)), "each token once, in order"
    for w in found:
        for token in range(w.first, w.last):
            scores = {v: min(token - v.start, v.end - 1 - token) + 0.01 * (v.end - v.start) for v in found if v.start <= token < v.end}
            assert max(scores, key=lambda v: scores[v]) == w  # ernie.md 8.3; of equal ones the first


def test_windows_begin_every_128_tokens_where_there_is_room() -> None:
    assert [(w.start, w.end) for w in windows(900, 445)] == [(0, 445), (128, 573), (256, 701), (384, 829), (512, 900)]
    assert [(w.start, w.end) for w in windows(300, 100)] == [(0, 100), (50, 150), (100, 200), (150, 250), (200, 300)]


def test_a_question_and_its_answer_by_hand() -> None:
    example = Example(("谁写的？", "ＡＢc在1918，鲁迅写的。"), answers=(("鲁迅写", 9),), id="q")
    encoded = encode(example)
    (sample,) = encoded.samples
    names = [TOKENIZER.vocab.tokens[i] for i in sample.token_ids]
    assert names == [*("[CLS]", "谁", "写", "的", "？", "[SEP]"), *("ab", "##c", "在", "19", "##18", "[UNK]", "鲁", "迅", "写", "的", "。", "[SEP]")]
    assert sample.sentence_type_ids == [0] * 6 + [1] * 12
    assert labels(encoded) == [[0] * 12 + [SPAN_START, 0, SPAN_END, 0, 0, 0]]
    outputs = np.zeros((18, 2), np.float32)
    outputs[6, 0], outputs[7, 1], outputs[10, 0], outputs[10, 1] = 3, 2, 1, 2
    outputs[[0, 3, 17]] = 5  # neither [CLS] nor the question nor [SEP] holds an answer
    (row,) = encoded.answers(outputs)
    assert (row["id"], row["text"]) == ("q", "ＡＢc")
    assert [(n["text"], n["start_logit"], n["end_logit"]) for n in row["nbest"][:4]] == [
        ("ＡＢc", 3, 2), ("ＡＢc在1918", 3, 2), ("ＡＢ", 3, 0), ("ＡＢc在", 3, 0),
    ]  # fmt: skip
    assert len(row["nbest"]) == 20
    assert len({n["text"] for n in row["nbest"]}) == 20
    assert math.isclose(sum(n["probability"] for n in row["nbest"]), 1, abs_tol=2e-5)
    assert math.isclose(row["nbest"][2]["probability"] / row["nbest"][0]["probability"], math.exp(-2), rel_tol=1e-4)
    assert encoded.outcomes(outputs).tolist() == [[0, 0, 1]]
    assert texts(encoded, perfect(encoded)) == ["鲁迅写"]
    assert encoded.outcomes(perfect(encoded)).tolist() == [[1, 1, 1]]


def test_an_answer_that_cuts_a_token_has_the_whole_token() -> None:
    encoded = encode(Example(("谁", "1918"), answers=(("91", 1),)))
    assert labels(encoded) == [[0, 0, 0, SPAN_START, SPAN_END, 0]]
    assert texts(encoded, perfect(encoded)) == ["1918"]


def test_a_window_that_does_not_hold_the_whole_answer_points_to_cls_and_is_no_answer() -> None:
    encoded = encode(Example(("谁", "鲁迅在头发写的一。"), answers=(("发写", 4),)), length=8)  # windows of 4: 0-4, 2-6, 4-8, 5-9
    tokens = [[TOKENIZER.vocab.tokens[i] for i in s.token_ids[3:-1]] for s in encoded.samples]
    assert list(map("".join, tokens)) == ["鲁迅在头", "在头发写", "发写的一", "的一。"]
    nothing = [CLS, 0, 0, 0, 0, 0, 0]
    assert labels(encoded) == [[*nothing, 0], [0, 0, 0, 0, 0, SPAN_START, SPAN_END, 0], [0, 0, 0, SPAN_START, SPAN_END, 0, 0, 0], nothing]
    assert texts(encoded, perfect(encoded)) == ["发写"]
    undecided = np.zeros((31, 2), np.float32)
    undecided[[19, 20], [0, 1]] = 9  # 发写 in the third window, while the second shows more around 发
    assert texts(encoded, undecided) != ["发写"]
    undecided = np.zeros((31, 2), np.float32)
    undecided[6] = 9  # 头 at the end of the first window
    assert texts(encoded, undecided) != ["头"]
    cut = encode(Example(("谁", "鲁迅在头发写的一。"), answers=(("头发", 3),)), length=8)
    assert [row[0] for row in labels(cut)] == [CLS, 0, CLS, CLS]


def test_an_answer_longer_than_100_tokens_is_not_given() -> None:
    context = "鲁" * 120
    encoded = encode(Example(("谁", context), answers=(("鲁" * 100, 0),)), length=200)
    outputs = perfect(encoded)
    assert texts(encoded, outputs) == ["鲁" * MAX_ANSWER]
    outputs[102, 1], outputs[103, 1] = 0, 10
    assert texts(encoded, outputs) != ["鲁" * (MAX_ANSWER + 1)]


def test_answers_are_scored_by_text_in_every_gold_even_those_that_stand_nowhere() -> None:
    golds = (("周树人", -1), ("鲁迅", 0), ("鲁", 0))
    encoded = encode(Example(("谁", "鲁迅写的"), answers=golds), Example(("谁", "鲁迅写的"), answers=(("周树人", -1),)), Example(("谁", "鲁迅写的")))
    assert [row[0] for row in labels(encoded)] == [0, CLS, CLS]
    outputs = perfect(encoded)
    assert encoded.outcomes(outputs).tolist() == [[1, 1, 1], [0, 0, 1]], "an unlabelled question is not scored"
    assert len(encoded.answers(outputs)) == 3


def test_no_answer_is_an_answer_only_where_rows_have_it() -> None:
    rows = (Example(("谁", "鲁迅写的"), answers=NO_ANSWER, id="a"), Example(("谁", "鲁迅写的"), answers=(("鲁迅", 0),), id="b"))
    encoded = encode(*rows)
    assert [row[0] for row in labels(encoded)] == [CLS, 0]
    assert texts(encoded, perfect(encoded)) == ["", "鲁迅"]
    assert encoded.outcomes(perfect(encoded)).tolist() == [[1, 1, 1], [1, 1, 1]]
    swapped = np.roll(perfect(encoded), 8, axis=0)
    assert texts(encoded, swapped) == ["鲁迅", ""]
    assert encoded.outcomes(swapped).tolist() == [[0, 0, 1], [0, 0, 1]]
    assert encoded.answers(swapped)[1]["nbest"][0] == {"text": "", "probability": 1.0, "start_logit": 10.0, "end_logit": 10.0}
    assert texts(encode(rows[0], Example(("谁", "鲁迅在头发"))), np.zeros((17, 2), np.float32))[1] == "鲁", "a span goes before none of equal score"
    two = encode(Example(("谁", "鲁迅在头发"), answers=NO_ANSWER), length=8)
    assert len(two.samples) == 2
    outputs = np.zeros((15, 2), np.float32)
    outputs[[0, 8]] = [9], [1]
    outputs[[3, 4], [0, 1]] = 3
    assert texts(two, outputs) == ["鲁迅"], "the window least sure that there is none decides"
    alone = encode(rows[1])
    assert texts(alone, swapped[8:])[0] != ""


def test_equal_texts_are_listed_once_with_the_better_logits() -> None:
    outputs = np.zeros((9, 2), np.float32)
    outputs[[3, 4, 6, 7], [0, 1, 0, 1]] = 3, 3, 4, 4
    (row,) = encode(Example(("谁", "鲁迅在鲁迅"))).answers(outputs)
    assert [(n["text"], n["start_logit"]) for n in row["nbest"] if n["text"] == "鲁迅"] == [("鲁迅", 4)]
    assert len(row["nbest"]) == len({n["text"] for n in row["nbest"]})


def test_a_long_question_is_cut_and_counted_and_an_empty_context_has_no_answer() -> None:
    encoded = encode(Example(("谁" * 70, "鲁迅")), Example(("谁" * 64, "")), length=512)
    assert [len(s.token_ids) for s in encoded.samples] == [64 + 2 + 3, 64 + 3]
    assert encoded.truncated == 1
    assert texts(encoded, np.zeros((136, 2), np.float32))[1] == ""
    short = encode(Example(("谁" * 70, "鲁迅在头发")), length=9)
    assert [len(s.token_ids) for s in short.samples] == [9, 9]


def test_each_language_is_scored_by_its_own_rules() -> None:
    row = Example(("谁", "ab ab"), answers=(("the ab ab", -1),))
    chinese, english = (b.encode([row], b, TOKENIZER, 64) for b in (CMRC2018, ENGLISH))
    outputs = np.zeros((7, 2), np.float32)
    outputs[3, 0] = outputs[4, 1] = 1
    assert texts(english, outputs) == ["ab ab"]
    assert english.outcomes(outputs).tolist() == [[1, 1, 1]]
    assert chinese.outcomes(outputs)[0, 0] == 0


@pytest.mark.parametrize(
    ("context", "answer"),
    [
        ("\ufeff在\u200b 头髮\u3000一", "头髮"),
        ("在É\r\nＡＢＣ一", "É\r\nＡＢＣ"),
        ("e\u0301在", "e\u0301"),
        ("在\u00ad。", "。"),
        ("鲁\u200b迅", "鲁\u200b迅"),
    ],
)
@pytest.mark.parametrize("to_simplified", [False, True])
def test_an_answer_is_shown_as_it_was_written(context: str, answer: str, to_simplified: bool) -> None:
    encoded = encode(Example(("谁", context), answers=((answer, context.index(answer)),)), tokenizer=SIMPLIFYING if to_simplified else TOKENIZER)
    assert texts(encoded, perfect(encoded)) == [answer]


@given(TEXT, TEXT, st.integers(0, 40), st.integers(1, 12), st.integers(4, 20), st.integers(0, 9))
def test_whatever_the_text_an_answer_stands_in_its_context(question: str, context: str, start: int, size: int, length: int, seed: int) -> None:
    start = min(start, max(len(context) - 1, 0))
    answers = ((context[start : start + size], start),) if context else ()
    encoded = encode(Example((question, context), answers=answers), Example((context, question)), length=length)
    rows = labels(encoded)
    assert [(sum(v & SPAN_START for v in row), sum(v & SPAN_END for v in row) // 2) for row in rows] == [(1, 1)] * len(rows)
    assert all(len(s.token_ids) <= length for s in encoded.samples)
    random = np.random.default_rng(seed).integers(0, 3, (sum(map(len, rows)), 2)).astype(np.float32)
    for outputs in (random, perfect(encoded), np.full_like(random, np.nan)):
        first, second = encoded.answers(outputs)
        assert all(n["text"] in context for n in first["nbest"])
        assert all(n["text"] in question for n in second["nbest"])
        assert len(encoded.outcomes(outputs)) == len(answers)


@given(TEXT, st.integers(0, 20), st.integers(1, 20))
def test_whatever_the_text_a_gold_answer_is_found_again_with_the_rest_of_its_first_and_last_token(context: str, start: int, size: int) -> None:
    answer = context[start : start + size]
    seen = [i for i, c in enumerate(answer) if normalise(c)[0]]
    if seen:
        encoded = encode(Example(("谁", context), answers=((answer, start),)), length=512)
        assert answer[seen[0] : seen[-1] + 1] in texts(encoded, perfect(encoded))[0]


def round_trip(test_data: Path, file: str, layout: Squad, every: int) -> tuple[tuple[int, int, int], set[tuple[str, str]], float]:
    """Encode a published file, make perfect outputs and read them.

    Returns:
        ((questions, windows, answers of more than 100 tokens), (answer, prediction) of the others where they are not equal, EM).
    """
    tokenizer = Tokenizer(Vocab.load(test_data / "ernie_reference" / "vocab_zh.txt"))
    examples = layout.read(test_data / file, CMRC2018).examples[::every]
    encoded = CMRC2018.encode(examples, CMRC2018, tokenizer, 512)
    outputs = perfect(encoded)
    predictions = texts(encoded, outputs)
    assert all(p in e.texts[1] for p, e in zip(predictions, examples, strict=True))
    golds = [next(text.strip() for text, start in e.answers if start >= 0) for e in examples]
    short = [len(tokenizer.encode(gold)) <= MAX_ANSWER for gold in golds]
    wrong = {(g, p) for g, p, right in zip(golds, predictions, short, strict=True) if right and g != p}
    em = CMRC2018.metric.of(encoded.outcomes(outputs))
    assert em is not None
    return (len(examples), len(encoded.samples), short.count(False)), wrong, em


@pytest.mark.parametrize("file", ["cmrc2018/cmrc2018_dev.json.gz", "drcd/DRCD_dev.json.gz"])
def test_gold_answers_of_a_sample_survive_the_way_into_tokens_and_back(file: str, test_data: Path) -> None:
    (questions, _, long), wrong, em = round_trip(test_data, file, Squad(to_simplified=file.startswith("drcd")), 9)
    assert (questions > 350, long) == (True, 0)
    assert all(gold in found for gold, found in wrong), "an answer ends inside a token"
    assert len(wrong) <= 1
    assert em == 1 - len(wrong) / questions


# Answers that begin or end inside a run of digits or letters, which is one token.
DRCD_DEV = {("273.15", "−273.15℃"), ("50", "50～75"), ("8", "80"), ("8", "81")}
DRCD_TEST = {("2", "214"), ("6", "60"), ("8％", "5～8％"), ("14", "−14"), ("20", "2000"), ("2部", "92部")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "layout", "numbers", "wrong"),
    [
        ("cmrc2018/cmrc2018_dev.json.gz", Squad(), (3219, 5513, 0), {("4个", "34个")}),
        ("cmrc2018/cmrc2018_trial.json.gz", Squad(), (1002, 1738, 34), set()),
        ("drcd/DRCD_dev.json.gz", Squad(to_simplified=True), (3524, 5411, 0), DRCD_DEV),
        ("drcd/ernie_dev.json.gz", Squad(), (3524, 5411, 0), DRCD_DEV),
        ("drcd/DRCD_test.json.gz", Squad(to_simplified=True), (3493, 5059, 0), DRCD_TEST),
    ],
)
def test_gold_answers_survive_the_way_into_tokens_and_back(
    file: str, layout: Squad, numbers: tuple[int, int, int], wrong: set[tuple[str, str]], test_data: Path
) -> None:
    found, differing, em = round_trip(test_data, file, layout, 1)
    assert (found, differing) == (numbers, wrong)
    assert em == 1 - (len(wrong) + found[2]) / found[0]
