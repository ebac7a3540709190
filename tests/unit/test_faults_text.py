"""Text that is foreign, endless, empty, alone or all alike, and files that would run code or fill memory (reliability F44-F58, S7, S12, S19)."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prepare_helper import document, run_prepare, write_corpus
from reader_helper import good, read_bytes, read_corpus, reasons
from tasks_helper import ListPool, context, counted, encode_small, spans_of
from tasks_helper import document as task_document

from corpus_prep.flow import UNPICKLING, check_environment
from corpus_prep.framing import MAX_QUOTED_BYTES
from corpus_prep.readers.base import MAX_JSON_DEPTH
from corpus_prep.readers.html import MAX_DEPTH
from corpus_prep.readers.markdown import MAX_BRACKETS
from corpus_prep.results import check_tasks
from ernie_core.errors import InputError, RecipeError
from ernie_core.schemas import Document
from ernie_core.tasks.base import Task, all_tasks
from ernie_core.vocab import MAX_TOKENS, SPECIAL_TOKENS, Vocab
from jobs.cli import main
from pipelines import recipe
from pipelines.recipe import parse_yaml

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "big5"])
def test_a_file_in_another_encoding_stops_the_run_and_the_encoding_is_suggested(tmp_path: Path, encoding: str) -> None:
    write_corpus(tmp_path / "in", 4)
    text = "\n\n".join(f"今天天{'氣' if encoding == 'big5' else '气'}很好我去公園" * 9 for _ in range(12))
    (tmp_path / "in" / "one.txt").write_bytes(text.encode(encoding))
    with pytest.raises(InputError) as e:
        run_prepare(tmp_path / "in", tmp_path / "out")
    assert (e.value.code, e.value.exit_code) == ("E-REJECTS", 3)
    assert ("gb18030" if encoding == "big5" else encoding) in e.value.fix or encoding in e.value.fix


@pytest.mark.parametrize(
    "files", [{}, {"a.txt": b""}, {".a.txt": "文。".encode()}, {"a.md": b"x"}], ids=["empty folder", "empty file", "hidden", "no match"]
)
def test_a_corpus_without_text_exits_3_before_anything_starts(
    tmp_path: Path, files: dict[str, bytes], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    for name, data in files.items():
        (tmp_path / "in" / name).write_bytes(data)
    (tmp_path / "r.yaml").write_text(f"name: r\nroot: {tmp_path}/runs\ncorpora:\n  a: {{reader: text, path: '{tmp_path}/in/*.txt'}}\n")
    monkeypatch.setattr("pipelines.resources.ray_cluster", None)  # to start it would be an error of another kind
    assert main(["prepare", str(tmp_path / "r.yaml")]) == 3
    error = capsys.readouterr().err
    assert f"at {tmp_path}/in/*.txt" in error
    assert f"found {'1 files of 0 bytes' if 'a.txt' in files else '0 files'}" in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("unknown", "ends"), [(50, "says nothing"), (51, "warns"), (300, "warns"), (301, "stops")])
def test_unknown_tokens_warn_beyond_5_percent_and_stop_beyond_30(unknown: int, ends: str) -> None:
    subset = {"rows": 1, "tokens": 1000, "unknown": unknown, "classes": {}}
    said: list[str] = []
    if ends == "stops":
        with pytest.raises(InputError, match="E-VOCAB-UNKNOWN"):
            check_tasks({"t": {**subset, "train": subset, "valid": subset, "drops": {}}}, said.append)
    else:
        check_tasks({"t": {**subset, "train": subset, "valid": subset, "drops": {}}}, said.append)
        assert bool(said) is (ends == "warns")


def sentence_tasks() -> list[Task]:
    return [task for task in all_tasks().values() if task.level == "sentence"]


class WatchedPool(ListPool):
    """Counts what is drawn."""

    drawn = 0

    def draw(self, *arguments: Any, **more: Any) -> Any:
        self.drawn += 1
        return super().draw(*arguments, **more)


def alike(number: int, kind: str) -> Document:
    """The same text each time, under another identity."""
    texts = ("天下着大雨，路上没有人走。", "地里的麦子都已经黄了。", "孩子们在屋里读书写字。", "老人坐在门口等着消息。")
    plain = task_document("toy", "", texts)
    roles = {"qa": ("question", "accepted", "answer", "answer"), "query": ("query", "title", "title", "title"), "dialogue": ("", "", "", "")}
    if kind == "pair":
        return Document(f"{number:016x}", "toy", "work", "", plain.paragraphs[:2], kind, ("sentence1", "sentence2"), "1")
    return Document(f"{number:016x}", "toy", "work", "", plain.paragraphs, kind, roles.get(kind, ()))


@pytest.mark.parametrize("kind", ["text", "dialogue", "qa", "query", "pair"])
@pytest.mark.parametrize("task", sentence_tasks(), ids=lambda t: t.name)
def test_of_documents_that_are_all_alike_no_negative_is_drawn(task: Task, kind: str) -> None:
    """What would stand in for the true text is the true text: such pairs are left out whatever their label."""
    documents = [alike(n, kind) for n in range(20)]
    pool = WatchedPool(spans_of(documents))
    for options in ({}, {"classes": 3}) if task.name == "next_sentence" else ({},):
        drops: Counter[str] = Counter()
        complete = task.complete(options)
        rows = list(task.build(documents, context(pool, options=complete, candidates=counted(task, documents, complete)), drops))
        assert not (pool.drawn and rows), drops
        assert rows or drops or pool.drawn == 0


@pytest.mark.parametrize("task", sentence_tasks(), ids=lambda t: t.name)
def test_one_document_has_no_negatives_and_ends(task: Task) -> None:
    documents = [alike(1, "text")]
    pool = WatchedPool(spans_of(documents))
    complete = task.complete({})
    rows = list(task.build(documents, context(pool, options=complete, candidates=counted(task, documents, complete)), Counter()))
    assert not (pool.drawn and rows)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("task", ["next_sentence", "sentence_distance"])
@pytest.mark.parametrize("sentences", ["many", "one"])
def test_a_corpus_of_one_document_or_of_single_sentences_names_the_task(tmp_path: Path, task: str, sentences: str) -> None:
    (tmp_path / "in").mkdir()
    texts = [document(1)] if sentences == "many" else [f"第{n}篇只有这么一句话。" for n in range(30)]
    (tmp_path / "in" / "one.txt").write_text("\n\n".join(texts[:-1] or texts), encoding="utf-8")
    (tmp_path / "in" / "two.jsonl").write_text(json.dumps({"title": "", "text": texts[-1]}) + "\n", encoding="utf-8")
    with pytest.raises(InputError) as e:
        run_prepare(tmp_path / "in", tmp_path / "out", tasks={task: {}})
    assert (e.value.code, e.value.exit_code) == ("E-TASK-EMPTY", 3)
    assert task in e.value.what
    assert "at least two" in e.value.fix


@pytest.mark.parametrize("task", all_tasks().values(), ids=lambda t: t.name)
def test_documents_of_one_character_give_no_empty_row(task: Task) -> None:
    documents = [task_document("toy", f"{n}", (c,)) for n, c in enumerate("好坏。a1")]
    drops: Counter[str] = Counter()
    rows = list(task.build(documents, context(WatchedPool(spans_of(documents)), encode=encode_small, options=task.complete({})), drops))
    assert all(len(row.token_ids) > row.token_ids.count(1) + row.token_ids.count(2) for row in rows)
    assert rows or drops


def answer(program: str, *arguments: object) -> str:
    """Return what a program prints in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))}
    done = subprocess.run([sys.executable, "-c", program, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


LONG_LINE = """
import sys, time
from pathlib import Path
from prepare_helper import SETTINGS, peak_mib
from corpus_prep.dedup import contamination_table
from corpus_prep.pass_one import Plan, pass_one
from corpus_prep.segment import load_segmenter
from corpus_prep.stages import Stages
from corpus_prep.splits import plan_splits
from ernie_core.normalise import normalise
folder, megabytes = Path(sys.argv[1]), int(sys.argv[2])
line = "今天天气很好我们去公园玩，看见许多花和不认识的人老张说犇羴鱻麤" * 10
(folder / "in.txt").write_text(line * (megabytes * 1_000_000 // len(line.encode())), encoding="utf-8")
(folder / "tables").mkdir()
(folder / "tables" / "contamination.npy").write_bytes(contamination_table({}, normalise).to_bytes())
(split,) = plan_splits({"c": {"reader": "text", "path": str(folder / "in.txt"), "max_document_bytes": 1 << 28}}, 1 << 20)
load_segmenter()
start = time.process_time()
pass_one(split, Plan(str(folder), 7, SETTINGS, (), {"contamination.npy": "0"}), Stages())
print(time.process_time() - start, peak_mib())
"""


def long_line(folder: Path, megabytes: int) -> tuple[float, float]:
    """Return seconds of one core and MiB of memory that pass 1 takes for one line without a sentence's end."""
    folder.mkdir()
    seconds, mib = map(float, answer(LONG_LINE, folder, megabytes).split())
    return seconds, mib


def test_a_line_of_ten_megabytes_takes_a_minute_at_most_through_pass_one(tmp_path: Path) -> None:
    seconds, mib = long_line(tmp_path / "10", 10)
    print(f"10 MB in one line: {seconds:.1f} s, {mib:.0f} MiB")
    assert seconds <= 60
    assert mib <= 1536


@pytest.mark.slow
def test_a_line_takes_time_in_proportion_to_its_length(tmp_path: Path) -> None:
    (few, _), (many, mib) = long_line(tmp_path / "4", 4), long_line(tmp_path / "32", 32)
    print(f"4 MB: {few:.1f} s, 32 MB: {many:.1f} s, {mib:.0f} MiB")
    assert many <= 8 * few * 1.5


BOMB = """
import sys, time
from prepare_helper import peak_mib
from corpus_prep.splits import plan_splits
from ernie_core.errors import InputError
start = time.process_time()
try:
    plan_splits({"c": {"reader": "text", "path": sys.argv[1]}}, 1 << 22)
except InputError as e:
    print(e.code, time.process_time() - start, peak_mib())
"""


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_bomb_stops_within_seconds_and_500_megabytes(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"bomb{ending}"
    chunk = bytes(1 << 24)
    with gzip.open(path, "wb", 9) if ending == ".gz" else pa.CompressedOutputStream(str(path), "zstd") as f:
        for _ in range(16):
            f.write(chunk)
    assert path.stat().st_size < (1 << 28) / 200
    code, seconds, mib = answer(BOMB, path).split()
    assert code == "E-BOMB"
    assert float(seconds) <= 5
    assert float(mib) <= 500


@pytest.mark.parametrize("name", UNPICKLING)
def test_ray_data_may_not_be_told_to_unpickle_data_files(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_environment()
    monkeypatch.setenv(name, "0")
    check_environment()
    monkeypatch.setenv(name, "1")
    with pytest.raises(RecipeError, match=f"E-ENVIRONMENT .*{name}") as e:
        check_environment()
    assert e.value.exit_code == 2


class Canary:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


READ = """
import sys
import ray.data
from corpus_prep.splits import documents, plan_splits, read_split
from ernie_core.data.parquet_format import read_parquet
from ernie_core.errors import ErnieError
from pathlib import Path
for path in sys.argv[1:]:
    for read in (lambda: [d for s in plan_splits({"c": {"reader": "parquet", "path": path}}, 1000) for d in documents(s, read_split(s)[0])], lambda: read_parquet(Path(path))):
        try:
            read()
            print("read", end=" ")
        except ErnieError as e:
            print(e.code, end=" ")
"""


def test_a_pickle_in_a_parquet_file_is_never_loaded(tmp_path: Path) -> None:
    assert pickle.loads(pickle.dumps(Canary(tmp_path / "proof"))) is None
    assert (tmp_path / "proof").exists()
    poison = pickle.dumps(Canary(tmp_path / "canary"))
    text, struct = pa.list_(pa.string()), pa.struct({"data": pa.list_(pa.string())})
    tensor, variable = "ray.data.arrow_tensor", "ray.data.arrow_variable_shaped_tensor"
    crafted: list[tuple[str, pa.DataType, Any]] = [
        (tensor, text, ["好。"]), (variable, struct, {"data": ["好。"]}), (variable, text, ["好。"]),
        ("ray.data.arrow_pickled_object", pa.binary(), poison), ("arrow.py_extension_type", pa.binary(), poison),
    ]  # fmt: skip
    for number, (name, kind, value) in enumerate(crafted):
        field = pa.field("text", kind, metadata={b"ARROW:extension:name": name.encode(), b"ARROW:extension:metadata": poison})
        pq.write_table(pa.table([pa.array([value], kind)], schema=pa.schema([field])), tmp_path / f"{number}.parquet")
    found = answer(READ, *(tmp_path / f"{number}.parquet" for number in range(len(crafted)))).split()
    assert not (tmp_path / "canary").exists()
    assert len(found) == 2 * len(crafted)
    assert set(found[::2]) <= {"E-PARQUET", "E-SCHEMA"}
    assert set(found[1::2]) == {"E-SCHEMA"}


def nested(levels: int) -> bytes:
    return b'{"text": "' + b"[" * 200 + b'", "more": ' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


def test_json_at_its_deepest_is_read_and_one_level_more_is_rejected_wherever_it_is_read(tmp_path: Path) -> None:
    data = nested(MAX_JSON_DEPTH) + b"\n" + nested(MAX_JSON_DEPTH + 1) + b"\n"
    found = read_bytes(tmp_path, data, "jsonl")
    assert (len(good(found)), reasons(found)) == (1, ["nested too deeply"])

    def deeper(frames: int) -> Any:
        return deeper(frames - 1) if frames else read_bytes(tmp_path, data, "jsonl")

    assert deeper(sys.getrecursionlimit() // 2) == found


def test_html_and_markdown_at_their_limits(tmp_path: Path) -> None:
    for count, rejected in ((MAX_DEPTH, 0), (MAX_DEPTH + 1, 1)):
        assert len(reasons(read_bytes(tmp_path, b"<div>" * count + b"text", "html"))) == rejected
    for count, rejected in ((MAX_BRACKETS, 0), (MAX_BRACKETS + 1, 1)):
        assert len(reasons(read_bytes(tmp_path, b"a" + b"[" * count, "markdown"))) == rejected


def test_a_quotation_at_its_limit_is_one_cell_and_a_longer_one_costs_its_line(tmp_path: Path) -> None:
    for size, paragraphs in ((MAX_QUOTED_BYTES - 3, 1), (MAX_QUOTED_BYTES - 2, 0)):
        found = read_bytes(tmp_path, b'"' + b"a\n" + b"b" * (size - 2) + b'"\nnext\n', "csv", header=False, text=1)
        assert [len(d.paragraphs) for d in good(found)][: 2 if paragraphs else 1] == ([2, 1] if paragraphs else [1])
        assert bool(reasons(found)) is not bool(paragraphs)


def test_a_vocabulary_at_its_largest_is_read_and_one_line_more_refused() -> None:
    lines = "\n".join([*SPECIAL_TOKENS, *(f"w{n}" for n in range(MAX_TOKENS - len(SPECIAL_TOKENS)))]).encode()
    assert Vocab.from_bytes(lines + b"\n", "v").size == MAX_TOKENS
    with pytest.raises(InputError, match=f"E-VOCAB-FORMAT.*at most {MAX_TOKENS}; found {MAX_TOKENS + 1}"):
        Vocab.from_bytes(lines + b"\nmore\n", "v")


def test_a_recipe_at_its_limits_is_read_and_one_more_refused() -> None:
    def size(count: int) -> str:
        return "a: " + "x" * (count - 3)

    def depth(count: int) -> str:
        return "a: " + "[" * count + "]" * count

    for write, limit in ((size, recipe.MAX_BYTES), (depth, recipe.MAX_DEPTH)):
        assert parse_yaml(write(limit), "r.yaml").value["a"]
        with pytest.raises(RecipeError, match="E-RECIPE-YAML"):
            parse_yaml(write(limit + 1), "r.yaml")


def test_a_corpus_of_as_many_files_as_it_may_have_is_read(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.txt").write_text("文。")
    assert len(good(read_corpus(f"{tmp_path}/*.txt", "text", max_files=3))) == 3
    with pytest.raises(InputError, match="E-CORPUS-FILES"):
        read_corpus(f"{tmp_path}/*.txt", "text", max_files=2)
