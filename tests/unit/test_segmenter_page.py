"""The adapter of another segmenter that the documentation shows is code that runs: executed as it stands there, over a stand-in for LTP."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_prep import segment

PAGE = Path(__file__).parents[2] / "pipelines" / "docs" / "segmentation.md"


class FakeLTP:
    """Cuts every two characters, as LTP answers: lists of words and of tags, white space dropped."""

    def __init__(self, path: str) -> None:
        assert path == "LTP/small"

    def pipeline(self, texts: list[str], tasks: list[str]) -> Any:
        assert tasks == ["cws", "pos"]
        cws = [[word for part in text.split() for word in re.findall("..?", part)] for text in texts]
        return SimpleNamespace(cws=cws, pos=[["nh" if w == "张三" else "n" for w in words] for words in cws])


def test_the_documented_adapter_is_a_segmenter() -> None:
    code = re.search(r"```python\n(class LtpSegmenter.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    scope: dict[str, Any] = {"ltp": SimpleNamespace(LTP=FakeLTP), "Sequence": Sequence, "with_spaces": segment.with_spaces}
    exec(compile(code[1], str(PAGE), "exec"), scope)
    found: segment.Segmenter = scope["LtpSegmenter"]()
    texts = ["张三来到 北京", "好"]
    words = found.words(texts)
    assert words == [["张三", "来到", " ", "北京"], ["好"]]
    assert ["".join(w) for w in words] == texts
    assert (found.tag("张三"), found.tag("北京"), found.tag("无")) == ("nr", "n", "")
    assert "ltp" in found.name


@given(st.lists(st.text("甲乙ab", min_size=1, max_size=3), max_size=6), st.data())
def test_white_space_is_put_back_and_words_join_to_the_text(words: list[str], data: st.DataObject) -> None:
    gaps = [data.draw(st.text(" \u3000", max_size=2)) for _ in range(len(words) + 1)]
    text = "".join(gap + word for gap, word in zip(gaps, [*words, ""], strict=True))
    found = segment.with_spaces(text, words)
    assert "".join(found) == text
    assert [w for w in found if w.strip()] == words


@pytest.mark.parametrize(("text", "words"), [("甲乙", ["甲"]), ("甲乙", ["乙"]), ("甲", ["甲", "乙"]), ("甲", [""])])
def test_words_of_another_text_are_refused(text: str, words: list[str]) -> None:
    with pytest.raises(ValueError, match="word"):
        segment.with_spaces(text, words)
