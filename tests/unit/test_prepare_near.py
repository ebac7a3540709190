"""Near-duplicates: against brute force on real text, whatever the splits, and through a whole preparation."""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from prepare_helper import document, run_prepare, write_corpus

from corpus_prep.dedup import run_hashes
from corpus_prep.near import MIN_TOKENS, NUM_HASHES, SHINGLE, band_rows, near_duplicates, signatures
from corpus_prep.selection import LATER, OUTCOMES, check_counts
from corpus_prep.token_stream import token_stream
from ernie_core.errors import IntegrityError
from ernie_core.normalise import normalise


def shingles(text: str) -> frozenset[int]:
    return frozenset(run_hashes(token_stream([[text]]).hashes, SHINGLE).tolist())


def resemblance(a: frozenset[int], b: frozenset[int]) -> float:
    return len(a & b) / len(a | b)


def edited(text: str, edits: int, rng: random.Random) -> str:
    characters = list(text)
    for _ in range(edits):
        characters[rng.randrange(len(characters))] = rng.choice("天地玄黄宇宙洪荒")
    return "".join(characters)


def signature_of(texts: list[str]) -> NDArray[np.uint16]:
    return signatures(token_stream([[t] for t in texts]), range(len(texts)))


@dataclass(frozen=True)
class Real:
    texts: list[str]
    signature: NDArray[np.uint16]
    resemblances: dict[tuple[int, int], float]


@pytest.fixture(scope="module")
def real(test_data: Path) -> Real:
    """200 pages and, of each, a copy with between one edit and one in twenty characters; all resemblances by brute force."""
    with gzip.open(test_data / "raw_zh_inews" / "train.jsonl.gz", "rt", encoding="utf-8") as f:
        pages = [normalise(json.loads(line)["content"])[0][:600] for line, _ in zip(f, range(300), strict=False)]
    pages = list(dict.fromkeys(page for page in pages if len(page) >= 60))[:200]
    rng = random.Random(3)
    texts = pages + [edited(page, 1 + len(page) * (i % 20) // 400, rng) for i, page in enumerate(pages)]
    rng.shuffle(texts)
    sets = [shingles(t) for t in texts]
    return Real(texts, signature_of(texts), {(j, i): resemblance(sets[j], sets[i]) for j in range(len(texts)) for i in range(j)})


def test_near_duplicates_equal_those_of_brute_force_but_for_the_noise_of_the_estimate(real: Real) -> None:
    threshold, noise = 0.8, 0.1  # 2.7 standard errors
    exact = real.resemblances
    assert sum(threshold <= r < threshold + noise for r in exact.values()) > 30
    assert sum(threshold - noise < r < threshold for r in exact.values()) > 30
    found = near_duplicates({0: real.signature}, {0: []}, threshold)
    left_out = {r.left_out[1] for r in found}
    assert not left_out & {r.kept[1] for r in found}
    assert min(exact[r.left_out[1], r.kept[1]] for r in found) >= threshold - noise, "precision beyond the noise is 1"
    sure = {j for (j, i), r in exact.items() if r >= threshold + noise and i not in left_out}
    assert len(sure) > 30
    assert sure <= left_out, "recall beyond the noise is 1"
    # as many pairs lie just below the threshold here as just above, so the estimate takes about every fifth on the wrong side
    true = {j for (j, i), r in exact.items() if r >= threshold and i not in left_out}
    recall = len(true & left_out) / len(true)
    precision = sum(exact[r.left_out[1], r.kept[1]] >= threshold for r in found) / len(found)
    assert min(recall, precision) > 0.75, (recall, precision)


def test_estimates_are_unbiased(real: Real) -> None:
    errors = [float((real.signature[:, j] == real.signature[:, i]).mean()) - r for (j, i), r in real.resemblances.items() if r > 0.3]
    assert len(errors) > 150
    assert abs(float(np.mean(errors))) < 0.01
    assert float(np.std(errors)) < 0.05


@settings(max_examples=25)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.integers(1, 9), st.randoms(use_true_random=False))
def test_neither_splits_nor_memory_change_what_is_found(sizes: list[int], at_once: int, rng: random.Random) -> None:
    originals = [document(i, 1) for i in range(3)]
    found = [edited(originals[rng.randrange(3)], rng.randrange(4), rng) for _ in range(sum(sizes))]
    whole = signature_of(found)
    places = [(number, index) for number, size in enumerate(sizes) for index in range(size)]
    bounds = np.cumsum([0, *sizes])
    cut = {number: whole[:, bounds[number] : bounds[number + 1]] for number in range(len(sizes))}
    one = near_duplicates({0: whole}, {0: []}, 0.8)
    many = near_duplicates(cut, {number: [] for number in cut}, 0.8, at_once)
    assert [(r.left_out, r.kept, r.estimate) for r in many] == [(places[r.left_out[1]], places[r.kept[1]], r.estimate) for r in one]


def test_documents_that_are_out_keep_no_other_out_and_short_ones_are_not_compared() -> None:
    text = document(1, 1)
    signature = signature_of([text, text + "！", text + "？"])
    assert [(r.left_out, r.kept) for r in near_duplicates({0: signature}, {0: []}, 0.8)] == [((0, 1), (0, 0)), ((0, 2), (0, 0))]
    assert [(r.left_out, r.kept) for r in near_duplicates({0: signature}, {0: [0]}, 0.8)] == [((0, 2), (0, 1))]
    short = signature_of([text[: MIN_TOKENS - 1]] * 2)
    assert not short.any()
    assert near_duplicates({0: short}, {0: []}, 0.8) == []
    assert near_duplicates({}, {}, 0.8) == []


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
def test_a_pair_at_the_threshold_shares_a_band_nearly_always(threshold: float) -> None:
    rows = band_rows(threshold)
    assert NUM_HASHES % rows == 0
    assert 1 - (1 - threshold**rows) ** (NUM_HASHES // rows) >= 0.99


def test_a_preparation_leaves_near_duplicates_out_counts_and_names_them(tmp_path: Path) -> None:
    write_corpus(tmp_path / "in")
    rng = random.Random(1)
    near = edited(document(5), 3, rng).replace("\n", "") + "\n\n" + edited(document(30), 2, rng) + "\n\n" + document(31)
    (tmp_path / "in" / "three.txt").write_text(near, encoding="utf-8")
    plain = run_prepare(tmp_path / "in", tmp_path / "plain").facts["documents"]
    manifest = run_prepare(tmp_path / "in", tmp_path / "out", near_duplicates=0.8)
    facts = manifest.facts["documents"]
    assert plain["near_duplicates"] == 0
    assert (facts["near_duplicates"], facts["duplicates"], facts["kept"]) == (2, plain["duplicates"], plain["kept"] - 2)
    assert facts["by_source"]["two"]["near_duplicates"] == 1, "of two that resemble each other, the one in the earlier split stays"
    assert [(r["left_out"]["source"], r["kept"]["source"]) for r in facts["near_duplicate_documents"]] == [("one", "one"), ("two", "one")]
    card = (tmp_path / "out" / "card.md").read_text()
    assert card.count("| near-duplicate, ") == card.count("| which stays | ") == 2
    changed: list[str] = []
    run_prepare(tmp_path / "in", tmp_path / "out", near_duplicates=0.99, said=changed)
    assert any("pass 1" in line and line.endswith("done before") for line in changed), "signatures do not depend on the threshold"


def test_lost_records_are_an_error() -> None:
    facts = dict.fromkeys(LATER, 1) | {"filtered": {"min_chars": 2, "max_chars": 1}, "contaminated": {}}
    check_counts({**facts, "read": 8}, "x")
    check_counts({**facts, "read": 8 + len(set(LATER) - set(OUTCOMES))}, "x", LATER)
    for read in (7, 9):
        with pytest.raises(IntegrityError, match="E-COUNTS") as e:
            check_counts({**facts, "read": read}, "split 3")
        assert e.value.where == "split 3"
