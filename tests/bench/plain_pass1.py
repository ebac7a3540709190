"""What a person would write instead of pass 1: one process, jieba, a Counter and JSON lines. The peer of `test_bench_pass1`, which runs it.

It does the work of pass 1 that counts: reads documents, normalises them, leaves equal ones out, cuts sentences and words, tags words by
jieba's dictionary, joins neighbours of one tag to entities, counts words, characters and pairs of neighbouring words, and writes the result. It
looks for no benchmark text, measures no filter, finds no entities by rules and offers no negatives.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import jieba

from corpus_prep.sentences import split_sentences
from ernie_core.normalise import normalise


def dictionary_tags() -> dict[str, str]:
    rows = (line.split(" ") for line in (Path(jieba.__file__).parent / "dict.txt").read_text(encoding="utf-8").split("\n"))
    return {row[0]: row[2] for row in rows if len(row) == 3}


def entities(words: list[str], tags: dict[str, str]) -> list[list[int]]:
    found: list[list[int]] = []
    last = ""
    for i, word in enumerate(words):
        tag = tags.get(word, "")[:2]
        if len(word) > 1 and tag in ("nr", "ns", "nt", "nz"):
            if tag == last and sum(map(len, words[found[-1][0] : i + 1])) <= 8:
                found[-1][1] = i + 1
            else:
                found.append([i, i + 1])
            last = tag
        else:
            last = ""
    return found


@dataclass
class Counts:
    """What is counted of a corpus."""

    words: Counter[str] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)


def read_documents(source: Path, tags: dict[str, str], counts: Counts) -> Iterator[tuple[str, list[list[Any]]]]:
    """Yield each different document's title, and its paragraphs as lists of [words, entities]."""
    seen: set[str] = set()
    with source.open(encoding="utf-8") as lines:
        for line in lines:
            row: dict[str, Any] = json.loads(line)
            paragraphs = [pair[0] for text in row["text"].split("\n") if (pair := normalise(text))[0]]
            whole = "".join(paragraphs)
            if not whole or whole in seen:
                continue
            seen.add(whole)
            counts.characters.update(whole)
            document = []
            for paragraph in paragraphs:
                cut = [jieba.lcut(sentence) for sentence in split_sentences(paragraph)]
                document.append([[sentence, entities(sentence, tags)] for sentence in cut])
                for sentence in cut:
                    counts.words.update(sentence)
                    counts.pairs.update(pairwise(sentence))
            yield row.get("title", ""), document


def plain_pass1(source: Path, target: Path, tags: dict[str, str]) -> dict[str, int]:
    """Write `target` and return how many documents, characters and words it holds."""
    counts, documents = Counts(), 0
    with target.open("w", encoding="utf-8") as out:
        for _, document in read_documents(source, tags, counts):
            out.write(json.dumps(document, ensure_ascii=False) + "\n")
            documents += 1
    return {"documents": documents, "chars": counts.characters.total(), "words": counts.words.total()}
