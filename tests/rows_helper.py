"""Rows made from a strategy or a seed, for the tests of rows, text and shards."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from ernie_core.data.rows import Rows
from ernie_core.schemas import Sample

INT8 = st.integers(-128, 127)


@st.composite
def samples(draw: st.DrawFn, names: tuple[str, ...] = ()) -> Sample:
    n = draw(st.integers(1, 6))

    def column(values: st.SearchStrategy[int]) -> list[int]:
        return draw(st.lists(values, min_size=n, max_size=n))

    return Sample(
        token_ids=column(st.integers(-(2**31) + 10, 2**31 - 1).filter(lambda i: len(str(i)) <= 10)),
        sentence_type_ids=column(INT8),
        position_ids=column(st.integers(-(2**15), 2**15 - 1)),
        seg_labels=column(INT8),
        unit_labels=column(INT8),
        unit_kind=column(INT8),
        label=draw(st.integers(-1, 40_000)),
        token_labels={name: column(INT8) for name in names},
    )


def toy_rows(num_rows: int, *, seed: int = 0, names: tuple[str, ...] = (), max_length: int = 30) -> Rows:
    """Return plausible rows: ids 5..999, words, positions 0..n-1, labels 0/1."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(num_rows):
        n = int(rng.integers(3, max_length))
        seg = [-1, 0, *rng.integers(0, 2, n - 3).tolist(), -1]
        labels = {name: [-1, *rng.integers(-1, 2, n - 2).tolist(), -1] for name in names}
        ids = [1, *rng.integers(5, 1000, n - 2).tolist(), 2]
        made.append(Sample(ids, [0] * n, list(range(n)), seg, seg, [min(s, 0) for s in seg], int(rng.integers(0, 2)), labels))
    return Rows.from_samples(made, names)


def same(a: Rows, b: Rows, *, units: bool = True) -> bool:
    """Say whether all columns are equal, sample ids aside."""
    names = ["offsets", "token_ids", "sentence_type_ids", "position_ids", "seg_labels", "labels", *(["unit_labels", "unit_kind"] if units else [])]
    plain = all(np.array_equal(getattr(a, n), getattr(b, n)) and getattr(a, n).dtype == getattr(b, n).dtype for n in names)
    return (
        plain and list(a.token_labels) == list(b.token_labels) and all(np.array_equal(a.token_labels[n], b.token_labels[n]) for n in a.token_labels)
    )
