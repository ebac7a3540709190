"""Exact match and F1 of answers read from a text: as CMRC2018 scores Chinese ones, and as SQuAD v1.1 scores English ones (ernie.md 8.5)."""

from __future__ import annotations

import functools
import re
import string
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

import numpy as np

from ernie_core.benchmarks.metrics.base import Counts, Metric, mean_of, ratio

if TYPE_CHECKING:
    from nltk.tokenize import NLTKWordTokenizer

COLUMNS = ("exact", "f1", "questions")
_CHINESE_MARKS = dict.fromkeys(map(ord, "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』"))
_ASCII_MARKS = dict.fromkeys(map(ord, string.punctuation))
_RUNS = re.compile("[\u4e00-\u9fa5]|[^\u4e00-\u9fa5]+")
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def chinese_scores(prediction: str, golds: Sequence[str]) -> tuple[float, float]:
    """Return (exact match, F1) of an answer, as CMRC2018's script v5 does.

    Both sides are lower-cased and stripped, and lose the script's punctuation marks (… and ‘ are not among them). Exact match
    compares what is left. F1 cuts it into units, one for each of U+4E00 to U+9FA5 and NLTK's words for what stands between, and counts the
    longest run of units that stands in both: precision over the prediction's units, recall over the gold's, best of the golds.

    An empty prediction has 0, 0; but where nothing is left of a gold either, exact match is 1 and F1 0, as in the script. The script
    splits other text into sentences before words, by data that must be downloaded; we do not, so a full stop inside a run of such text
    stays with its word (9 of the 9,657 answers of CMRC2018's dev set have one).

    Args:
        prediction: the model's answer.
        golds: one right answer or more.

    Example: ``chinese_scores("在北京", ["北京", "北京市"])`` -> ``(0.0, 0.8)``.
    """
    said = _kept(prediction)
    rights = [_kept(gold) for gold in golds]
    if said in rights:
        return 1.0, float(bool(_units(said)))
    return 0.0, max(_substring_f1(_units(said), _units(right)) for right in rights)


def _kept(text: str) -> str:
    return text.lower().strip().translate(_CHINESE_MARKS)


def _units(text: str) -> list[str]:
    return [unit for run in _RUNS.findall(text) for unit in ([run] if "\u4e00" <= run <= "\u9fa5" else _word_tokenizer().tokenize(run))]


@functools.cache
def _word_tokenizer() -> NLTKWordTokenizer:
    from nltk.tokenize import NLTKWordTokenizer  # 2 s, for all of NLTK

    return NLTKWordTokenizer()


def _substring_f1(said: list[str], right: list[str]) -> float:
    shared = SequenceMatcher(None, said, right, autojunk=False).find_longest_match().size
    return _f1(shared, len(said), len(right))


def _f1(shared: int, said: int, right: int) -> float:
    return 2 * shared / (said + right) if shared else 0.0


def squad_scores(prediction: str, golds: Sequence[str]) -> tuple[float, float]:
    """Return (exact match, F1) of an answer, as SQuAD v1.1's script does, each the best of the golds.

    Both sides are lower-cased and lose ASCII punctuation, then the words a, an, the, then surplus white space. Exact match compares what
    is left; F1 compares the bags of its words. Where nothing is left on either side exact match is 1 and F1 0, as in the script.

    Args:
        prediction: the model's answer.
        golds: one right answer or more.

    Example: ``squad_scores("the Eiffel Tower!", ["Eiffel tower", "a tower"])`` -> ``(1.0, 1.0)``.

    Source: Rajpurkar et al., SQuAD (2016), section 6.1.
    """
    said = _words(prediction)
    rights = [_words(gold) for gold in golds]
    return float(said in rights), max(_f1((Counter(said) & Counter(right)).total(), len(said), len(right)) for right in rights)


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_ASCII_MARKS)).split()


def reading_counts(scores: Sequence[tuple[float, float]]) -> Counts:
    """Return float64[n, 3]: exact match, F1, 1, of n questions' (exact match, F1) from 0 to 1; an unanswered question has (0, 0).

    Example: [(1.0, 1.0), (0.0, 0.5)] -> [[1, 1, 1], [0, 0.5, 1]].
    """
    return np.array([(exact, f1, 1.0) for exact, f1 in scores], dtype=np.float64).reshape(-1, 3)


EM = Metric("em", COLUMNS, lambda sums: ratio(sums[..., 0], sums[..., 2]))
F1 = Metric("f1", COLUMNS, lambda sums: ratio(sums[..., 1], sums[..., 2]))
EM_F1 = mean_of("em_f1", EM, F1)
