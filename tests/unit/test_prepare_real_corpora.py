"""Every raw text, dialogue and question set of the test data, by the declarations of recipes/all_raw.yaml."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from corpus_prep.clean import clean
from corpus_prep.readers.base import RawDocument, Reject
from corpus_prep.splits import Split, documents, plan_splits, read_split
from ernie_core.normalise import Normaliser
from pipelines.recipe import load_recipe
from pipelines.workflow import corpora_of

RECIPE = Path(__file__).parents[2] / "pipelines" / "recipes" / "all_raw.yaml"
# corpus -> (kind, records in all its files; None where only some splits are read here)
CORPORA: dict[str, tuple[str, int | None]] = {
    "inews": ("text", None), "peoples_daily": ("text", None), "clue": ("text", 2500), "novels_zh": ("text", None), "luxun": ("text", 309), "lctt": ("text", None),
    "iflytek": ("text", 4000), "medical": ("qa", 7644), "medical_blocks": ("qa", None), "dureader": ("qa", 300), "subtitles": ("dialogue", None), "chat": ("dialogue", None),
    "lccc_pairs": ("dialogue", None), "lccc_turns": ("dialogue", 1400), "novels_en": ("text", None), "bbc": ("text", 2225), "speeches": ("text", None), "wikitext": ("text", 60),
}  # fmt: skip


def splits_of(name: str, split_bytes: int = 1_000_000) -> list[Split]:
    corpora = corpora_of(load_recipe(RECIPE), None)
    assert set(corpora) == set(CORPORA)
    return plan_splits({name: corpora[name]}, split_bytes)


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_gives_documents_of_its_kind_and_no_rejection(test_data: Path, name: str) -> None:
    kind, records = CORPORA[name]
    splits = splits_of(name)
    found: list[RawDocument | Reject] = []
    for split in splits if records is not None else splits[:: max(1, len(splits) - 1)]:
        found += documents(split, read_split(split)[0])
    assert [d for d in found if isinstance(d, Reject)] == []
    assert len(found) == records or records is None
    read = [d for d in found if isinstance(d, RawDocument)]
    assert {d.kind for d in read} == {kind}
    cleaned = [clean(d, Normaliser(to_simplified=False), html_entities=False) for d in read[:200]]
    assert sum(d is not None for d in cleaned) >= 0.98 * len(cleaned)


def test_words_of_the_peoples_daily_are_those_of_its_editors(test_data: Path) -> None:
    split = splits_of("peoples_daily")[0]
    first = next(iter(documents(split, read_split(split)[0])))
    assert isinstance(first, RawDocument)
    assert first.words[0][:6] == ("迈向", "充满", "希望", "的", "新", "世纪")
    assert first.paragraphs[0].startswith("迈向充满希望的新世纪——一九九八年")


def test_selected_documents_of_dureader_are_accepted(test_data: Path) -> None:
    roles = Counter(
        role for split in splits_of("dureader") for d in documents(split, read_split(split)[0]) if isinstance(d, RawDocument) for role in d.roles
    )
    assert roles == {"question": 300, "accepted": 2917, "answer": 8742}


def test_novels_are_works_and_their_chapters_paragraphs(test_data: Path) -> None:
    split = splits_of("novels_zh")[0]
    read = [d for d in documents(split, read_split(split)[0]) if isinstance(d, RawDocument)]
    assert {d.work for d in read} <= {"九尾龟", "红楼梦", "文明小史"}
    assert sum(len(d.paragraphs) for d in read) > 5 * len(read)


def test_markup_is_gone_from_articles_and_novels(test_data: Path) -> None:
    for name in ("lctt", "luxun", "novels_zh"):
        split = splits_of(name)[0]
        texts = [p for d in documents(split, read_split(split)[0]) if isinstance(d, RawDocument) for p in d.paragraphs]
        assert len(texts) > 1000
        assert [t for t in texts if "<br" in t or "](http" in t or t.startswith("```")] == []
