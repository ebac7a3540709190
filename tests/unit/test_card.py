"""The data card: counts, reasons, bars, and rows a person can read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tasks_helper as toy

from corpus_prep.card import card_markdown
from ernie_core.data.rows import Rows
from ernie_core.schemas import ENTITY, PHRASE, Document, Sentence, Unit
from ernie_core.tasks.base import all_tasks
from ernie_core.vocab import SPECIAL_TOKENS, Vocab

WORDS = ("哈尔滨", "是", "黑龙江", "的", "省会", "，", "国际", "冰雪", "文化", "名城", "。")
UNITS = (Unit(0, 1, ENTITY), Unit(2, 3, ENTITY), Unit(6, 10, PHRASE))


class OneGroup:
    """Shards of a single row group."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.num_groups = 1
        self.group_lengths = [rows.lengths]

    def read_group(self, group: int) -> Rows:
        assert group == 0
        return self.rows


@pytest.fixture
def card() -> str:
    sentence = Sentence(WORDS, UNITS, "".join(WORDS))
    other = Sentence(("省会", "下雨", "|", "。"), (), "省会下雨|。")
    document = Document("0" * 16, "toy", "", "", ((sentence,), (other,), (sentence,)))
    letters = sorted({c for s in (sentence, other) for c in s.text})
    vocab = Vocab((*SPECIAL_TOKENS, *letters))
    tasks = all_tasks()
    shards: dict[str, Any] = {}
    for name in ("knowledge_masking", "token_document"):
        context = toy.context(encode=lambda w: [vocab.ids[c] for c in w], max_seq_len=32 if name == "knowledge_masking" else 25)
        names = [name] if name == "token_document" else []
        shards[name] = OneGroup(Rows.from_samples(toy.built(tasks[name], [document], context)[0], names))
    facts = {
        "documents": {"read": 12345, "kept": 12000, "near_duplicates": 5, "by_source": {"news": {"read": 12300, "kept": 12000, "near_duplicates": 5}, "talks": {"read": 45, "kept": 0}}, "text_shares": {"news": 0.75, "talks": 0.25}, "rejects": [{"path": "a.txt", "offset": 7, "reason": "not UTF-8", "head_hex": "ff0a", "encoding": ""}]}, "normaliser": "v1",
        "tasks": {"knowledge_masking": {"rows": 2, "tokens": 1234567, "classes": {}, "drops": {"short_run": 3}},
                  "token_document": {"rows": 3, "tokens": 50, "classes": {"0": 5, "1": 7}, "drops": {}}},
    }  # fmt: skip
    audit = {
        "knowledge_masking": {"metric": "loss", "bars": {"unigram": 6.67}, "best_bar": 6.67, "best_bar_name": "unigram"},
        "token_document": {"metric": "average_precision", "bars": {"unigram_table": 0.4376, "word_table": 0.4959}, "best_bar": 0.4959,
                           "best_bar_name": "word_table", "auc": {"unigram_table": 0.6181, "word_table": 0.655},
                           "ambiguous_auc": {"unigram_table": 0.51, "word_table": 0.52}, "f1": {"unigram_table": 0.3, "word_table": 0.4},
                           "accuracy": {"unigram_table": 0.7, "word_table": 0.71}},
    }  # fmt: skip
    return card_markdown(facts, vocab, shards, audit)


def test_counts_reasons_and_bars_stand_in_tables(card: str) -> None:
    for line in (
        "| documents | news | talks | all |", "| read | 12,300 | 45 | 12,345 |", "| near duplicates | 5 |  | 5 |", "| share of the text | 0.75 | 0.25 |  |", "| documents: rejects | 1 named in the manifest |", "| rejected: not UTF-8 | a.txt | byte 7 | bytes ff0a |",
        "| normaliser | v1 |",
        "| token_document | 0: 5, 1: 7 |", "| knowledge_masking | short_run | 3 |",
        "| knowledge_masking | loss | unigram (best) | 6.67 |  |  |  |  |",
        "| token_document | average_precision | word_table (best) | 0.4959 | 0.655 | 0.52 | 0.4 | 0.71 |",
        "| token_document | average_precision | unigram_table | 0.4376 | 0.6181 | 0.51 | 0.3 | 0.7 |",
    ):  # fmt: skip
        assert line in card.splitlines()
    assert "documents: by_source" not in card
    assert any(line.startswith("| knowledge_masking | 2 | 1,234,567 |") for line in card.splitlines())


def test_samples_show_words_units_and_token_labels(card: str) -> None:
    lines = card.splitlines()
    assert "-1: [CLS] 【哈尔滨】 是 【黑龙江】 的 省会 ， 〈国际 冰雪 文化 名城〉 。 省会 下雨 | 。 [SEP]" in lines
    assert "-1: [CLS] 【哈尔滨+】 是 【黑龙江+】 的 省会+ ， 〈国际+ 冰雪+ 文化+ 名城+〉 。 [SEP]" in lines
    assert "-1: [CLS] 省会+ 下雨- | 。 [SEP]" in lines


def test_text_cannot_break_out_of_its_line() -> None:
    vocab = Vocab((*SPECIAL_TOKENS, "a\x1b[31m", "b\u202e"))
    row = [[1, 5, 6, 2], [0] * 4, [0, 1, 2, 3], [-1, 0, 0, -1]]
    rows = Rows(np.array([0, 4]), np.array(row[0], np.int32), np.array(row[1], np.int8), np.array(row[2], np.int16), np.array(row[3], np.int8),
                np.array([-1], np.int32), np.zeros(1, np.uint64))  # fmt: skip
    card = card_markdown({"tasks": {}}, vocab, {"knowledge_masking": OneGroup(rows)}, {})
    assert "-1: [CLS] a\\x1b[31m b\\u202e [SEP]" in card.splitlines()
