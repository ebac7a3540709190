"""SQuAD's JSON and DuReader's lines: where answers stand, what is counted, and which rows are refused."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ernie_core.benchmarks.base import Example, Layout, Subset
from ernie_core.benchmarks.dureader_layout import DuReader
from ernie_core.benchmarks.reading_comprehension import CMRC2018, DRCD, DUREADER
from ernie_core.benchmarks.rows import read_rows, to_lines
from ernie_core.benchmarks.squad_layout import NO_ANSWER, Squad, nearest
from ernie_core.errors import InputError

CONTEXT = "北京和北京，髮在頭上。"


def squad(*answers: tuple[str, int], **fields: Any) -> dict[str, Any]:
    row = {"id": "q1", "question": "誰？", "answers": [{"text": text, "answer_start": start} for text, start in answers]} | fields
    return {"version": "v1.0", "data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": [row]}]}]}


def read(folder: Path, content: Any, layout: Layout, name: str = "dev.json") -> Subset:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return layout.read(path, CMRC2018)


def test_a_question_is_read_from_plain_and_packed_files_alike(tmp_path: Path) -> None:
    plain = json.dumps(squad(("北京", 3))).encode()
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as archive:
        archive.writestr("a.json", plain)
        archive.writestr("__MACOSX/._a.json", b"x")
    packed = {
        "dev.json": plain,
        "bom.json": b"\xef\xbb\xbf" + plain,
        "dev.json.gz": gzip.compress(plain),
        "dev.zip": (tmp_path / "made.zip").read_bytes(),
    }
    expected = Subset((Example(("誰？", CONTEXT), answers=(("北京", 3),), id="q1"),))
    assert [read(tmp_path, content, Squad(), name) for name, content in packed.items()] == [expected] * 4


@pytest.mark.parametrize(
    ("answers", "layout", "found", "dropped"),
    [
        ([("北京", 0)], Squad(), (("北京", 0),), {}),
        ([("北京", 2)], Squad(), (("北京", 3),), {"moved": 1}),
        ([("北京", -1), ("和", 2)], Squad(), (("北京", 0), ("和", 2)), {"moved": 1}),
        ([("上海", 0), ("和", 2)], Squad(), (("上海", -1), ("和", 2)), {"answer_not_in_context": 1}),
        ([("上海", 0), ("和", 2)], Squad(train=True), (("和", 2),), {"answer_not_in_context": 1}),
        ([("上海髮", 0)], Squad(to_simplified=True), (("上海发", -1),), {"answer_not_in_context": 1}),
        ([("頭", 6), ("髮", 6)], Squad(to_simplified=True), (("头", 8), ("发", 6)), {"moved": 1}),
        ([], Squad(), (), {}),
    ],
)
def test_an_answer_is_looked_for_in_its_context(
    answers: list[tuple[str, int]], layout: Squad, found: tuple[tuple[str, int], ...], dropped: dict[str, int], tmp_path: Path
) -> None:
    subset = read(tmp_path, squad(*answers), layout)
    assert [e.answers for e in subset.examples] == [found]
    assert subset.dropped == dropped


def test_training_leaves_out_questions_whose_answers_stand_nowhere(tmp_path: Path) -> None:
    content = squad(("上海", 0))
    content["data"] += squad(("和", 2), id=7)["data"]
    subset = read(tmp_path, content, Squad(train=True))
    assert ([e.id for e in subset.examples], subset.dropped) == (["7"], {"answer_not_in_context": 1})
    with pytest.raises(InputError, match=r"E-BENCH-EMPTY.*a piece of their context.*found 1 answers, none of them in it"):
        read(tmp_path, squad(("上海", 0)), Squad(train=True))


def test_an_unanswerable_question_is_told_from_an_unlabelled_one_and_both_survive_the_file_of_rows(tmp_path: Path) -> None:
    content = squad(is_impossible=True)
    content["data"] += squad(is_impossible=False)["data"]
    for layout in (Squad(), Squad(train=True)):
        examples = read(tmp_path, content, layout).examples
        assert [e.answers for e in examples] == [NO_ANSWER, ()]
        (tmp_path / "rows").write_bytes(to_lines(examples, CMRC2018))
        assert read_rows(tmp_path / "rows", CMRC2018) == examples


@pytest.mark.parametrize(
    ("content", "place", "expected", "found"),
    [
        (b"{", "", "JSON in UTF-8", "Expecting property name"),
        (b"\xff{}", "", "JSON in UTF-8", "'utf-8' codec can't decode byte 0xff in position 0"),
        (b"[" * 99999, "", "JSON in UTF-8", "maximum recursion depth"),
        ([], "", "a list in data", "no data"),
        ({"data": {}}, "", "a list in data", "{}"),
        ({"data": [{}]}, ": data[0]", "a list in paragraphs", "no paragraphs"),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, ": data[0].paragraphs[0]", "a text in context", "no context"),
        ({"data": [{"paragraphs": [{"context": "a"}]}]}, ": data[0].paragraphs[0]", "a list in qas", "no qas"),
        ({"data": [{"paragraphs": [{"context": "a", "qas": [{}]}]}]}, ": data[0].paragraphs[0]", "an object with an id in qas", "{}"),
        (squad(("北京", True)), ": question q1", "a whole number in answer_start", "true"),
        (squad(("北京", 1.0)), ": question q1", "a whole number in answer_start", "1.0"),
        (squad((" ", 1)), ": question q1", "a text in text, or is_impossible", '" "'),
        (squad(answers=["北京"]), ": question q1", "a text in text", "no text"),
        (squad(answers={}), ": question q1", "a list in answers", "{}"),
        (squad(question=None), ": question q1", "a text in question", "null"),
        (squad(question="a\ud800"), ": question q1", "a text in question", '"a\\ud800"'),
    ],
)
def test_a_file_of_another_form_is_refused_and_the_question_named(content: Any, place: str, expected: str, found: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, content, Squad())
    assert (error.value.code, error.value.exit_code) == ("E-BENCH-ROW", 3)
    assert error.value.where == f"{tmp_path / 'dev.json'}{place}"
    assert error.value.expected.startswith(expected)
    assert error.value.found.startswith(found)


@pytest.mark.parametrize(
    ("name", "content"), [("a.gz", b"x"), ("b.gz", gzip.compress(b"{}" * 99, mtime=0)[:-9]), ("c.zip", b"x"), ("d.zip", b"PK\5\6" + b"\0" * 18)]
)
def test_a_damaged_packed_file_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="E-BENCH-PACKED"):
        read(tmp_path, content, Squad(), name)
    with pytest.raises(InputError, match="E-BENCH-MISSING"):
        Squad().read(tmp_path / "no.json", CMRC2018)
    with pytest.raises(InputError, match="E-BENCH-EMPTY"):
        read(tmp_path, {"data": []}, Squad())


@given(st.text("ab", max_size=12), st.text("ab", min_size=1, max_size=3), st.integers(-3, 14))
def test_the_nearest_place_is_found(context: str, text: str, start: int) -> None:
    places = [at for at in range(len(context)) if context.startswith(text, at)]
    assert nearest(context, text, start) == min(places, key=lambda at: abs(at - start), default=-1)


def test_a_question_on_several_documents_becomes_one_on_the_first_that_holds_an_answer(tmp_path: Path) -> None:
    documents = [
        {"is_selected": False, "paragraphs": ["鲁迅"]},
        {"is_selected": True, "paragraphs": ["别的"]},
        {"is_selected": True, "paragraphs": ["作者", "是鲁迅。周树人。"]},
    ]
    rows: list[dict[str, Any]] = [
        {"answers": ["鲁迅", "周先生", " 周树人 ", ""]}, {"answers": ["周先生"]}, {"answers": []}, {"answers": ["鲁迅"], "documents": documents[:1]}, {},
    ]  # fmt: skip
    lines = [json.dumps({"question_id": n, "question": "谁？", "documents": documents} | row) for n, row in enumerate(rows)]
    subset = read(tmp_path, "\n".join([*lines, ""]).encode(), DuReader())
    assert subset.examples == (Example(("谁？", "作者\n是鲁迅。周树人。"), answers=(("鲁迅", 4), ("周树人", 7)), id="0"),)
    assert subset.dropped == {"answer_not_in_context": 1, "no_answer": 1, "no_selected_document": 1, "unlabelled": 1}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"{", "JSON in UTF-8"),
        (b"[]", "a whole number in question_id"),
        (b'{"question_id": 1, "question": "?", "documents": [], "answers": "a"}', "a list in answers"),
        (b'{"question_id": 1, "question": "?", "documents": [], "answers": [1]}', "texts in answers"),
        (b'{"question_id": 1, "question": "?", "documents": [{"is_selected": true}], "answers": ["a"]}', "a list in paragraphs"),
    ],
)
def test_a_wrong_line_of_dureader_is_named(line: bytes, expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, b"\n" + line, DuReader())
    assert (error.value.code, error.value.where, error.value.expected) == ("E-BENCH-ROW", f"{tmp_path / 'dev.json'}:2", expected)


@pytest.mark.parametrize(
    ("file", "layout", "questions", "answers", "dropped"),
    [
        ("cmrc2018/train-pseudo-cmrc2018.zip", Squad(train=True), 10142, 10142, {"moved": 21}),
        ("cmrc2018/cmrc2018_dev.json.gz", Squad(), 3219, 9657, {"moved": 7, "answer_not_in_context": 193}),
        ("cmrc2018/cmrc2018_dev.json.gz", Squad(train=True), 3219, 9464, {"moved": 7, "answer_not_in_context": 193}),
        ("cmrc2018/cmrc2018_trial.json.gz", Squad(), 1002, 1002, {"moved": 5}),
        ("squad_expmrc/expmrc-squad-dev.no_xquad.json.gz", Squad(), 440, 1474, {}),
        ("dureader_demo/search.train.json.gz", DuReader(), 10, 10, {"answer_not_in_context": 86, "no_answer": 4}),
        ("dureader_demo/search.dev.json.gz", DuReader(), 8, 8, {"answer_not_in_context": 91, "no_answer": 1}),
    ],
)
def test_published_files_are_read_whole(file: str, layout: Layout, questions: int, answers: int, dropped: dict[str, int], test_data: Path) -> None:
    subset = layout.read(test_data / file, CMRC2018)
    assert (len(subset.examples), sum(len(e.answers) for e in subset.examples), subset.dropped) == (questions, answers, dropped)
    assert all(e.texts[1].startswith(text, start) for e in subset.examples for text, start in e.answers if start >= 0)


# What OpenCC's t2s and the tool that ERNIE used (nstools' zhtools) make of one traditional character differs in three ways: ERNIE's left
# it as it was (佔 崙 蹟 闢), OpenCC did (著 for most of them: it changes few words with it; 覆 阪), or they chose two forms (餘 as 余 and 馀, 畫 as
# 划 and 画). ERNIE's also translated one word (印表 became 打印). Numbers: contexts, questions and questions' answers that differ; characters.
DRCD_DIFFERENCES = {
    "dev": ([539, 133, 33], {"left by ERNIE": 450, "left by us, 著": 431, "left by us": 41, "two forms": 215}),
    "test": ([526, 126, 28], {"left by ERNIE": 483, "left by us, 著": 418, "left by us": 24, "two forms": 220}),
}


def _kind(raw: str, ours: str, theirs: str) -> str:
    if raw == ours:
        return "equal" if ours == theirs else "left by us, 著" if raw == "著" else "left by us"
    return "equal" if ours == theirs else "left by ERNIE" if raw == theirs else "two forms"


@pytest.mark.parametrize("subset", ["dev", "test"])
def test_drcd_in_simplified_characters_is_ernies_but_for_known_characters(subset: str, test_data: Path) -> None:
    sources = ((f"DRCD_{subset}.json.gz", Squad()), (f"DRCD_{subset}.json.gz", Squad(to_simplified=True)), (f"ernie_{subset}.json.gz", Squad()))
    raw, ours, theirs = ({e.id: e for e in layout.read(test_data / "drcd" / name, DRCD).examples} for name, layout in sources)
    assert list(ours) == list(raw)
    assert set(ours) == set(theirs)
    assert [[start for _, start in e.answers] for e in ours.values()] == [[start for _, start in theirs[i].answers] for i in ours]
    pairs = {(raw[i].texts[k], e.texts[k], theirs[i].texts[k]) for i, e in ours.items() for k in (0, 1)}
    kinds = Counter(_kind(*each) for texts in pairs for each in zip(*texts, strict=True))
    contexts = {(e.texts[1], theirs[i].texts[1]) for i, e in ours.items()}
    differing = [sum(a != b for a, b in contexts), sum(e.texts[0] != theirs[i].texts[0] for i, e in ours.items())]
    differing.append(sum(e.answers != theirs[i].answers for i, e in ours.items()))
    print(subset, "contexts, questions, answers that differ:", differing, "characters:", kinds)
    del kinds["equal"]
    assert (differing, dict(kinds)) == DRCD_DIFFERENCES[subset]


def test_every_declared_source_that_is_there_is_read(test_data: Path) -> None:
    read_files = []
    for benchmark, folder in ((CMRC2018, "cmrc2018"), (DRCD, "drcd"), (DUREADER, "dureader_demo")):
        for subset, sources in benchmark.sources.items():
            for source in sources:
                for path in (test_data / folder / source.file, test_data / folder / f"{source.file}.gz"):
                    if path.exists():
                        rows = len(source.layout.read(path, benchmark).examples)
                        assert rows == benchmark.rows.get(subset, rows)
                        read_files.append(path.name)
    assert len(read_files) == 8
