"""Questions with their answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from corpus_prep.framing import BLOCKS, LINES, Framing
from corpus_prep.readers.base import Option, Options, RawDocument, Reader, Record, no_surrogates
from corpus_prep.rows import HEADER, QUOTES, Row, format_of, format_option, framing_of

_OTHERS = {"blocks": BLOCKS, "dureader": LINES}
QUESTION, ACCEPTED, ANSWER = "question", "accepted", "answer"


def _parse(record: Record, options: Options) -> Iterator[RawDocument]:
    """Yield a question and its answers; roles are "question", then "accepted" or "answer".

    Example (jsonl): ``{"question": "问", "answers": [{"text": "甲", "accepted": true}, {"text": "乙"}]}`` -> paragraphs ("问", "甲", "乙"),
    roles ("question", "accepted", "answer"). blocks: ``题,问\\n答`` -> title "题", paragraphs ("问", "答").
    """
    if options["format"] == "blocks":
        first, *answers = record.text.removeprefix("\ufeff").split("\n")
        title, comma, question = first.partition(",")
        title, question = (title, question) if comma else ("", first)
        yield _document(title.strip(), question.strip(), [(answer, True) for answer in answers])
    elif options["format"] == "dureader":
        yield _dureader(record)
    else:
        row = Row(record, options["format"], options)
        title = row.text(options["title"], "")
        question = row.text(options["question"]).strip()
        yield _document(title, question or title, list(_answers(row.field(options["answers"]), options)))


def _answers(value: Any, options: Options) -> Iterator[tuple[str, bool]]:
    """Yield (text, accepted) of a text, of a list of texts, or of a list of objects."""
    for item in value if isinstance(value, list) else [value]:
        text = item.get(options["answer_text"]) if isinstance(item, dict) else item
        accepted = item.get(options["accepted"], False) if isinstance(item, dict) else options["all_accepted"]
        if not isinstance(text, str) or not isinstance(accepted, bool | int):
            raise ValueError(f"an answer without {options['answer_text']!r}, or whose {options['accepted']!r} is not true or false")  # noqa: TRY004
        yield text, bool(accepted)


def _dureader(record: Record) -> RawDocument:
    """Return a question of DuReader 2.0 with the paragraphs of its documents; those of a selected document are accepted."""
    row = Row(record, "jsonl", {})
    answers: list[tuple[str, bool]] = []
    documents = row.field("documents")
    if not isinstance(documents, list) or not all(isinstance(d, dict) for d in documents):
        raise ValueError("no list of documents")
    for document in documents:
        paragraphs = document.get("paragraphs") or document.get("segmented_paragraphs") or []
        if not isinstance(paragraphs, list) or not all(isinstance(word, str) for p in paragraphs for word in (p if isinstance(p, list) else [p])):
            raise ValueError("a document without a list of texts")
        answers += [("".join(p), bool(document.get("is_selected"))) for p in paragraphs]
    return _document("", row.text("question"), answers)


def _document(title: str, question: str, answers: list[tuple[str, bool]]) -> RawDocument:
    no_surrogates(text for text, _ in answers)
    roles = (QUESTION, *(ACCEPTED if accepted else ANSWER for _, accepted in answers))
    return RawDocument("", 0, title, (question, *(" ".join(text.split("\n")) for text, _ in answers)), "qa", roles)


def _framing(options: Options) -> Framing:
    form = format_of(options)
    return _OTHERS[form] if form in _OTHERS else framing_of(form, options)


QA = Reader(
    "qa",
    "questions with one answer or several",
    {
        "format": format_option(*_OTHERS),
        "question": Option("question", "field of the question", column=True),
        "title": Option("", "field of the question's title, which also stands for an empty question", column=True),
        "answers": Option("answers", "field of the answers: a text, texts, or objects", column=True),
        "answer_text": Option("text", "key of an answer's text, where answers are objects"),
        "accepted": Option("accepted", "key of true or false, where answers are objects"),
        "all_accepted": Option(True, "whether answers that are plain texts count as accepted"),
        "header": HEADER,
        "quotes": QUOTES,
    },
    _framing,
    _parse,
    lambda options: "" if options["format"] in _OTHERS else str(options["format"]),
)
