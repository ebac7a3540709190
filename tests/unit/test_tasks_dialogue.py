"""Dialogue LM: an independent labeller finds the labels again in raw conversations; roles are the speakers', replacements are drawn evenly."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tasks_helper as toy
from hypothesis import given, settings
from hypothesis import strategies as st
from prepare_helper import SETTINGS
from prepare_helper import document as made_up

from corpus_prep.flow import prepare
from ernie_core.data.shards import ShardSet
from ernie_core.errors import RecipeError
from ernie_core.schemas import Document, Sample
from ernie_core.tasks.base import PoolSpan, all_tasks
from ernie_core.tasks.dialogue import room_each, row_of, triples

TASK = all_tasks()["dialogue"]
ANY = {"min_words": 0}  # made-up letters are no words
SENTENCE = re.compile(r".+?(?:[。！？!?…]+[”’」』）\"']*|$)")


def texts_of(row: Sample) -> tuple[str, ...]:
    return tuple(toy.text_of(ids) for ids in toy.segments_of(row, row.token_ids))


def roles_of(row: Sample) -> tuple[int, ...]:
    """The role of each utterance; all its tokens and its [SEP] have it, [CLS] that of the first."""
    ends = [i for i, seg in enumerate(row.seg_labels) if seg < 0]
    parts = [row.sentence_type_ids[a + 1 : b + 1] for a, b in pairwise(ends)]
    assert all(len(set(part)) == 1 for part in parts)
    assert row.sentence_type_ids[0] == parts[0][0]
    return tuple(part[0] for part in parts)


def real_threes(turns: Sequence[str]) -> Iterator[tuple[tuple[int, ...], tuple[str, ...]]]:
    """(roles, utterances) of all threes that a raw conversation without speakers holds."""
    bare = ["".join(toy.lower(turn).split()) for turn in turns]
    for i in range(0, len(bare) - 2, 2):
        yield (0, 1, 0), tuple(bare[i : i + 3])
    if len(bare) % 2 == 0 and bare:
        q, r = bare[-2:]
        for turn in (q, r):
            ends = [m.end() for m in SENTENCE.finditer(turn)][:-1]
            for end in ends:
                cut = (turn[:end], turn[end:])
                yield ((0, 0, 1), (*cut, r)) if turn is q else ((0, 1, 1), (q, *cut))


def brute_force(turns: Sequence[str], roles: tuple[int, ...], texts: tuple[str, ...]) -> int:
    """1 if these three are the conversation's, 0 if one of them alone is not."""
    whole = "".join("".join(toy.lower(turn).split()) for turn in turns)
    unlike = [[a != b for a, b in zip(texts, true, strict=True)] for kind, true in real_threes(turns) if kind == roles]
    if [False] * 3 in unlike:
        return 1
    assert any(sum(row) == 1 and texts[row.index(True)] not in whole for row in unlike)
    return 0


def test_labels_are_found_again_in_ten_thousand_raw_rows(test_data: Path) -> None:
    count, forms, places, dropped = Counter[int](), Counter[tuple[int, ...]](), Counter[int](), Counter[str]()
    for name, size, options in (("subtitles", 12000, TASK.complete({})), ("lccc", 1400, ANY), ("chat", 4000, ANY)):
        conversations = toy.conversations(test_data, name, size)
        documents = toy.dialogues(conversations)
        ctx = toy.context(toy.ListPool(toy.spans_of(documents)), max_seq_len=512, options=options)
        for turns, document in zip(conversations, documents, strict=True):
            rows, drops = toy.built(TASK, [document], ctx)
            threes = list(real_threes(turns))
            for row in rows:
                roles, texts = roles_of(row), texts_of(row)
                assert brute_force(turns, roles, texts) == row.label
                count[row.label] += 1
                forms[roles] += 1
                if row.label == 0 and roles == (0, 1, 0):
                    places.update([[a != b for a, b in zip(texts, true, strict=True)].index(True) for kind, true in threes
                                   if kind == roles and sum(a != b for a, b in zip(texts, true, strict=True)) == 1])  # fmt: skip
            dropped += drops
    assert count.total() >= 10_000
    assert count[0] / count.total() == pytest.approx(0.5, abs=0.02)
    assert set(forms) == {(0, 1, 0), (0, 0, 1), (0, 1, 1)}
    assert min(forms.values()) >= 100
    assert all(places[i] / places.total() == pytest.approx(1 / 3, abs=0.03) for i in range(3))
    assert dropped["no_negative"] + dropped["near_duplicate"] < 0.05 * count.total()


def talk(*turns: str, speakers: str = "") -> Document:
    return toy.dialogues([turns], speakers)[0]


def forms_of(document: Document) -> tuple[list[tuple[tuple[int, ...], tuple[str, ...]]], Counter[str]]:
    drops: Counter[str] = Counter()
    found = [(t.roles, tuple(text.text for text in t.texts)) for t in triples(document, 7, drops)]
    return found, +drops


def test_each_two_neighbouring_turns_stand_in_one_three() -> None:
    assert forms_of(talk("甲一", "乙二", "丙三", "丁四", "戊五")) == (
        [((0, 1, 0), ("甲一", "乙二", "丙三")), ((0, 1, 0), ("丙三", "丁四", "戊五"))],
        {},
    )
    assert forms_of(talk("甲一", "乙二", "丙三", "丁四")) == ([((0, 1, 0), ("甲一", "乙二", "丙三"))], {"no_third": 1})
    assert forms_of(talk("甲一")) == ([], {"one_turn": 1})


def test_two_turns_become_three_by_a_cut_at_a_sentence_end() -> None:
    assert forms_of(talk("甲一。乙二。", "丙三")) == ([((0, 0, 1), ("甲一。", "乙二。", "丙三"))], {})
    assert forms_of(talk("甲一", "乙二。丙三")) == ([((0, 1, 1), ("甲一", "乙二。", "丙三"))], {})
    assert forms_of(talk("甲一", "乙二")) == ([], {"no_third": 1})
    both = Counter(t.roles for seed in range(300) for t in triples(talk("甲一。乙二", "丙三。丁四"), seed, Counter()))
    assert set(both) == {(0, 0, 1), (0, 1, 1)}
    assert both[0, 0, 1] / 300 == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("speakers", "roles", "drops"),
    [
        ("ABA", [(0, 1, 0)], {}), ("BBA", [(0, 0, 1)], {}), ("ABB", [(0, 1, 1)], {}),
        ("AAA", [], {"one_speaker": 1}), ("ABC", [], {"three_speakers": 1}), ("ABAAB", [(0, 1, 0), (0, 0, 1)], {}),
    ],
)  # fmt: skip
def test_roles_are_the_speakers(speakers: str, roles: list[tuple[int, ...]], drops: dict[str, int]) -> None:
    found, counted = forms_of(talk(*[f"{c}{i}话" for i, c in enumerate("甲乙丙丁戊"[: len(speakers)])], speakers=speakers))
    assert ([r for r, _ in found], counted) == (roles, drops)


def test_a_replacement_is_of_the_source_and_length_and_ends_as_the_true_one_does() -> None:
    letters = [chr(0x4E00 + 37 * i) for i in range(400)]
    made = [
        ["".join(letters[(97 * i + 31 * k + j * j) % 400] for j in range(9 + 8 * k)) + ("。" if i % 2 else "") for k in range(3)] for i in range(200)
    ]
    documents = [d for source, part in (("one", made[:100]), ("two", made[100:])) for d in toy.dialogues(part, source=source)]
    home = {"".join(s.text for s in turn): d for d in documents for turn in d.paragraphs}
    rows, _ = toy.built(TASK, documents, toy.context(toy.ListPool(toy.spans_of(documents)), options=ANY))
    fakes = [texts_of(row) for row in rows if row.label == 0]
    assert len(rows) > 180
    for texts in fakes:
        assert len({home[text].source for text in texts}) == 1
        assert len({home[text].doc_id for text in texts}) == 2
        assert len({text[-1] == "。" for text in texts}) == 1
        assert [len(text) // 8 for text in texts] == [1, 2, 3]


def test_what_makes_no_row_is_counted_for_either_label() -> None:
    three = talk("天地玄黄", "宇宙洪荒", "日月盈昃")
    other = PoolSpan("f" * 16, "talk", "", (toy.sentence("辰宿列张"),))
    text = toy.document("talk", "", ["天地玄黄。"])
    for seed in range(6):
        assert toy.built(TASK, [text, three], toy.context(seed=seed, options=ANY))[1] == {"not_dialogue": 1, "no_negative": 1, "one_turn": 0}
        same = toy.ListPool([PoolSpan("f" * 16, "talk", "", (toy.sentence("日月盈昃"),))])
        assert +toy.built(TASK, [three], toy.context(same, seed=seed, options=ANY))[1] == {"near_duplicate": 1}
        ctx = toy.context(toy.ListPool([other]), seed=seed, options=ANY, frequent_lines=frozenset({"宇宙洪荒"}))
        assert +toy.built(TASK, [three], ctx)[1] == {"frequent_line": 1}
        short = [talk("天地玄黄", "嗯", "日月盈昃")]
        assert (
            toy.built(TASK, short, toy.context(toy.ListPool([other, PoolSpan("f" * 16, "talk", "", (toy.sentence("哦"),))]), seed=seed, options=ANY))[
                0
            ]
            == []
        )


def test_an_utterance_of_few_words_makes_no_row_whichever_it_is() -> None:
    told = ("昨天北京下雨", "我们明天去上海", "火车什么时候开")
    pool = toy.ListPool(toy.spans_of([talk("今天上海刮风", "他们晚上回北京", "飞机什么时候飞", "好吧", "那你说呢")]))
    for place in range(3):
        small = talk(*told[:place], "那你说呢好吧", *told[place + 1 :])
        assert all(+toy.built(TASK, [small], toy.context(pool, seed=seed, options=TASK.complete({})))[1] == {"few_words": 1} for seed in range(4))
    made = [toy.built(TASK, [talk(*told)], toy.context(pool, seed=seed, options=TASK.complete({}))) for seed in range(12)]
    texts = [texts_of(row) for rows, _ in made for row in rows]
    assert texts
    assert not any({"好吧", "那你说呢"} & {*three} for three in texts)
    for bad in (-1, "2", True):
        with pytest.raises(RecipeError, match="E-TASK-OPTION"):
            TASK.classes({"min_words": bad})


@given(st.lists(st.integers(1, 200), min_size=3, max_size=3), st.integers(6, 125))
def test_the_longest_utterances_give_way(lengths: list[int], limit: int) -> None:
    room = room_each(lengths, limit)
    kept = [min(n, room) for n in lengths]
    assert sum(kept) <= max(limit, 0)
    assert kept == lengths or sum(min(n, room + 1) for n in lengths) > limit


def test_a_row_that_is_cut_keeps_what_stands_beside_the_next_utterance() -> None:
    letters = "".join(chr(0x4E00 + i) for i in range(80))
    texts = [PoolSpan("0" * 16, "talk", "", (toy.sentence(t),)) for t in (letters, "短句子", letters)]
    row = row_of(texts, (0, 1, 0), toy.context(max_seq_len=47), 1)
    assert row is not None
    assert texts_of(row) == (letters[-20:], "短句子", letters[:20])
    assert roles_of(row) == (0, 1, 0)


@settings(max_examples=30)
@given(st.lists(toy.documents(), min_size=1, max_size=4), st.booleans())
def test_rows_of_any_conversation_fit_and_have_three_utterances_of_two_roles(documents: list[Document], spoken: bool) -> None:
    made = [
        Document(d.doc_id, "toy", "", "", d.paragraphs, "dialogue", tuple("ABAABB"[i % 6] if spoken else "" for i in range(len(d.paragraphs))))
        for d in documents
    ]
    others = [toy.document("toy", "", [f"{c}风{d}云。" * n]) for c in "东西南北" for d in "春夏秋冬" for n in (1, 3)]
    rows, _ = toy.built(TASK, made, toy.context(toy.ListPool(toy.spans_of([*made, *others], 40)), max_seq_len=40, options=ANY))
    for row in rows:
        assert len(row.token_ids) <= 40
        assert roles_of(row) in {(0, 1, 0), (0, 0, 1), (0, 1, 1)}
        assert row.label in (0, 1)


def test_conversations_become_shards_whose_sentence_types_are_roles(tmp_path: Path) -> None:
    lines = ["\t".join(made_up(i, 1).split("。")[k] + "呀" for k in range(2 + i % 3) if k < made_up(i, 1).count("。")) for i in range(300)]
    (tmp_path / "talk.tsv").write_text("\n".join(line for line in lines if "\t" in line) + "\n", encoding="utf-8")
    corpora = {"talk": {"reader": "dialogue", "path": str(tmp_path / "talk.tsv"), "options": {"format": "tsv"}}}
    settings_ = {**SETTINGS, "tasks": {"dialogue": {}, "knowledge_masking": {}}}
    out = tmp_path / "out"
    manifest = prepare(corpora=corpora, settings=settings_, benchmarks_texts=[], folder=out, workers=0, seed=7, say=lambda _: None)
    for encoding in ("parquet", "text"):
        shards = ShardSet.open(out, manifest, "dialogue", "train", encoding)
        assert shards.num_rows > 40
        rows = shards.read_group(0)
        assert set(np.unique(rows.sentence_type_ids).tolist()) == {0, 1}
        assert all(len(texts_of(rows.sample(i))) == 3 for i in range(len(rows)))
    assert manifest.facts["tasks"]["dialogue"]["classes"].keys() == {"0", "1"}
