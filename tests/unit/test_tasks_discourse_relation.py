"""Discourse relation: an independent labeller finds the labels again from raw pages, and what is taken out is taken out everywhere."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tasks_helper as toy
from hypothesis import given, settings

from ernie_core.errors import RecipeError
from ernie_core.schemas import Document, Sample
from ernie_core.tasks.base import all_tasks
from ernie_core.tasks.connectives import load_connectives
from ernie_core.tasks.discourse_relation import candidates, shares

TASK = all_tasks()["discourse_relation"]
LISTS = Path(__file__).parents[2] / "ernie_core/tasks/data"
NUM_PAGES = 1740
GROUPS = ("cause", "result", "contrast", "concession", "condition", "addition", "time", "restatement")
CAUSE, RESULT, CONTRAST, CONCESSION, CONDITION, ADDITION, TIME, RESTATEMENT = range(1, 9)


def listed(language: str) -> dict[str, tuple[str, list[str]]]:
    """marker -> (group, partners), read without the code under test."""
    found = {}
    for line in (LISTS / f"connectives_{language}.txt").read_text(encoding="utf-8").split("\n"):
        if line and line[0] != "#":
            group, marker, *others = line.split("\t")
            found[marker] = (group, others[0].split(";" if language == "en" else " ") if others and others[0] else [])
    return found


LISTED = listed("zh")
NONE_MAY_HOLD = {m for m, (group, _) in LISTED.items() if group != "-"} | {p for _, others in LISTED.values() for p in others}


def without(text: str, unwanted: list[str]) -> str:
    """The text without these words, a particle with its comma, and the marks behind each, found by walking over it."""
    kept, i = "", 0
    while i < len(text):
        here = max((w for w in unwanted if text.startswith(w, i)), key=len, default="")
        if not here:
            kept += text[i]
            i += 1
            continue
        i += len(here)
        i += text[i : i + 1] in [*"呢嘛啊呀"] and text[i + 1 : i + 2] in [*"，,"]
        while i < len(text) and (text[i] in "，,、：:" or text[i].isspace()):
            i += 1
    return kept


def clauses_of(text: str) -> list[str]:
    found, open_marks, quoted = [""], list[str](), '"'
    for i, c in enumerate(text):
        found[-1] += c
        if c == quoted and quoted in open_marks:
            del open_marks[open_marks.index(quoted) :]
        elif c in "“‘「『《〈【（([{" or c == quoted:
            open_marks.append(c)
        elif c in "”’」』》〉】）)]}":
            opening = "“‘「『《〈【（([{"["”’」』》〉】）)]}".index(c)]
            while opening in open_marks:
                if open_marks.pop() == opening:
                    break
        elif c in "，,；;" and not open_marks:
            number = c in "，," and i > 0 and text[i - 1].isdigit() and text[i + 1 : i + 2].isdigit()
            if not number:
                found.append("")
    return [clause for clause in found if clause.strip()]


def begins_an_item(text: str) -> bool:
    """Whether a text begins with a number, letter or bullet of a list, looked at character by character."""
    bare = text.lstrip("“‘\"'「（(【[〔 ")
    digits = len(bare) - len(bare.lstrip("0123456789"))
    numerals = len(bare) - len(bare.lstrip("一二三四五六七八九十"))
    after_digits, after_numerals, bracketed = (
        bare[digits : digits + 1],
        bare[numerals : numerals + 1],
        text[: len(text) - len(bare)].endswith(("（", "(")),
    )
    if (
        0 < digits <= 3
        and after_digits
        and (after_digits in "、)）:：]〕】" or after_digits.isspace() or (after_digits in ".．·" and not bare[digits + 1 : digits + 2].isdigit()))
    ):
        return True
    if (0 < digits <= 3 and not after_digits) or (digits == 2 and bare[0] == "0"):
        return True
    if 0 < numerals <= 3 and after_numerals and (after_numerals in "、，,.:：" or (bracketed and after_numerals in "）)")):
        return True
    if bare[:1] in "abcdefghijklmnopqrstuvwxyz" and bare[:1] and bare[1:2] and bare[1:2] in "、.)）":
        return True
    bullet = bare[:1] in "@△▲▼◆◇●○■□★☆※•·►▶-" and bare[:1] != "" and bare[1:].strip() != ""
    return bullet or any(low <= bare[:1] <= high for low, high in (("①", "⒛"), ("㈠", "㈩"), ("❶", "➓")))


def brute_force(first: str, second: str) -> tuple[int, str, str] | None:
    """(class, first, second) of two adjacent raw texts, None where they are no candidate."""
    first, second = first.strip(), second.strip()
    uncut = first
    marker = max((w for w in LISTED if second.startswith(w)), key=len, default="")
    if marker and LISTED[marker][0] != "-":
        group, partners = LISTED[marker]
        label, first, second = 1 + GROUPS.index(group), without(first, partners), without(second, [marker])
        again = max((w for w in LISTED if second.lstrip().startswith(w)), key=len, default="")
        if again and LISTED[again][0] != "-":
            return None
    else:
        if any(w in text for text in (first, second) for w in NONE_MAY_HOLD):
            return None
        label = 0
        for i in range(1, 5):
            if second[i : i + 1] in ("，", ",") and not any(c in "，," or c.isspace() for c in second[:i]):
                second = second[:i] + second[i + 1 :]
                break
    if min(sum(c.isalnum() for c in text) for text in (first, second)) < 4 or begins_an_item(uncut) or begins_an_item(second.lstrip()):
        return None
    return label, "".join(first.split()), "".join(second.split())


def expected(document: Document) -> Iterator[tuple[int, str, str]]:
    for paragraph in document.paragraphs:
        sentences = [toy.lower(s.original) for s in paragraph if s.original.strip()]
        pairs = list(pairwise(sentences))
        for text in sentences:
            pairs += pairwise(clauses_of(text))
        yield from (found for pair in pairs if (found := brute_force(*pair)) is not None)


def context(documents: list[Document], **options: Any) -> toy.BuildContext:
    complete = TASK.complete(options)
    return toy.context(options=complete, candidates=toy.counted(TASK, documents, complete), max_seq_len=1 << 20)


def halves(row: Sample) -> tuple[int, str, str]:
    first, second = (toy.text_of(ids) for ids in toy.segments_of(row, row.token_ids))
    return row.label, first, second


def test_labels_are_found_again_in_ten_thousand_raw_rows(test_data: Path) -> None:
    """All marked pairs of any twenty pages, less those whose cut would split a word; the others are a sample of the labeller's."""
    documents = toy.segmented_news(test_data, NUM_PAGES)
    ctx = context(documents, per_class=None)
    count, splits_a_word = Counter[int](), 0
    for start in range(0, NUM_PAGES, 20):
        pages = documents[start : start + 20]
        rows, drops = toy.built(TASK, pages, ctx)
        found, true = Counter(map(halves, rows)), Counter(pair for page in pages for pair in expected(page))
        assert not found - true
        missing = Counter({pair: n for pair, n in (true - found).items() if pair[0]})
        assert missing.total() <= drops["inside_word"]
        splits_a_word += drops["inside_word"]
        count.update(row.label for row in rows)
    assert count.total() >= 10_000
    assert set(count) == set(range(9))
    assert min(count.values()) >= 25
    assert count[0] == pytest.approx((count.total() - count[0]) / 8, rel=0.1)
    assert 0 < splits_a_word < 0.05 * count.total()


def test_rows_keep_to_the_cap_and_none_is_as_long_as_the_relations(test_data: Path) -> None:
    documents = toy.news_documents(test_data, 400, tuple)
    rows, drops = toy.built(TASK, documents, context(documents, per_class=100))
    count = Counter(row.label for row in rows)
    assert all(n < 100 + 4 * 10 for n in count.values())
    assert count[CONTRAST] == pytest.approx(100, abs=40)
    assert count[0] == pytest.approx(sum(count[c] for c in range(1, 9)) / 8, rel=0.35)
    assert drops["over_cap"] > 1000
    rows, _ = toy.built(TASK, documents, context(documents, per_class=None))
    sizes = {marked: [len(a) + len(b) for label, a, b in map(halves, rows) if (label > 0) == marked] for marked in (True, False)}
    means = [sum(found) / len(found) for found in sizes.values()]
    assert means[0] == pytest.approx(means[1], rel=0.1), means


@pytest.mark.parametrize(
    ("text", "label", "first", "second"),
    [
        ("他昨天病了，所以没来上课。", RESULT, "他昨天病了，", "没来上课。"),
        ("因为他昨天病了，所以没来上课，所以我一个人。", RESULT, "他昨天病了，", "没来上课，"),
        ("他昨天病了。所以，没来上课，所以没人知道。", RESULT, "他昨天病了。", "没来上课，没人知道。"),
        ("他昨天虽然病了，但是：还来上课。", CONTRAST, "他昨天病了，", "还来上课。"),
        ("虽然，他昨天病了。但他还来上课。", CONTRAST, "他昨天病了。", "他还来上课。"),
        ("他昨天病了；而且、 没有吃药。", ADDITION, "他昨天病了；", "没有吃药。"),
        ("他昨天去了北京，随后去了上海。", TIME, "他昨天去了北京，", "去了上海。"),
        ("天上下着大雨。当天，他没有来。", 0, "天上下着大雨。", "当天他没有来。"),
        ("他说“昨天病了，没人来”，所以大家都知道。", RESULT, "他说“昨天病了，没人来”，", "大家都知道。"),
        ("走了3，000步远，也就是2,000米。", RESTATEMENT, "走了3，000步远，", "2,000米。"),
    ],
)
def test_what_is_taken_out(text: str, label: int, first: str, second: str) -> None:
    """A text without a connective is a row where there are as many of its lengths with one."""
    documents = [toy.document("toy", "", [text], toy.by_jieba)]
    table = toy.counted(TASK, documents, TASK.complete({}))
    full = {**table, **{(source, 1, place): 8 * n for (source, label, place), n in table.items() if label == 0}}
    rows, _ = toy.built(TASK, documents, toy.context(options=TASK.complete({"per_class": None}), candidates=full))
    assert (label, first, second) in map(halves, rows)


@pytest.mark.parametrize(
    ("text", "label", "second"),
    [
        ("It rained hard all day! So the man stayed at home.", RESULT, "the man stayed at home ."),
        ("It rained hard all day! So hard did it rain that he stayed.", None, ""),
        ("It rained hard all day! That is, the roof was wet.", RESTATEMENT, "the roof was wet ."),
        ("It rained hard all day! That is what he told us.", None, ""),
        ("It rained hard all day, but in the end.", None, ""),
        ("It rained hard all day! Whether he came is not known.", None, ""),
    ],
)
def test_english_markers_count_only_where_they_connect(text: str, label: int | None, second: str) -> None:
    documents = [toy.document("toy", "", [text])]
    rows, _ = toy.built(TASK, documents, context(documents, connectives="en", per_class=None))
    found = [(row[0], row[2]) for row in map(halves, rows) if row[0]]
    assert found == ([] if label is None else [(label, second.replace(" ", ""))])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("他昨天病了，所以没。", "short_text"),
        ("他昨天没来，大家所以都知道。", "marker_elsewhere"),
        ("他昨天没来，只有一个人来了。", "marker_elsewhere"),
    ],
)
def test_pairs_that_are_no_candidates_are_counted(text: str, reason: str) -> None:
    documents = [toy.document("toy", "", [text])]
    rows, drops = toy.built(TASK, documents, context(documents))
    assert (rows, +drops) == ([], {reason: 1})


def test_a_marker_inside_a_word_is_no_marker() -> None:
    documents = [toy.document("toy", "", ["他昨天没来上课，但凡大家都知道。"], lambda _: ("他昨天没来上课", "，", "但凡", "大家都知道", "。"))]
    rows, drops = toy.built(TASK, documents, context(documents))
    assert (rows, +drops) == ([], {"inside_word": 1})


def test_english_text_is_capitalised_again_and_cut_at_whole_words() -> None:
    line = "Although the rain fell all day, Mary went out. However, she came back soon, so the soup (hot, not cold) was still there."
    page = Document("e" * 16, "english", "work", "", ((toy.english(line[:47]), toy.english(line[47:])),))
    complete = TASK.complete({"connectives": "en"})
    found = [(c.label, *(half.original for half in c.texts())) for c in candidates(page, complete, Counter()) if c.label]
    assert found == [
        (CONTRAST, "Although the rain fell all day, Mary went out.", "She came back soon, so the soup (hot, not cold) was still there."),
        (RESULT, "she came back soon,", "the soup (hot, not cold) was still there."),
    ]
    for c in candidates(page, complete, Counter()):
        for half in c.texts():
            assert half.text == toy.lower(half.original)


def test_the_longest_marker_counts_and_no_marker_stands_in_two_groups() -> None:
    zh = load_connectives("zh")
    assert (zh.marker_of("而且他来了"), zh.marker_of("而他来了"), zh.marker_of("他而且"), zh.marker_of("只有一个")) == ("而且", "而", "", "")
    for language in ("zh", "en"):
        lines = (LISTS / f"connectives_{language}.txt").read_text(encoding="utf-8").split("\n")
        markers = [line.split("\t")[1] for line in lines if line and line[0] != "#"]
        assert len(markers) == len(set(markers))
        connectives = load_connectives(language)
        assert connectives.groups == GROUPS
        assert {marker: (connectives.group_of[marker], list(connectives.partners[marker])) for marker in connectives.markers} == {
            marker: row for marker, row in listed(language).items() if row[0] != "-"
        }


def test_shares_are_those_of_the_cap_and_of_the_mean_relation() -> None:
    options = TASK.complete({"per_class": 1500})
    counts = {("a", 1, "x"): 3000, ("a", 2, "x"): 400, ("a", 2, "y"): 800, ("b", 1, "x"): 0, ("a", 0, "x"): 4000, ("a", 0, "y"): 50, ("b", 0, "x"): 9}
    found = shares(counts, options)
    assert (found["a", 1, "x"], found["a", 2, "x"]) == (0.5, 1.0)
    assert found["a", 0, "x"] == pytest.approx((1500 + 400) / 8 / 4000)
    assert found["a", 0, "y"] == 1.0
    assert found["b", 0, "x"] == 0.0


@pytest.mark.parametrize("options", [{"connectives": "de"}, {"labels": "x"}, {"per_class": 0}, {"per_class": True}, {"per_class": "9"}])
def test_options_take_listed_values_only(options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError) as e:
        TASK.classes(options)
    assert e.value.code == "E-TASK-OPTION"
    assert next(iter(options)) in str(e.value)


def test_every_marker_can_be_a_class() -> None:
    markers = [marker for marker, (group, _) in LISTED.items() if group != "-"]
    assert TASK.classes({"labels": "markers"}) == 1 + len(markers)
    assert TASK.classes({"connectives": "en"}) == 9
    documents = [toy.document("toy", "", ["他昨天病了，所以没来上课。"])]
    rows, _ = toy.built(TASK, documents, context(documents, labels="markers"))
    assert [row.label for row in rows] == [1 + markers.index("所以")]


def test_classes_are_named_under_every_option() -> None:
    assert TASK.meanings({}) == ("no connective", *GROUPS)
    assert TASK.meanings({"labels": "markers"})[1:] == tuple(m for m, (group, _) in LISTED.items() if group != "-")
    assert len(TASK.meanings({"connectives": "discovery"})) == 174


def test_discovery_is_read_as_it_is_published() -> None:
    rows_of_file = [("It rained all day", "The path was dry. Nobody knew", "however"), ("It rained all day", "Everything was wet", "as_a_result,"),
                    ("It rained all day", "Everything was wet", "0"), ("It rained", "Everything was wet", "173"), ("It rained", "It was wet", "174"),
                    ("It rained", "It was wet", "nowhere"), ("It", "It was wet", "again,")]  # fmt: skip
    documents = []
    for i, (first, second, label) in enumerate(rows_of_file):
        texts = ((toy.english(first),), tuple(map(toy.english, re.findall(r".+?(?:[.] |$)", second))))
        documents.append(Document(f"{i:016x}", "discovery", "work", "", texts, "pair", ("sentence1", "sentence2"), label))
    ctx = context(documents, connectives="discovery", per_class=None)
    rows, drops = toy.built(TASK, [*documents, toy.document("toy", "", ["他昨天病了，所以没来上课。"])], ctx)
    names = TASK.meanings({"connectives": "discovery"})
    assert [names[row.label] for row in rows] == ["however", "as a result,", "[no-conn]", "yet,"]
    assert [halves(row)[1:] for row in rows][:2] == [("itrainedallday", "thepathwasdry.nobodyknew"), ("itrainedallday", "everythingwaswet")]
    assert +drops == {"unknown_label": 2, "short_text": 1, "not_pair": 1}
    same = [Document(f"{i:016x}", "d", "", "", documents[0].paragraphs, "pair", ("", ""), str(i % 4)) for i in range(800)]
    found = Counter(row.label for row in toy.built(TASK, same, context(same, connectives="discovery", per_class=50))[0])
    assert found == {label: pytest.approx(50, abs=25) for label in range(4)}


def test_frequent_lines_and_other_kinds_of_documents_are_counted() -> None:
    documents = [toy.document("toy", "", ["他昨天病了，所以没来上课。"])]
    ctx = context(documents)
    frequent = toy.context(options=ctx.options, candidates=ctx.candidates, frequent_lines=frozenset({"他昨天病了，所以没来上课。"}))
    assert +toy.built(TASK, documents, frequent)[1] == {"frequent_line": 1}
    dialogue = Document("0" * 16, "toy", "", "", documents[0].paragraphs, "dialogue", ("",))
    assert toy.built(TASK, [dialogue], context([dialogue])) == ([], {"not_text": 1})


@settings(max_examples=60)
@given(toy.documents("天地玄黄但而且所以，；“”（3"))
def test_words_and_units_of_any_row_are_whole(document: Document) -> None:
    words = {w for p in document.paragraphs for s in p for w in s.words}
    for c in candidates(document, TASK.complete({}), Counter()):
        for half in c.texts():
            assert set(half.words) <= words
            assert half.text == toy.lower(half.original)
            assert [(0 <= u.start < u.end <= len(half.words), len(half.words[u.start]) >= 3) for u in half.units] == [(True, True)] * len(half.units)
            assert len({u.start for u in half.units}) == len(half.units)
        if c.label == 0:
            assert not any(w in half.text for half in c.texts() for w in ("但", "而", "所以"))
    found = Counter((c.label, *("".join(half.text.split()) for half in c.texts())) for c in candidates(document, TASK.complete({}), Counter()))
    assert not found - Counter(expected(document))
