"""Token-document relation: does a word of this segment occur in other segments of its document (ERNIE 2.0, section 4.2.1; TASKS)."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from ernie_core.schemas import Document, Sample
from ernie_core.tasks.base import BuildContext, Task, assemble, merge, running_text
from ernie_core.tasks.runs import Piece, runs

NAME = "token_document"
MIN_SEGMENTS, MAX_SEGMENTS = 3, 8
_NUMBER_WORDS = frozenset("两几数余多第点.,%‰/:：·-")
_WITH_UNIT = re.compile(
    r"[第约近超逾]?[0-9一二三四五六七八九十百千万亿两几数多余零〇.,]+[多余来]?(?:个半|个多|个|万|亿)?(?:年代|年级|年|月份|月|星期|周|日|天|号|点钟|点|小时|分钟|分|秒钟|秒|岁|"
    r"世纪|元|块|角|美元|人次|人|名|位|口|家|户|次|回|遍|趟|场|届|期|条|件|项|张|只|头|匹|辆|台|部|架|艘|座|栋|幢|层|间|套|支|枝|本|册|篇|章|节|页|字|句|段|种|类|样|"
    r"些|批|组|队|班|排|行|列|对|双|副|群|伙|颗|粒|块|片|根|棵|株|朵|杯|瓶|碗|盘|盒|包|袋|箱|车|船|米|公里|里|千米|厘米|毫米|平方米|公顷|亩|吨|公斤|千克|斤|克|升|倍|成|"
    r"度|级|档|步|环|强|大|余|许|多)?"
)
_DATA = Path(__file__).parent / "data"
_NOT_NUMBERS = frozenset((_DATA / "not_numerals_zh.txt").read_text(encoding="utf-8").split())  # that look like a numeral and a unit
STOP_WORDS_EN = frozenset((_DATA / "stop_words_en.txt").read_text(encoding="utf-8").split())


@functools.lru_cache(maxsize=1 << 17)
def is_scored(word: str) -> bool:
    """Whether a word takes part: two characters or more, no numeral, no punctuation; without CJK, three letters or more and no stop word.

    Example: 北京, 一起 and "iphone6" -> True; 的, 2018, 三千, 十个月, 20万元, "the", "two" and "ab" -> False.
    """
    num_letters = sum(map(str.isalpha, word))
    if len(word) < 2 or num_letters < 2 or all(c.isnumeric() or c in _NUMBER_WORDS for c in word):
        return False
    if word not in _NOT_NUMBERS and _WITH_UNIT.fullmatch(word):
        return False
    return (not word.isascii() and _has_cjk(word)) or (num_letters >= 3 and word not in STOP_WORDS_EN)


def _has_cjk(word: str) -> bool:
    return any("\u3400" <= c <= "\u9fff" or "\uf900" <= c <= "\ufaff" or c >= "\U00020000" for c in word)


def windows(num_segments: int) -> list[range]:
    """Return equal windows of 3 to 8 consecutive segments that cover a document; none for fewer than 3 segments.

    Example: ``windows(9)`` -> ``[range(0, 4), range(4, 9)]``.
    """
    if num_segments < MIN_SEGMENTS:
        return []
    count = -(-num_segments // MAX_SEGMENTS)
    return [range(num_segments * i // count, num_segments * (i + 1) // count) for i in range(count)]


def build(documents: Sequence[Document], context: BuildContext, drops: Counter[str]) -> Iterator[Sample]:
    """Yield one row a segment, with a label for every token of a scored word: 1 = the word stands in another segment of the window.

    Drops: "not_text" (dialogues and the like), "short_document" (fewer than 3 segments), "nothing_scored" (a segment without a scored word), "word_longer_than_row".

    Example: segments 北京下雨 | 他在北京 | 雨停了 -> row 0 has tokens 北 京 下 雨 labelled 1 1 -1 -1 (words 北京, 下, 雨).
    """
    for document in running_text(documents, drops):
        segments = list(runs(document, context, drops))
        drops["short_document"] += len(segments) < MIN_SEGMENTS
        for i, labels_of in _labelled(segments, context):
            words = [
                (word, label)
                for piece, labels in zip(segments[i], labels_of, strict=True)
                for word, label in zip(piece.sentence.words, labels, strict=True)
            ]
            labels = [label for word, label in words for _ in context.encode(word)]
            if max(labels) < 0:
                drops["nothing_scored"] += 1
                continue
            sample = assemble([merge([piece.encoded for piece in segments[i]])], context, -1)
            sample.token_labels[NAME] = [-1, *labels, -1]
            yield sample


def label_words(document: Document, context: BuildContext) -> list[list[int]]:
    """Return, for each sentence of a document, the label that each of its words has in this task's own rows; -1 where no row holds it."""
    found = [[-1] * len(sentence.words) for sentence in chain.from_iterable(document.paragraphs)]
    segments = list(runs(document, context, Counter()))
    for i, labels_of in _labelled(segments, context):
        for piece, labels in zip(segments[i], labels_of, strict=True):
            found[piece.number][piece.first_word : piece.first_word + len(labels)] = labels
    return found


def _labelled(segments: Sequence[list[Piece]], context: BuildContext) -> Iterator[tuple[int, list[list[int]]]]:
    """Yield each segment's number and the labels of its pieces' words; a word in `n` segments of its window occurs in n - 1 others."""
    for window in windows(len(segments)):
        vocabularies = [{word for piece in segments[i] for word in piece.sentence.words} for i in window]
        num_segments_with = Counter(word for vocabulary in vocabularies for word in vocabulary)
        for i in window:
            yield i, [_labels(piece, num_segments_with, context) for piece in segments[i]]


def _labels(piece: Piece, num_segments_with: Counter[str], context: BuildContext) -> list[int]:
    if context.frequent_lines and piece.whole.text in context.frequent_lines:
        return [-1] * len(piece.sentence.words)
    return [int(num_segments_with[word] > 1) if is_scored(word) else -1 for word in piece.sentence.words]


TASK = Task(
    NAME, 2, "token", 2, build, "Sun et al. 2020 (ERNIE 2.0), section 4.2.1", metric="average_precision", label_names=("only here", "elsewhere too"),
    label_words=label_words,
)  # fmt: skip
