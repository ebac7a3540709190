"""MB/s of every stage between reading and segmentation, on 10 MB of real text of each language: `pytest tests/bench -m bench -s`.

Every figure is the best of three, in the processor's time of this process, per megabyte of UTF-8 text.
"""

from __future__ import annotations

import gzip
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corpus_prep.clean import content_id
from corpus_prep.dedup import contamination_table
from corpus_prep.filters import FILTERS, Measured
from corpus_prep.near import signatures
from corpus_prep.token_stream import token_stream
from ernie_core.normalise import Normaliser, basic_tokens, normalise, num_dropped

pytestmark = pytest.mark.bench
MEGABYTES = 10


def texts_of(folder: Path, language: str) -> list[list[str]]:
    """Return raw paragraphs of documents, 10 MB of them."""
    found: list[list[str]] = []
    if language == "zh":
        with gzip.open(folder / "raw_zh_inews" / "train.jsonl.gz", "rt", encoding="utf-8") as f:
            documents = (json.loads(line)["content"].split("\n") for line in f)
            found = _first(documents)
    else:
        novels = (gzip.decompress(p.read_bytes()).decode("utf-8-sig").split("\n") for p in sorted((folder / "raw_en_100_novels").glob("*.txt.gz")))
        found = _first(lines[i : i + 100] for lines in novels for i in range(0, len(lines), 100))
    return found


def _first(documents: Any) -> list[list[str]]:
    found: list[list[str]] = []
    size = 0
    for document in documents:
        size += sum(len(p.encode()) for p in document)
        found.append(document)
        if size > MEGABYTES * 1e6:
            break
    return found


def best(work: Callable[[], Any]) -> tuple[float, Any]:
    seconds = []
    result = None
    for _ in range(3):
        started = time.process_time()
        result = work()
        seconds.append(time.process_time() - started)
    return min(seconds), result


@pytest.mark.parametrize("language", ["zh", "en"])
def test_cleaning_costs_little_beside_segmentation(test_data: Path, language: str) -> None:
    raw = texts_of(test_data, language)
    size = sum(len(p.encode()) for d in raw for p in d) / 1e6
    speeds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        seconds, result = best(work)
        speeds[name] = size / seconds
        return result

    to_simplified = Normaliser(to_simplified=True)
    documents = timed("normalise", lambda: [[pair[0] for p in d if (pair := normalise(p))[0]] for d in raw])
    timed("normalise, to_simplified", lambda: [[to_simplified(p) for p in d] for d in raw])
    timed("invisible characters", lambda: [num_dropped(p) for d in raw for p in d])
    timed("content id", lambda: [content_id(d) for d in documents])
    stream = timed("tokens", lambda: token_stream(documents))
    counts = timed("counts", lambda: stream.counts(range(len(documents))))
    seconds, plain = best(lambda: Counter(t for d in documents for p in d for t in basic_tokens(p)))
    assert counts == plain
    speeds["plain basic_tokens and Counter"] = size / seconds
    benchmark = [text for name in ("dev", "test") for text in _benchmark(test_data / "chnsenticorp" / f"{name}.tsv.gz")]
    table = contamination_table({"chnsenticorp": benchmark}, normalise)
    timed("contamination", lambda: table.owners_of(stream))
    for name, rule in FILTERS.items():
        timed(name, lambda rule=rule: [rule.measure(Measured(d, stream.of(i), language)) for i, d in enumerate(documents)])
    timed("near-duplicate signatures", lambda: signatures(stream, range(len(documents))))
    print(f"\n{language}, {size:.1f} MB, {len(raw)} documents, {len(table.hashes)} benchmark runs")
    for name, speed in speeds.items():
        print(f"  {name:32s} {speed:8.1f} MB/s")
    always = ("normalise", "invisible characters", "content id", "tokens", "counts", "contamination")
    print(f"  {'all that is always done':32s} {1 / sum(1 / speeds[name] for name in always):8.1f} MB/s")
    assert speeds["normalise"] >= 15
    assert 1 / (1 / speeds["tokens"] + 1 / speeds["counts"]) >= (15 if language == "zh" else 8)


def _benchmark(path: Path) -> list[str]:
    texts = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    column = texts[0].split("\t").index("text_a")
    return [row.split("\t")[column] for row in texts[1:] if row.count("\t") >= column]
