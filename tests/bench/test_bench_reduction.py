"""Memory of the reduction over made-up splits: `make bench`. ERNIE_BENCH_SPLITS of 1,000 documents each, 2,000 splits by default."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from corpus_prep.offers import DOCUMENT
from corpus_prep.reduction import reduce_tables
from ernie_core.seeding import generator

SPLITS = int(os.environ.get("ERNIE_BENCH_SPLITS", "2000"))
DOCUMENTS = 1000
BYTES_A_DOCUMENT = 40  # id, characters and flag; what is dropped, twice; numpy's copies of a split
FIXED_BYTES = 1.6e9


def load(number: int, place: str) -> Any:
    """A split in which one document of 50 stands in another split too, half of the tokens and nearly all lines are met nowhere else."""
    rng = generator("split", number, place)
    if place == "ids":
        table = np.zeros(DOCUMENTS, DOCUMENT)
        table["id"] = rng.integers(0, 1 << 63, DOCUMENTS, np.uint64)
        table["id"][: DOCUMENTS // 50] = rng.choice(100_000, DOCUMENTS // 50, replace=False)
        table["chars"] = 900
        return table
    if place == "counts":
        tokens = {f"token{i}": 5 for i in range(500)} | {f"{number}x{i}": 1 for i in range(500)}
        return {"tokens": tokens, "lines": {"众所周知。": 9} | {f"第{number}册第{i}句话里说的是什么事情。": 2 for i in range(200)}, "paragraphs": {}}
    ranks = rng.integers(0, 1 << 63, (2, 200), np.uint64).tolist()
    text = json.dumps([["我们\x7f今天\x7f" * 8, [], None]], ensure_ascii=False)
    return {s: [[rank, i, 5 + i % 20, "w", text] for i, rank in enumerate(found)] for s, found in zip(("train", "valid"), ranks, strict=True)}


@pytest.mark.bench
@pytest.mark.timeout(3600)
def test_memory_is_so_many_bytes_a_document_and_a_bounded_rest() -> None:
    peaks = {}
    for splits in (SPLITS // 4, SPLITS):
        found = json.loads(subprocess.run([sys.executable, __file__, str(splits)], check=True, capture_output=True, text=True).stdout)
        peaks[splits] = found["peak_bytes"] - found["before_bytes"]
        print(
            f"\n{splits:,} splits, {splits * DOCUMENTS:,} documents: {found['seconds']:.0f} s, {peaks[splits] / 1e6:.0f} MB more than before", end=""
        )
        print(f"; {found['duplicates']:,} duplicates, lost {found['lost']}")
        assert peaks[splits] <= FIXED_BYTES + BYTES_A_DOCUMENT * splits * DOCUMENTS


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    before, begun = _peak(), time.perf_counter()
    tables = reduce_tables(load, dict.fromkeys(range(int(sys.argv[1])), "c"), None, 20_000)
    answer = {"before_bytes": before, "peak_bytes": _peak(), "seconds": time.perf_counter() - begun}
    print(json.dumps({**answer, "duplicates": sum(map(len, tables.duplicates.values())), "lost": tables.lost}))
