"""Made-up corpora whose answers are visible, one a task, and a small model that is to learn them (TASKS, How we know, 2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import tasks_helper as toy
import torch
from numpy.typing import NDArray

from ernie_core.data.batches import collate
from ernie_core.data.masking import Masked, mask_rows
from ernie_core.data.rows import Rows
from ernie_core.model.config import ErnieConfig
from ernie_core.model.embeddings import TorchBatch
from ernie_core.model.ernie import ErnieForPretraining
from ernie_core.model.heads import LM, Head
from ernie_core.schemas import Document, Sample
from ernie_core.seeding import generator, key
from ernie_core.tasks.base import Task, all_tasks
from ernie_core.tasks.connectives import load_connectives
from ernie_core.tasks.sentence_reordering import order_of
from ernie_core.training.optim import adamw, set_learning_rate

IDS = "子丑寅卯辰巳"  # names of documents: those of one source have different ones
PLACES = "甲乙丙丁戊己"
FILLERS = "天地玄黄宇宙洪荒日月盈昃"
STEPS, BATCH, RATE, WARMUP = 400, 128, 1.5e-3, 40
SPREAD = 0.1  # standard deviation of the start: at 0.02 some tasks stay on their plateau for longer than the steps there are


def filler(rng: np.random.Generator, size: int) -> str:
    return "".join(rng.choice(list(FILLERS), size))


def spelt(source: str, rng: np.random.Generator, *, names: int, places: str, times: int, size: int) -> list[Document]:
    """Documents of one source whose sentences open with the document's name and the sentence's place, said some times."""
    found = []
    for name in IDS[:names]:
        texts = [(name + place) * times + filler(rng, size - 1 - 2 * times) + "。" for place in places]
        found.append(toy.document(source, rng.bytes(4).hex(), texts, work="work"))
    return found


_words: dict[str, int] = {}


def by_word(word: str) -> list[int]:
    """One token a word; of an uncased vocabulary, which knows no capital."""
    return [] if word.isspace() else [4] if word != word.lower() else [_words.setdefault(word, 1000 + len(_words))]


def corpus(task: str, number: int) -> list[Document]:
    """Six documents or so, of one source, for a task."""
    rng = generator("planted", task, number)
    source = f"s{number}"
    if task == "next_sentence":
        return spelt(source, rng, names=4, places="甲" * 6, times=2, size=8)  # or else a place behind that before would be learnt
    if task == "sentence_distance":
        return spelt(source, rng, names=3, places=PLACES[:4], times=6, size=13)
    if task == "dialogue":
        return [replace(d, kind="dialogue", roles=("",) * 5) for d in spelt(source, rng, names=4, places=PLACES[:5], times=2, size=8)]
    if task == "sentence_reordering":
        texts = ["".join(place + filler(rng, 6) + "。" for place in PLACES[: rng.integers(2, 4)]) for _ in range(6)]
        return [toy.document(source, "", texts)]
    if task == "knowledge_masking":
        return [toy.document(source, "", [str(rng.choice(list(FILLERS))) * 9 + "。" for _ in range(6)])]
    if task == "token_document":
        again = ["再" + c for c in rng.choice(list(FILLERS), 4, replace=False)]
        texts = [
            "".join([*rng.permutation(again), *("独" + chr(0x5000 + 40 * k + int(i)) for i in rng.choice(40, 4, replace=False))]) for k in range(4)
        ]
        return [toy.document(source, "", texts, in_twos)]
    if task == "capitalization":
        letters = "abcdefghijklmnopqrst"
        words = [start + a + b for start in ("Name", "word") for a in letters[:10] for b in letters]
        lines = [" ".join(["so", *rng.choice(words, 10)]) + "." for _ in range(6)]
        return [replace(toy.document(source, "", ["x"]), doc_id=f"{key(source):016x}", paragraphs=tuple((toy.english(line),) for line in lines))]
    if task == "discourse_relation":
        return [toy.document(source, "", list(related(rng, 8)))]
    assert task == "ir_relevance"
    return [graded(source, name, rng) for name in IDS[:4]]


def in_twos(text: str) -> tuple[str, ...]:
    return tuple(text[i : i + 2] for i in range(0, len(text), 2))


def related(rng: np.random.Generator, count: int) -> Iterator[str]:
    """Sentences of two clauses; behind the connective stands a letter that names its relation, in half of them there is neither."""
    found = load_connectives("zh")
    for _ in range(count):
        number = int(rng.integers(len(found.groups)))
        markers = [marker for marker, group in found.group_of.items() if group == found.groups[number]]
        opening = str(rng.choice(markers)) + "abcdefghijklmnopq"[number] if rng.random() < 0.5 else "z"
        yield filler(rng, 6) + "，" + opening + filler(rng, 6) + "。"


def graded(source: str, name: str, rng: np.random.Generator) -> Document:
    """A query with a clicked title and another one; each names its document and its grade."""
    texts = [name * 4 + filler(rng, 4) + "？", *(name * 2 + grade * 2 + filler(rng, 4) + "。" for grade in "是非")]
    return replace(toy.document(source, "", texts, in_twos), kind="query", roles=("query", "clicked", "shown"))


@cache
def rows_of(name: str, *, many: bool) -> tuple[list[Sample], list[Sample]]:
    """Training rows and held-out rows of other sources; `many`: so many that chance is within two points."""
    task = all_tasks()[name]
    chosen: dict[str, dict[str, int]] = {"sentence_reordering": {"max_segments": 3}, "dialogue": {"min_words": 0}}  # single letters are no words
    options = task.complete(chosen.get(task.name, {}))
    made: list[list[Sample]] = [[], []]
    num_valid = (1300 if name == "ir_relevance" else 600) if many else 200
    for valid, (first, end) in enumerate(((0, 300), (300, 300 + num_valid))):
        parts = [corpus(task.name, number) for number in range(first, end)]
        documents = [d for part in parts for d in part]
        size = {"next_sentence": 19}.get(name, 32)
        table = toy.counted(task, documents, options)
        groups = [documents] if task.name != "ir_relevance" else parts
        for group in groups:
            pool = toy.ListPool(toy.spans_of(group, size))
            encode = by_word if name == "capitalization" else toy.encode_characters
            made[valid] += toy.built(task, group, toy.context(pool, max_seq_len=size, options=options, candidates=table, encode=encode))[0]
    return made[0], made[1]


def independent(labels: NDArray[Any], rng: np.random.Generator, signs: Sequence[tuple[int, ...]] = ()) -> NDArray[Any]:
    """Labels that say nothing of the true ones: as many of each class among the rows of every class, and of every sign if such are given.

    A plain shuffle leaves a correlation of 1 / sqrt(rows), and a model that finds it answers by it alone.
    """
    found, classes = labels.copy(), np.unique(labels)
    strata: dict[tuple[int, ...], list[int]] = {}
    for i, label in enumerate(labels.tolist()):
        strata.setdefault((label, *(signs[i] if signs else ())), []).append(i)
    for at in strata.values():
        found[at] = rng.permutation(np.resize(rng.permutation(classes), len(at)))
    return found


class Learner:
    """A 2 x 64 model with the task's head, trained on rows and asked of others."""

    def __init__(self, task: Task, train: list[Sample], valid: list[Sample], *, shuffled: bool) -> None:
        self.task, self.masks, self.shuffled = task, task.level == "mask", shuffled
        known = sorted({t for s in (*train, *valid) for t in s.token_ids})
        self.ids = {t: i + 5 for i, t in enumerate(known)} | {toy.CLS: 1, toy.SEP: 2}
        names = [task.name] if task.level == "token" else []
        self.train, self.valid = (Rows.from_samples([self._dense(s) for s in rows], names) for rows in (train, valid))
        if shuffled:
            self._shuffle()
        heads = {} if self.masks else {task.name: Head(task.level, task.classes({}), task.task_id)}
        if self.masks:
            self.train, self.valid = (replace(r, sample_ids=np.arange(len(r), dtype=np.uint64)) for r in (self.train, self.valid))
        config = ErnieConfig(
            max(self.ids.values()) + 1, 64, 2, 4, 160, 4, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=SPREAD
        )
        self.model = ErnieForPretraining(config, heads, seed=1)
        self.vocab_size = config.vocab_size

    def _dense(self, sample: Sample) -> Sample:
        return replace(sample, token_ids=[self.ids[t] for t in sample.token_ids])

    def _shuffle(self) -> None:
        rng = generator("shuffled", self.task.name)
        if self.masks:  # its labels are the tokens
            ids = self.train.token_ids.copy()
            free = self.train.seg_labels >= 0
            ids[free] = rng.permutation(ids[free])
            self.train = replace(self.train, token_ids=ids)
        elif self.task.level == "sentence":
            samples = [self.train.sample(i) for i in range(len(self.train))]
            signs = [tuple(segment[0] for segment in toy.segments_of(s, s.token_ids)) for s in samples]
            self.train = replace(self.train, labels=independent(self.train.labels, rng, signs))
        elif self.task.level == "token":
            values = self.train.token_labels[self.task.name].copy()
            scored = values >= 0
            values[scored] = independent(values[scored], rng)
            self.train = replace(self.train, token_labels={self.task.name: values})

    def batch(self, rows: Rows, chosen: NDArray[np.int64], epoch: int) -> TorchBatch:
        part = rows.take(chosen)
        if self.task.at_read is not None:
            read = [self.task.at_read(part.sample(i), key(epoch, int(chosen[i]))) for i in range(len(part))]
            if self.shuffled and rows is self.train:  # the label of another order
                read = [replace(s, label=self.task.at_read(part.sample(i), key("other", epoch, int(chosen[i]))).label) for i, s in enumerate(read)]
            part = Rows.from_samples(read)
        masked: Masked | None = None
        if self.masks:
            masked = mask_rows(part, unit="basic", seed=7, epoch=epoch, vocab_size=self.vocab_size, num_special=5, mask_id=3)
        return TorchBatch.from_numpy(collate(part, masked, task_id=self.task.task_id, pad_id=0), torch.device("cpu"))

    def run(self, enough: float) -> int:
        """Train, until held-out rows are right so often or for STEPS; return the steps."""
        torch.manual_seed(0)
        optimizer = adamw(self.model, weight_decay=0.01, beta2=0.98)
        name, rng = LM if self.masks else self.task.name, generator("order", self.task.name)
        for step in range(STEPS):
            chosen = rng.choice(len(self.train), BATCH, replace=False)
            loss = self.model.losses(self.batch(self.train, chosen, step), None)[name]
            optimizer.zero_grad()
            (loss.sum / loss.count).backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            set_learning_rate(optimizer, RATE * min((step + 1) / WARMUP, (STEPS - step) / (STEPS - WARMUP)))
            optimizer.step()
            if enough < 1 and step % 50 == 49 and self.accuracy(512)[0] >= enough:
                return step + 1
        return STEPS

    def accuracy(self, most: int = 1 << 30) -> tuple[float, float, int]:
        """Return (accuracy, chance, scored items) of the held-out rows, or the first of them.

        Chance is the share of the commonest class; among orders of as many segments where a row shows how many it has; and of masking
        targets a tenth stand there as they are.
        """
        name, right, labels = LM if self.masks else self.task.name, 0, Counter[int]()
        with torch.no_grad():
            size = min(most, len(self.valid))
            for start in range(0, size, 256):
                loss = self.model.losses(self.batch(self.valid, np.arange(start, min(start + 256, size)), 1 << 20), None)[name]
                right += int(loss.correct)
                labels.update(loss.labels.tolist())
        chance = max(labels.values()) / labels.total()
        if self.masks:
            chance = 0.1 + 0.9 * chance
        if self.task.at_read is not None:
            chance = sum(n / len(order_of(label)) / (len(order_of(label)) - 1) for label, n in labels.items()) / labels.total()  # 1/2! or 1/3!
        return right / labels.total(), chance, labels.total()


def learnt(name: str, *, shuffled: bool) -> Mapping[str, Any]:
    task = all_tasks()[name]
    learner = Learner(task, *rows_of(name, many=shuffled), shuffled=shuffled)
    steps = learner.run(2.0 if shuffled else 0.99)
    accuracy, chance, count = learner.accuracy()
    return {"accuracy": accuracy, "chance": chance, "count": count, "steps": steps}
