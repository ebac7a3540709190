"""The arrays of basic tokens: equal to what `basic_tokens` gives, document by document."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from corpus_prep.token_stream import token_hash, token_stream
from ernie_core.normalise import RUN, SINGLE, SPACE, basic_classes, basic_tokens, is_run_char, normalise

TEXT = st.lists(st.sampled_from(["好", "gpt4", " ", "。", "é", "😀", "𠮷", "-", "abc1é", "ア", "7"]) | st.text(max_size=4), max_size=12).map("".join)


@given(st.lists(st.lists(TEXT.map(lambda t: normalise(t)[0]), max_size=4), max_size=5))
def test_a_stream_holds_the_basic_tokens_of_every_paragraph(documents: list[list[str]]) -> None:
    stream = token_stream(documents)
    paragraphs = [basic_tokens(p) for d in documents for p in d]
    starts = stream.paragraph_starts.tolist()
    found = [stream.hashes[a:b].tolist() for a, b in itertools.pairwise(starts)]
    assert found == [[token_hash(t) for t in p] for p in paragraphs]
    for i, document in enumerate(documents):
        tokens = [t for p in document for t in basic_tokens(p)]
        assert stream.of(i).tolist() == [token_hash(t) for t in tokens]
        assert stream.counts([i]) == Counter(tokens)
    assert stream.counts(range(len(documents))) == Counter(t for p in paragraphs for t in p)


def test_every_code_point_has_the_class_that_basic_tokenisation_gives_it() -> None:
    classes = basic_classes()
    for point in [*range(0xD800), *range(0xE000, 0x32400)]:
        c = chr(point)
        expected = SPACE if c in " \n" else RUN if is_run_char(c) else SINGLE
        assert classes[point] == expected, hex(point)
