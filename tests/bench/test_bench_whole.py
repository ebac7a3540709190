"""The whole job, raw text to shards in both encodings, against a plain script: `make bench`.

ERNIE_BENCH_MB is the size of the input (4 by default; there are 18 MB of different news).
"""

from __future__ import annotations

import gzip
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import jieba
import pytest
from pass1_helper import warm_up
from plain_pass1 import dictionary_tags
from plain_whole import TASKS, plain_whole
from prepare_helper import SETTINGS

from corpus_prep import results
from corpus_prep.flow import prepare
from corpus_prep.stages import shares_line

MEGABYTES = float(os.environ.get("ERNIE_BENCH_MB", "4"))
ROUNDS = 3
RECIPE = {**SETTINGS, "split_bytes": 16_000_000, "group_rows": 4096, "vocab_size": 6000, "phrases": 0.45, "tasks": {task: {} for task in TASKS}}
pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]


def write_pages(data: Path, target: Path, megabytes: float) -> Path:
    """Write so many megabytes of news pages as JSON lines, each once, with its title; runs of spaces are line breaks, as they were."""
    left = megabytes * 1e6
    with gzip.open(data / "raw_zh_inews" / "train.jsonl.gz", "rt", encoding="utf-8") as pages, target.open("wb") as out:
        for page in map(json.loads, pages):
            row = json.dumps({"title": page["title"], "text": page["content"].replace("  ", "\n")}, ensure_ascii=False).encode() + b"\n"
            left -= out.write(row)
            if left <= 0:
                break
    return target


def time_the_audit(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list that receives the CPU time of each preparation's audit and card, which no plain script makes."""
    finish, taken = results.finish, []

    def timed(*arguments: Any) -> Any:
        begun = time.process_time()
        manifest = finish(*arguments)
        taken.append(time.process_time() - begun)
        return manifest

    monkeypatch.setattr(results, "finish", timed)
    return taken


def test_the_whole_job_is_four_times_as_fast_as_a_plain_script(test_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    audits = time_the_audit(monkeypatch)
    source = write_pages(test_data, tmp_path / "news.jsonl", MEGABYTES)
    jieba.initialize()
    tags = dictionary_tags()
    warm_up()
    corpora = {"news": {"reader": "jsonl", "path": str(source), "options": {"title": "title"}}}
    theirs, ours, said = [], [], []
    for number in range(ROUNDS):
        folder, said = tmp_path / f"ours-{number}", []
        begun = time.process_time()
        manifest = prepare(corpora=corpora, settings=RECIPE, benchmarks_texts=[], folder=folder, workers=0, seed=7, say=said.append)
        ours.append(time.process_time() - begun - audits[-1])
        begun = time.process_time()
        rows, seconds = plain_whole(
            source, tmp_path / f"plain-{number}", folder / "tables" / "vocab.txt", tags, RECIPE["valid_share"], RECIPE["phrases"]
        )
        theirs.append(time.process_time() - begun)
    their, our = statistics.median(theirs), statistics.median(ours)
    made = {task: [sum(manifest.facts["tasks"][task][s][what] for s in ("train", "valid")) for what in ("rows", "tokens")] for task in TASKS}
    tokens, their_tokens = sum(n for _, n in made.values()), sum(n for _, n in rows.values())
    print(
        f"\nraw text to shards, {source.stat().st_size / 1e6:.1f} MB, rows of 128, gzip 6 and zstd, median CPU time of {ROUNDS}, both loaded before"
    )
    for task in TASKS:
        print(f"  {task}: plain {rows[task][0]} rows, {rows[task][1]} tokens; preparation {made[task][0]} rows, {made[task][1]} tokens")
    print(f"  plain script {their:.2f} s, {their_tokens} tokens: {shares_line(seconds)}")
    print(f"  preparation {our:.2f} s, {tokens} tokens, with its vocabulary; audit and card beside it {statistics.median(audits):.2f} s")
    print("\n".join(f"  {line}" for line in said if "of work on" in line))
    per_token = (their / their_tokens) / (our / tokens)
    print(f"  {their / our:.2f} times as fast, {per_token:.2f} times for a token")
    assert min(their / our, per_token) >= 4
