"""The page of mistakes: counted by class, worst first, and no text of a row can break the page."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from finetune_helper import toy_step

from ernie_core.benchmarks.base import Example
from ernie_core.benchmarks.classification import REVIEWS
from ernie_core.benchmarks.glue import STSB
from ernie_core.benchmarks.reading_comprehension import CMRC2018
from ernie_core.benchmarks.sequence_labelling import DAILY_NER
from pipelines.finetune import finetune
from pipelines.mistakes import chunk_words, mistakes_of, page

O = DAILY_NER.labels.index("O")  # noqa: E741 (the tag's name)


def test_the_surest_mistakes_of_a_classification_come_first() -> None:
    examples = [Example(("甲",), (1,), id="0"), Example(("乙",), (0,), id="1"), Example(("丙",), (0,), id="2"), Example(("丁",), id="3")]
    answers = [{"label": "0", "probabilities": [0.6, 0.4]}, {"label": "1", "probabilities": [0.1, 0.9]}, {"label": "0", "probabilities": [1, 0]}, {"label": "0", "probabilities": [1, 0]}]  # fmt: skip
    found = mistakes_of(REVIEWS, "t", "test", examples, answers)
    assert (found.rows, found.wrong_rows) == (3, 2)
    assert found.confusion == (("0", "1"), [[1, 1], [1, 0]])
    assert [(w.id, w.gold, w.predicted, w.measure) for w in found.wrong] == [
        ("1", "0", "1", "probability 0.900"),
        ("0", "1", "0", "probability 0.600"),
    ]


def test_other_kinds_have_measures_of_their_own() -> None:
    values = mistakes_of(
        STSB, "t", "dev", [Example(("a", "b"), value=1.0, id="0"), Example(("a", "b"), value=4.0, id="1")], [{"value": 1.5}, {"value": 1.0}]
    )
    assert [(w.id, w.measure) for w in values.wrong] == [("1", "3.00 off"), ("0", "0.50 off")]
    tagged = mistakes_of(DAILY_NER, "t", "dev", [Example(tuple("张三到"), (0, 1, O), id="0"), Example(("好",), (O,), id="1")], [{"tags": ["B-PER", "O", "O"]}, {"tags": ["O"]}])  # fmt: skip
    assert [(w.gold, w.predicted, w.measure) for w in tagged.wrong] == [("张三 PER", "张 PER", "1 wrong tags")]
    spans = [Example(("谁？", "鲁迅写的"), answers=(("鲁迅", 0), ("鲁迅写", 0)), id=str(i)) for i in range(2)]
    nbest = [{"text": "写", "probability": 0.7, "start_logit": 0.0, "end_logit": 0.0}]
    read = mistakes_of(CMRC2018, "t", "dev", spans, [{"id": "0", "text": "鲁迅写", "nbest": nbest}, {"id": "1", "text": "写", "nbest": nbest}])
    assert [(w.id, w.gold, w.predicted) for w in read.wrong] == [("1", "鲁迅 | 鲁迅写", "写")]


def test_chunks_in_words() -> None:
    assert chunk_words("张三到北京", ["B-PER", "I-PER", "O", "B-LOC", "I-LOC"]) == "张三 PER, 北京 LOC"
    assert chunk_words("张三", ["B-PER", "B-PER"]) == "张 PER, 三 PER"
    assert chunk_words("好", ["O"]) == "nothing"


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)


def test_texts_of_rows_are_only_texts() -> None:
    evil = "<script>alert(1)</script>\u202e\x00"
    found = mistakes_of(REVIEWS, "t", "test", [Example((evil,), (1,), id=evil)], [{"label": "0", "probabilities": [0.6, 0.4]}])
    parser = Tags()
    parser.feed(page([found], evil).decode())
    assert "script" not in parser.seen
    assert "\u202e" not in page([found], "run").decode()


def test_fine_tuning_leaves_the_page(tmp_path: Path) -> None:
    context, arguments, _ = toy_step(tmp_path, seeds=[1])
    manifest = finetune(context, **arguments)
    text = (tmp_path / "finetune" / "mistakes.html").read_text()
    assert [f.path for f in manifest.files] == ["mistakes.html", "results.json"]
    assert "<h2>reviews</h2>" in text
    assert "<h2>daily_ner</h2>" in text
    assert "of 80 labelled test rows are wrong in <code>reviews-pretrained-" in text
