"""The published reader's way with a row: gunzip, split at semicolons and spaces, int() for each number (reference ernie.md 1.1)."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

Row = tuple[list[int], list[int], list[int], list[int], int]


def plain_rows(path: Path) -> Iterator[Row]:
    """Yield token ids, sentence types, positions, word boundaries and label of each line."""
    with gzip.open(path, "rb") as file:
        for line in file:
            tokens, types, positions, words, label = line.decode("utf-8").strip().split(";")
            yield (
                [int(x) for x in tokens.split(" ")], [int(x) for x in types.split(" ")], [int(x) for x in positions.split(" ")],
                [int(x) for x in words.split(" ")], int(label),
            )  # fmt: skip
