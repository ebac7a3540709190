"""Input of any size made of real text, and processes that do pass 1 over a share of its splits.

As a script: loads all, writes a line, waits for one, does its splits and answers {"seconds", "cpu", "peak_kb", "documents", "chars", "words"}.
"""

from __future__ import annotations

import gzip
import json
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from prepare_helper import SETTINGS

from corpus_prep.commit import read_entry
from corpus_prep.dedup import contamination_table
from corpus_prep.languages import segmenter_of
from corpus_prep.pass_one import Plan, pass_one
from corpus_prep.splits import Split, plan_splits
from corpus_prep.stages import Stages
from corpus_prep.tables import unpack
from ernie_core.manifest import atomic_write
from ernie_core.normalise import basic_classes, normalise
from ernie_core.schemas import Document


def write_input(data: Path, target: Path, megabytes: float) -> Path:
    """Write news pages as JSON lines, again and again until there are so many megabytes, each with a number of its own."""
    with gzip.open(data / "raw_zh_inews" / "train.jsonl.gz", "rt", encoding="utf-8") as f:
        texts = [json.loads(line)["content"] for line in f]
    left = megabytes * 1e6
    number = 0
    with target.open("wb") as out:
        while left > 0:
            row = json.dumps({"text": f"{texts[number % len(texts)]} 编号{number}。"}, ensure_ascii=False).encode() + b"\n"
            out.write(row)
            left -= len(row)
            number += 1
    return target


def planned(source: Path, folder: Path, split_bytes: int) -> tuple[list[Split], Plan]:
    """Return the splits of an input, and a plan without benchmarks for a fresh folder."""
    table = contamination_table({}, normalise)
    entry = atomic_write(folder / "tables" / "contamination.npy", table.to_bytes())
    plan = Plan(str(folder), 7, SETTINGS, table.names, {"contamination.npy": entry.sha256}, phrase_share=1.0)
    return plan_splits({"news": {"reader": "jsonl", "path": str(source)}}, split_bytes), plan


def warm_up() -> None:
    segmenter_of(SETTINGS).words(["热身"])
    basic_classes()
    contamination_table({"b": ["热身"]}, normalise)


def held(folder: Path, splits: list[Split]) -> dict[str, int]:
    """Return how many documents, characters and words pass 1 committed."""
    found: Counter[str] = Counter()
    for split in splits:
        entry = read_entry(folder, f"1-{split.number:05d}")
        for row in unpack((folder / entry.file("documents").path).read_bytes()):
            sentences = [s for p in Document.from_json(row).paragraphs for s in p]
            found.update(documents=1, chars=sum(len(s.original) for s in sentences), words=sum(len(s.words) for s in sentences))
    return dict(found)


def in_processes(count: int, source: Path, folder: Path, split_bytes: int, last: int | None = None) -> tuple[float, list[dict[str, Any]]]:
    """Return the seconds in which so many processes, all loaded before, do the splits in turn, and what each answers."""
    order = [str(source), str(folder), str(split_bytes), str(count), str(-1 if last is None else last)]
    started = [
        subprocess.Popen([sys.executable, __file__, *order, str(i)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for i in range(count)
    ]
    for process in started:
        assert process.stdout
        process.stdout.readline()
    begun = time.perf_counter()
    for process in started:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [json.loads(process.communicate()[0]) for process in started]
    return time.perf_counter() - begun, answers


def _main() -> None:
    source, folder, split_bytes, count, last, first = sys.argv[1:]
    splits, plan = planned(Path(source), Path(folder), int(split_bytes))
    mine = splits[int(first) : None if int(last) < 0 else int(last) : int(count)]
    warm_up()
    print("ready", flush=True)
    sys.stdin.readline()
    stages = Stages()
    begun, cpu = time.perf_counter(), time.process_time()
    for split in mine:
        pass_one(split, plan, stages)
    answer = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu, "stages": stages.seconds}
    print(json.dumps({**answer, "bytes": sum(s.size_bytes for s in mine), "peak_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


if __name__ == "__main__":
    _main()
