"""What a person would write instead of a whole preparation: one process, jieba, a fast tokenizer, a builder per task. The peer of `test_bench_whole`.

Raw text -> shards of the tasks that Chinese news has, in both encodings, with word boundaries, phrases, entities and labels. The builders are
short ones that keep the definitions: negatives are of the same length and no near-duplicates. They draw one at random, where the preparation
looks among 16 for the one most like the true text; they look for no repeated lines, no numerals, no second connective, no leaks.
"""

from __future__ import annotations

import gzip
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations, pairwise, permutations
from math import log
from pathlib import Path
from typing import Any

import jieba
import pyarrow as pa
import pyarrow.parquet as pq
from plain_pass1 import Counts, entities, read_documents
from sklearn.feature_extraction.text import TfidfVectorizer
from tokenizers import BertWordPieceTokenizer

from ernie_core.normalise import normalise
from ernie_core.tasks.connectives import load_connectives

MAX_TOKENS, SPAN_TOKENS, PASSAGE_TOKENS = 128, 62, 93
DOCUMENTS_AT_ONCE = 1000  # among which passages are found
FLUSH_ROWS = 4096
NEXT, DISTANCE, ORDER, RELATION, RELEVANCE = "next_sentence", "sentence_distance", "sentence_reordering", "discourse_relation", "ir_relevance"
TASKS = ("knowledge_masking", "token_document", NEXT, DISTANCE, ORDER, RELATION, RELEVANCE)
COLUMNS = {
    "token_ids": pa.int32(), "sentence_type_ids": pa.int8(), "position_ids": pa.int16(), "seg_labels": pa.int8(),
    "unit_labels": pa.int8(), "unit_kind": pa.int8(), "token_labels": pa.int8(),
}  # fmt: skip


@dataclass
class Part:
    """Text as tokens: ids, word and unit boundaries, kinds of units, and the word that each belongs to."""

    text: str = ""
    ids: list[int] = field(default_factory=list)
    seg: list[int] = field(default_factory=list)
    unit: list[int] = field(default_factory=list)
    kind: list[int] = field(default_factory=list)
    words: list[str] = field(default_factory=list)


Paragraphs = list[list[Part]]
Pool = dict[int, list[Part]]


def boundaries(of: Sequence[int]) -> list[int]:
    return [0, *(int(a == b) for a, b in pairwise(of))] if of else []


def encode(tokenizer: BertWordPieceTokenizer, sentences: Sequence[Any], phrases: set[tuple[str, str]]) -> list[Part]:
    encoded = tokenizer.encode_batch([words for words, _ in sentences], is_pretokenized=True, add_special_tokens=False)
    parts = []
    for (words, found), encoding in zip(sentences, encoded, strict=True):
        units, kinds = list(range(len(words))), [0] * len(words)
        for start, end in found:
            units[start:end], kinds[start:end] = [start] * (end - start), [2] * (end - start)
        for i, pair in enumerate(pairwise(words)):
            if pair in phrases and kinds[i] < 2 and kinds[i + 1] < 2:
                units[i + 1], kinds[i], kinds[i + 1] = units[i], 1, 1
        of = encoding.word_ids
        parts.append(
            Part("".join(words), encoding.ids, boundaries(of), boundaries([units[w] for w in of]), [kinds[w] for w in of], [words[w] for w in of])
        )
    return parts


def joined(parts: Sequence[Part]) -> Part:
    columns = [list(chain.from_iterable(getattr(p, name) for p in parts)) for name in ("ids", "seg", "unit", "kind", "words")]
    return Part("".join(p.text for p in parts), *columns)


def clipped(part: Part, start: int, end: int) -> Part:
    return Part("", part.ids[start:end], part.seg[start:end], part.unit[start:end], part.kind[start:end], part.words[start:end])


def grouped(sentences: Sequence[Part], most: int) -> Iterator[list[Part]]:
    run: list[Part] = []
    tokens = 0
    for sentence in sentences:
        if run and tokens + len(sentence.ids) > most:
            yield run
            run, tokens = [], 0
        run.append(sentence)
        tokens += len(sentence.ids)
    if run:
        yield run


class Shard:
    """A shard in both encodings, written every few thousand rows."""

    def __init__(self, path: Path) -> None:
        self.rows = self.tokens = 0
        self._held: list[Any] = []
        self._text = gzip.open(f"{path}.txt.gz", "wb", compresslevel=6)  # noqa: SIM115 - closed in `close`
        self._schema = pa.schema([*((name, pa.list_(kind)) for name, kind in COLUMNS.items()), ("label", pa.int32())])
        self._parquet = pq.ParquetWriter(f"{path}.parquet", self._schema, compression="zstd")

    def add(self, parts: Sequence[Part], label: int, token_labels: list[int] | None = None) -> None:
        ids, types, seg, unit, kind = [2], [0], [-1], [-1], [-1]
        for i, part in enumerate(parts):
            ids += [*part.ids, 3]
            types += [i] * (len(part.ids) + 1)
            seg += [*part.seg, -1]
            unit += [*part.unit, -1]
            kind += [*part.kind, -1]
        self._held.append((ids, types, list(range(len(ids))), seg, unit, kind, token_labels, label))
        self.rows += 1
        self.tokens += len(ids)
        if len(self._held) >= FLUSH_ROWS:
            self._flush()

    def _flush(self) -> None:
        lines = []
        for ids, types, positions, seg, _, _, token_labels, label in self._held:
            columns = (ids, types, positions, seg) if token_labels is None else (ids, types, positions, seg, token_labels)
            lines.append(";".join([*(" ".join(map(str, column)) for column in columns), f"{label}\n"]))
        self._text.write("".join(lines).encode())
        columns = zip(*self._held, strict=True)
        self._parquet.write_table(pa.table([pa.array(c, f.type) for c, f in zip(columns, self._schema, strict=True)], schema=self._schema))
        self._held = []

    def close(self) -> None:
        if self._held:
            self._flush()
        self._text.close()
        self._parquet.close()


def cut_runs(sentences: Sequence[Part]) -> list[Part]:
    short = [clipped(s, i, i + MAX_TOKENS - 2) for s in sentences for i in range(0, len(s.ids), MAX_TOKENS - 2)]
    return [joined(run) for run in grouped(short, MAX_TOKENS - 2)]


def masking_and_words(document: Paragraphs, masking: Shard, words: Shard) -> None:
    runs = cut_runs([s for p in document for s in p])
    for run in runs:
        if len(run.ids) >= 8:
            masking.add([run], -1)
    if len(runs) < 3:
        return
    for start in range(0, len(runs), 8):
        window = runs[start : start + 8]
        times = Counter(word for run in window for word in set(run.words))
        for run in window:
            scored = [int(times[w] > 1) if len(w) > 1 and w.isalpha() else -1 for w in run.words]
            words.add([run], -1, [-1, *scored, -1])


def alike(first: str, second: str) -> bool:
    left, right = set(pairwise(first)), set(pairwise(second))
    return 2 * len(left & right) >= len(left | right)


def negative(first: Part, second: Part, pool: Pool) -> Part | None:
    """Return a text of the length of `second` from anywhere, None where two of the three texts are alike."""
    other = random.choice(pool.get(len(second.ids) // 4) or [second])
    found = (first.text, second.text, other.text)
    return None if any(alike(a, b) for a, b in combinations(found, 2)) else other


def pairs(spans: Sequence[Part], pool: Pool, follows: Shard, distance: Shard) -> None:
    for i, (first, second) in enumerate(pairwise(spans)):
        other = negative(first, second, pool)
        if other:
            label = random.randrange(2)
            follows.add(fitted(first, second if label else other), label)
        far = [j for j in range(len(spans)) if abs(j - i) > 1]
        distant = spans[random.choice(far)] if far else None
        other = negative(first, distant, pool) if distant else None
        if distant and other:
            label = random.randrange(3)
            two = [first, (second, distant, other)[label]]
            distance.add(fitted(*(two[::-1] if label and random.randrange(2) else two)), label)


def fitted(first: Part, second: Part) -> list[Part]:
    over = len(first.ids) + len(second.ids) - MAX_TOKENS + 3
    if over <= 0:
        return [first, second]
    left = max(min(over, len(first.ids) - SPAN_TOKENS), 0)
    return [clipped(first, left, len(first.ids)), clipped(second, 0, len(second.ids) - over + left)]


def orders(document: Paragraphs, shard: Shard) -> None:
    offsets = {2: 1, 3: 3}
    for paragraph in document:
        for window in grouped([s for s in paragraph if len(s.ids) < MAX_TOKENS], MAX_TOKENS - 4):
            number = 2 + shard.rows % 2
            if len(window) < number:
                continue
            borders = [len(window) * i // number for i in range(number + 1)]
            segments = [joined(window[a:b]) for a, b in pairwise(borders)]
            every = list(permutations(range(number)))
            chosen = random.randrange(len(every))
            shard.add([segments[i] for i in every[chosen]], offsets[number] + chosen)


def relations(document: Paragraphs, shard: Shard) -> None:
    connectives = load_connectives("zh")
    names = {group: i for i, group in enumerate(connectives.groups, 1)}
    for first, second in pairwise([s for p in document for s in p]):
        marker = connectives.marker_of(second.text)
        if marker:
            first, second = fitted(first, clipped(second, len(marker), len(second.ids)))
            if first.ids and second.ids:
                shard.add([first, second], names[connectives.group_of[marker]])
        elif random.random() < 0.1:
            shard.add(fitted(first, second), 0)


def relevance(queries: Sequence[Part], documents: Sequence[Paragraphs], shards: Sequence[Shard]) -> None:
    found = [(i, joined(run)) for i, d in enumerate(documents) for run in list(grouped([s for p in d for s in p], PASSAGE_TOKENS))[1:]]
    passages = [(i, p) for i, p in found if 60 <= len(p.ids) <= PASSAGE_TOKENS]
    if not passages:
        return
    index = TfidfVectorizer(analyzer=lambda words: words)
    held = index.fit_transform([list(dict.fromkeys(p.words)) for _, p in passages])
    scores = (index.transform([q.words for q in queries]) @ held.T).tocsr()
    for i, query in enumerate(queries):
        row = slice(scores.indptr[i], scores.indptr[i + 1])
        best = [int(scores.indices[row][j]) for j in (-scores.data[row]).argsort()[:30]]
        own, others = [j for j in best if passages[j][0] == i], [j for j in best if passages[j][0] != i]
        for j, other in zip(own, others, strict=False):
            three = [passages[k][1] for k in (j, other, random.randrange(len(passages)))]
            if not any(alike(three[0].text, p.text) for p in three[1:]):
                label = random.randrange(3)
                shards[i].add(fitted(query, three[label]), label)


def strong_pairs(counts: Counts, least: float) -> set[tuple[str, str]]:
    total = counts.words.total()

    def npmi(pair: tuple[str, str], times: int) -> float:
        return log(times * total / (counts.words[pair[0]] * counts.words[pair[1]])) / log(total / times)

    return {pair for pair, n in counts.pairs.items() if n >= 5 and all(map(str.isalnum, pair)) and npmi(pair, n) >= least}


def plain_whole(source: Path, folder: Path, vocab: Path, tags: dict[str, str], valid_share: float, phrases: float) -> tuple[Any, dict[str, float]]:
    """Write the shards into `folder`; return rows and tokens of each task, and the seconds of CPU time of each part."""
    random.seed(7)
    clock, seconds = [time.process_time()], {}

    def ends(name: str) -> None:
        clock.append(time.process_time())
        seconds[name] = seconds.get(name, 0.0) + clock[-1] - clock[-2]

    counts = Counts()
    documents = list(read_documents(source, tags, counts))
    ends("pass 1")
    strong = strong_pairs(counts, phrases)
    tokenizer = BertWordPieceTokenizer(str(vocab), lowercase=False, strip_accents=False)
    folder.mkdir()
    subsets = [{task: Shard(folder / f"{task}-{subset}") for task in TASKS} for subset in ("train", "valid")]
    pools: list[Pool] = [{}, {}]
    for first in range(0, len(documents), DOCUMENTS_AT_ONCE):
        batch, of, queries = [], [], []
        for title, paragraphs in documents[first : first + DOCUMENTS_AT_ONCE]:
            words = jieba.lcut(normalise(title)[0])
            parts = iter(encode(tokenizer, [[words, entities(words, tags)], *chain.from_iterable(paragraphs)], strong))
            queries.append(next(parts))
            batch.append([[next(parts) for _ in paragraph] for paragraph in paragraphs])
            of.append(int(random.random() < valid_share))
        spans = [[joined(run) for p in document for run in grouped(p, SPAN_TOKENS)] for document in batch]
        for i, found in zip(of, spans, strict=True):
            for span in random.sample(found, min(4, len(found))):
                pools[i].setdefault(len(span.ids) // 4, []).append(span)
        ends("encode")
        for i, document, found in zip(of, batch, spans, strict=True):
            masking_and_words(document, subsets[i]["knowledge_masking"], subsets[i]["token_document"])
            pairs(found, pools[i], subsets[i][NEXT], subsets[i][DISTANCE])
            orders(document, subsets[i][ORDER])
            relations(document, subsets[i][RELATION])
        relevance(queries, batch, [subsets[i][RELEVANCE] for i in of])
        ends("build and write")
    for shard in (shard for shards in subsets for shard in shards.values()):
        shard.close()
    ends("build and write")
    made = {task: (sum(s[task].rows for s in subsets), sum(s[task].tokens for s in subsets)) for task in TASKS}
    return made, seconds
