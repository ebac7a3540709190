"""Benchmark rows from the packages' text: tags of entities from parts of speech, and subsets that share no text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ernie_core.errors import InputError
from ernie_core.normalise import normalise
from ernie_core.seeding import key

SUBSETS = ("test", "dev", "train")
_ENTITY_OF_TAG = {"nr": "PER", "ns": "LOC", "nt": "ORG"}
_SENTENCE_ENDS = frozenset("。！？；…")
_CLOSERS = frozenset("”’）》」』】")
# Surnames of two characters; all other surnames stand as one character before the given name.
_LONG_SURNAMES = frozenset(
    [
        "欧阳",
        "诸葛",
        "司马",
        "上官",
        "司徒",
        "夏侯",
        "皇甫",
        "尉迟",
        "公孙",
        "慕容",
        "令狐",
        "端木",
        "东方",
        "西门",
        "南宫",
        "独孤",
        "长孙",
        "宇文",
        "鲜于",
        "闾丘",
        "呼延",
        "太史",
        "申屠",
        "澹台",
        "轩辕",
        "钟离",
    ]
)

Row = tuple[str, tuple[str, ...]]


def _merge_names(pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the pairs with surname and given name joined.

    Example: ``[("江", "nr"), ("泽民", "nr")]`` -> ``[("江泽民", "nr")]``.
    """
    i = 0
    while i < len(pairs):
        word, tag = pairs[i]
        if tag == "nr" and (len(word) == 1 or word in _LONG_SURNAMES) and i + 1 < len(pairs) and pairs[i + 1][1] == "nr":
            word += pairs[i + 1][0]
            i += 1
        yield word, tag
        i += 1


def tagged_sentences(pairs: Sequence[tuple[str, str]]) -> Iterator[Row]:
    """Yield each sentence of a tagged paragraph as (text, one BIO tag per character).

    Example: ``[("江", "nr"), ("泽民", "nr"), ("说", "v")]`` -> ``("江泽民说", ("B-PER", "I-PER", "I-PER", "O"))``.
    """
    text, ended = "", False
    tags: list[str] = []
    for word, tag in _merge_names(pairs):
        if ended and word not in _CLOSERS and word not in _SENTENCE_ENDS:
            yield text, tuple(tags)
            text, tags, ended = "", [], False
        entity = _ENTITY_OF_TAG.get(tag)
        text += word
        tags += [f"B-{entity}"] + [f"I-{entity}"] * (len(word) - 1) if entity else ["O"] * len(word)
        ended = ended or word in _SENTENCE_ENDS
    if text:
        yield text, tuple(tags)


def split_benchmark(groups: Iterable[Sequence[Row]], sizes: Mapping[str, int], seed: int) -> tuple[dict[str, list[Row]], dict[str, int]]:
    """Deal groups of rows to test, dev and train, in an order keyed by (seed, text).

    Texts that are equal after normalisation are used once over all subsets; those with unequal labels not at all.

    Args:
        groups: rows that must stay together.
        sizes: rows wanted of each subset.
        seed: the recipe's seed.

    Returns:
        Rows by subset, and counts of what was left out by reason.

    Raises:
        InputError: E-BENCHMARK-ROWS, fewer rows than asked for.
    """
    left_out = {"duplicate": 0, "unequal_labels": 0}
    unique: dict[str, list[tuple[str, Row]]] = {}
    labels: dict[str, tuple[str, ...]] = {}
    clashing: set[str] = set()
    for group in groups:
        fresh = []
        for text, row_labels in group:
            plain = normalise(text)[0]
            if plain in labels:
                left_out["duplicate"] += 1
                if labels[plain] != row_labels:
                    clashing.add(plain)
            elif plain:
                labels[plain] = row_labels
                fresh.append((plain, (text, row_labels)))
        if fresh:
            unique[fresh[0][0]] = fresh
    left_out["unequal_labels"] = len(clashing)
    subsets: dict[str, list[Row]] = {name: [] for name in SUBSETS}
    dealt = iter([unique[first] for first in sorted(unique, key=lambda plain: key(seed, "benchmark", plain))])
    for name in SUBSETS:
        while len(subsets[name]) < sizes[name]:
            group_rows = next(dealt, None)
            if group_rows is None:
                raise InputError(
                    "E-BENCHMARK-ROWS",
                    f"not enough rows for the {name} subset",
                    expected=f"{sizes[name]} rows",
                    found=f"{len(subsets[name])}",
                    fix="ask for fewer rows in the recipe",
                )
            subsets[name] += [row for plain, row in group_rows if plain not in clashing]
        subsets[name] = subsets[name][: sizes[name]]
    return subsets, left_out
