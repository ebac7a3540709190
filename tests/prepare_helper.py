"""A small made-up corpus, the preparation over it, and a process from which runs can be started quickly and killed.

As a script: loads everything once, then forks one child for each JSON line on stdin and answers with the child's exit status.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ernie_core.seeding import generator

WORDS = [
    "北京",
    "天气",
    "公司",
    "今天",
    "我们",
    "发展",
    "中国",
    "经济",
    "市场",
    "记者",
    "学生",
    "老师",
    "音乐",
    "电影",
    "上海",
    "问题",
    "城市",
    "工作",
    "时间",
    "世界",
    "新闻",
    "汽车",
    "手机",
    "医院",
    "朋友",
    "历史",
    "文化",
    "科学",
    "技术",
    "水果",
]
VERBS = ["喜欢", "看见", "研究", "得到", "说明", "认为", "需要", "提高", "参加", "介绍"]
SETTINGS: dict[str, Any] = {
    "split_bytes": 10_000, "group_rows": 64, "encodings": ["parquet", "text"], "valid_share": 0.2, "max_seq_len": 128, "long_rows": None, "vocab_size": 300, "vocab": None,
    "html_entities": False, "escapes": False, "whole_lines": False, "prompt_lines": False, "to_simplified": False, "language": "zh", "user_dictionary": None, "gazetteer": None, "filters": {}, "near_duplicates": None, "boilerplate_share": None, "phrases": 0.05, "exclude_benchmarks": True, "max_reject_fraction": 0.001,
    "tasks": {"knowledge_masking": {}, "next_sentence": {}}, "carry": [],
}  # fmt: skip


def sentence(rng: np.random.Generator) -> str:
    words = [*rng.choice(WORDS, rng.integers(2, 5)), rng.choice(VERBS), *rng.choice(WORDS, rng.integers(2, 5))]
    return "".join(words) + str(rng.choice(["。", "。", "！", "？"]))


def document(number: int, num_paragraphs: int = 8) -> str:
    """Paragraphs of four sentences, joined by line breaks."""
    rng = generator("document", number)
    return "\n".join("".join(sentence(rng) for _ in range(4)) for _ in range(num_paragraphs))


def write_corpus(folder: Path, num_documents: int = 40, extra: bytes = b"") -> None:
    """Write two.jsonl and one.txt: six splits of 10,000 bytes at 40 documents."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps({"title": "题", "text": document(i)}, ensure_ascii=False) for i in range(num_documents // 2)]
    (folder / "two.jsonl").write_bytes(("\n".join(rows) + "\n").encode() + extra)
    (folder / "one.txt").write_text("\n\n".join(document(i) for i in range(num_documents // 2, num_documents)) + "\n")
    tests = folder / "benchmarks" / "toy"
    tests.mkdir(parents=True, exist_ok=True)
    (tests / "test.jsonl").write_text(json.dumps({"id": "0", "texts": [document(3).split("\n")[1]], "labels": ["1"]}, ensure_ascii=False) + "\n")


def run_prepare(
    corpus: Path, out: Path, workers: int = 0, said: list[str] | None = None, weights: dict[str, float] | None = None, **changes: Any
) -> Any:
    from corpus_prep.flow import prepare

    corpora: dict[str, dict[str, Any]] = {
        "two": {"reader": "jsonl", "path": str(corpus / "two.jsonl"), "options": {"title": "title"}},
        "one": {"reader": "text", "path": str(corpus / "*.txt")},
    }
    for name, weight in (weights or {}).items():
        corpora[name]["weight"] = weight
    texts = sorted(corpus.glob("benchmarks/*/*.jsonl"))
    lines = [] if said is None else said
    return prepare(
        corpora=corpora, settings={**SETTINGS, **changes}, benchmarks_texts=texts, folder=out, workers=workers, seed=7, say=lines.append
    )  # fmt: skip


def bytes_of(out: Path) -> dict[str, bytes]:
    """Return every file that the manifest names, and the manifest itself."""
    names = [f["path"] for f in json.loads((out / "manifest.json").read_bytes())["files"]]
    return {name: (out / name).read_bytes() for name in ["manifest.json", *names]}


def peak_mib() -> float:
    """Return the largest resident memory of this process; getrusage would count its parent's from before the program was loaded."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


class Runner:
    """Starts runs in children of a process that has everything loaded."""

    def __init__(self) -> None:
        root = Path(__file__).parents[1]
        environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def _ask(self, **order: Any) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"failpoint": "", **order}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def run(self, corpus: Path, out: Path, *, failpoint: str = "", kill_after_s: float = 0.0) -> int:
        """Return the exit status of a run in process, minus the signal's number if it was killed."""
        return int(self._ask(do="run", corpus=str(corpus), out=str(out), failpoint=failpoint, kill_after_s=kill_after_s))

    def late(self, corpus: Path, out: Path, stop_after_s: float) -> list[int]:
        """Stop a run, let another one end in its folder, and let the first go on; return the exit statuses of both."""
        return list(self._ask(do="late", corpus=str(corpus), out=str(out), stop_after_s=stop_after_s))

    def race(self, corpus: Path, out: Path, delay_s: float) -> list[int]:
        """Start two drivers of one run folder `out`, the second a little later; return the exit statuses of both.

        The one that gets the lock works until the other has written why it was refused to `out`.refused.
        """
        return list(self._ask(do="race", corpus=str(corpus), out=str(out), delay_s=delay_s))

    def close(self) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.stdout.close()  # type: ignore[union-attr]
        self._process.wait(timeout=20)


def _forked(work: Callable[[], int]) -> int:
    """Return the id of a child that does the work and exits with what it returns."""
    child = os.fork()
    if not child:
        status = 1
        try:
            status = work()
        finally:
            os._exit(status)
    return child


def _status(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _one_run(order: dict[str, Any]) -> int:
    os.environ["ERNIE_FAILPOINT"] = order["failpoint"]
    run_prepare(Path(order["corpus"]), Path(order["out"]))
    return 0


def _drive(order: dict[str, Any], ready: int, delay_s: float) -> int:
    from ernie_core.errors import ErnieError
    from pipelines.steps import Step, StepContext, run_steps

    refused = Path(order["out"] + ".refused")

    def work(context: StepContext) -> Any:
        until = time.monotonic() + 60
        while not refused.exists() and time.monotonic() < until:
            time.sleep(0.01)
        return run_prepare(Path(order["corpus"]), context.folder)

    os.read(ready, 1)
    time.sleep(delay_s)
    try:
        run_steps([Step("prepare", {}, (), work)], Path(order["out"]), lambda _line: None)
    except ErnieError as e:
        refused.write_text(f"{e} (by pid {os.getpid()})", encoding="utf-8")
        return e.exit_code
    return 0


def _answer(order: dict[str, Any]) -> Any:
    if order["do"] == "race":
        ready, go = os.pipe()
        children = [_forked(functools.partial(_drive, order, ready, delay)) for delay in (0.0, order["delay_s"])]
        os.write(go, b"..")
        os.close(go)
        os.close(ready)
        return [_status(child) for child in children]
    first = _forked(functools.partial(_one_run, order))
    if order["do"] == "late":
        time.sleep(order["stop_after_s"])
        os.kill(first, signal.SIGSTOP)
        second = _status(_forked(functools.partial(_one_run, order)))
        os.kill(first, signal.SIGCONT)
        return [_status(first), second]
    if order["kill_after_s"]:
        time.sleep(order["kill_after_s"])
        os.kill(first, signal.SIGKILL)
    return _status(first)


def _serve() -> None:
    import corpus_prep.flow  # noqa: F401
    import pipelines.steps  # noqa: F401 - both are loaded before the fork
    from corpus_prep.segment import load_segmenter

    load_segmenter()
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    _serve()
