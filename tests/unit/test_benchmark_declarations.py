"""The benchmarks of ERNIE 2.0's tables: the real files have the published sizes, and what is declared holds together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ernie_core.benchmarks import chinese, glue, ranking, regression
from ernie_core.benchmarks.base import SUBSETS, Benchmark, Example, Source, Subset, all_benchmarks
from ernie_core.benchmarks.glue import AX, COLA, MNLI, MNLI_MM, MRPC, QNLI, QQP, STSB, WNLI
from ernie_core.benchmarks.packed import existing
from ernie_core.benchmarks.rows import read_rows, to_lines
from ernie_core.tokenization import Tokenizer
from ernie_core.vocab import SPECIAL_TOKENS, Vocab
from pipelines.published import load_published

DECLARED = tuple(b for module in (chinese, glue) for b in vars(module).values() if isinstance(b, Benchmark))
FOLDERS = {
    "bq": "bq_corpus", "cola": "glue/CoLA", "sst2": "glue/SST-2", "mrpc": "glue/MRPC", "stsb": "glue/STS-B", "qqp": "glue/QQP",
    "mnli": "glue/MNLI", "mnli_mm": "glue/MNLI", "qnli": "glue/QNLI", "rte": "glue/RTE", "wnli": "glue/WNLI", "ax": "glue/AX",
}  # fmt: skip
# (benchmark, subset, file, examples, rows left out): the counts of the data's README; every file there that a declaration names.
FILES = [
    ("xnli", "train", "train_sample_from_cmnli.tsv", 9751, {}),
    ("xnli", "dev", "dev.tsv", 2490, {}),
    ("xnli", "test", "test.tsv", 5010, {}),
    ("chnsenticorp", "train", "train.tsv", 9600, {}),
    ("chnsenticorp", "dev", "dev.tsv", 1200, {}),
    ("chnsenticorp", "test", "test.tsv", 1200, {}),
    ("lcqmc", "dev", "dev.tsv", 8802, {}),
    ("lcqmc", "test", "test.tsv", 12_500, {}),
    ("bq", "train", "sim_webank.gb18030.csv", 20_019, {}),
    ("bq", "dev", "dev.csv", 10_000, {}),
    ("bq", "test", "test.csv", 10_000, {}),
    ("nlpcc_dbqa", "dev", "nlpcc2017.dbqa.dev", 7444, {"malformed": 1}),
    ("nlpcc_dbqa", "test", "nlpcc2017.dbqa.test", 14_566, {}),
    ("ocnli", "train", "train.10k.json", 9985, {"no_majority": 15}),
    ("ocnli", "train", "train.3k.json", 2994, {"no_majority": 6}),
    ("ocnli", "dev", "dev.json", 2950, {"no_majority": 50}),
    ("ocnli", "test", "test.json", 3000, {}),
    ("afqmc", "train", "train.txt", 34_334, {}),
    ("afqmc", "dev", "dev.txt", 4316, {}),
    ("afqmc", "test", "test.txt", 3861, {}),
    ("cola", "train", "train.tsv", 8551, {}),
    ("cola", "dev", "dev.tsv", 1043, {}),
    ("cola", "test", "test.tsv", 1063, {}),
    ("sst2", "train", "train.tsv", 67_349, {}),
    ("sst2", "dev", "dev.tsv", 872, {}),
    ("sst2", "test", "test.tsv", 1821, {}),
    ("mrpc", "train", "msr_paraphrase_train.txt", 3668, {}),
    ("mrpc", "dev", "dev.tsv", 408, {}),
    ("mrpc", "test", "msr_paraphrase_test.txt", 1725, {}),
    ("stsb", "train", "train.tsv", 5749, {}),
    ("stsb", "train", "original/sts-train.csv", 5749, {}),
    ("stsb", "dev", "dev.tsv", 1500, {}),
    ("stsb", "dev", "original/sts-dev.csv", 1500, {}),
    ("stsb", "test", "original/sts-test.csv", 1379, {}),
    ("stsb", "test", "test.tsv", 1379, {}),
    ("qqp", "train", "sample.train.json", 8999, {}),
    ("qqp", "train", "part.new_dev.tsv", 23_496, {"malformed": 1}),
    ("qqp", "dev", "sample.dev.json", 1000, {}),
    ("mnli", "train", "sample.train.json", 8999, {}),
    ("mnli", "dev", "sample.dev.json", 1000, {}),
    ("qnli", "train", "sample.train.json", 8999, {}),
    ("qnli", "dev", "dev.tsv", 5463, {}),
    ("qnli", "test", "test.tsv", 5463, {}),
    ("rte", "train", "train.tsv", 2490, {}),
    ("rte", "dev", "dev.tsv", 277, {}),
    ("rte", "test", "test.tsv", 3000, {}),
    ("wnli", "train", "train.tsv", 635, {}),
    ("wnli", "dev", "dev.tsv", 71, {}),
    ("wnli", "test", "test.tsv", 146, {}),
    ("ax", "test", "AX-b.jsonl", 1104, {}),
]  # fmt: skip
# Stand-ins and parts, which do not have the official size.
PARTS = ("sample", "part", "sim_webank", "train.10k", "train.3k", "nlpcc2017")
HIDDEN = {"ocnli", "afqmc", "cola", "sst2", "qnli", "rte", "wnli"}
TOKENS = (*SPECIAL_TOKENS, *"abcdefgh好坏谁")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(Vocab(TOKENS))


def source(benchmark: Benchmark, subset: str, file: str) -> Source:
    (found,) = [s for s in benchmark.sources[subset] if s.file == file]
    return found


def read(data: Path, benchmark: Benchmark, subset: str, file: str) -> Subset:
    return source(benchmark, subset, file).layout.read(data / FOLDERS.get(benchmark.name, benchmark.name) / file, benchmark)


@pytest.mark.parametrize(("name", "subset", "file", "rows", "dropped"), FILES)
def test_real_files_have_the_published_rows_and_only_known_labels(
    name: str, subset: str, file: str, rows: int, dropped: dict[str, int], test_data: Path
) -> None:
    benchmark = all_benchmarks()[name]
    found = read(test_data, benchmark, subset, file)
    assert len(found.examples) == rows
    assert found.dropped == dropped
    if not any(part in file for part in PARTS):
        assert rows + sum(dropped.values()) == benchmark.rows[subset]
    hidden = subset == "test" and (name in HIDDEN or (name, file) == ("stsb", "test.tsv"))
    assert {e.labelled for e in found.examples} == {not hidden}
    if not hidden and benchmark.labels:
        assert {label for e in found.examples for label in e.labels} == set(range(len(benchmark.labels)))
    assert len({e.id for e in found.examples}) == rows
    if benchmark.language == "en" and subset == "test":
        assert [e.id for e in found.examples] == [str(i) for i in range(rows)], "GLUE's index"


def test_every_file_there_is_named_above(test_data: Path) -> None:
    there = {
        (b.name, subset, s.file)
        for b in DECLARED for subset, sources in b.sources.items() for s in sources
        if existing(test_data / FOLDERS.get(b.name, b.name) / s.file).exists()
    }  # fmt: skip
    assert there == {row[:3] for row in FILES}


def test_rows_survive_the_form_between_import_and_trial(test_data: Path, tmp_path: Path) -> None:
    for name, subset, file in (
        ("nlpcc_dbqa", "test", "nlpcc2017.dbqa.test"),
        ("stsb", "dev", "dev.tsv"),
        ("rte", "test", "test.tsv"),
        ("qnli", "dev", "dev.tsv"),
    ):
        benchmark = all_benchmarks()[name]
        examples = read(test_data, benchmark, subset, file).examples
        path = tmp_path / f"{name}.jsonl"
        path.write_bytes(to_lines(examples, benchmark))
        assert read_rows(path, benchmark) == examples


def test_test_sets_with_published_labels_stand_in_glues_order(test_data: Path) -> None:
    labelled, hidden = (read(test_data, STSB, "test", file).examples for file in ("original/sts-test.csv", "test.tsv"))
    assert [[t.strip() for t in e.texts] for e in labelled] == [[t.strip() for t in e.texts] for e in hidden]
    assert [e.id for e in labelled] == [e.id for e in hidden] == [str(i) for i in range(1379)]
    values = [e.value for e in labelled if e.value is not None]
    assert (min(values), max(values), len(values)) == (0.0, 5.0, 1379)


def test_questions_group_their_sentences(test_data: Path) -> None:
    for file, subset, questions in (("nlpcc2017.dbqa.dev", "dev", 393), ("nlpcc2017.dbqa.test", "test", 770)):
        examples = read(test_data, chinese.NLPCC_DBQA, subset, file).examples
        assert len({e.group for e in examples}) == questions
        assert all(e.group == e.texts[0] for e in examples)


def test_the_full_publishers_columns_are_found_by_name(test_data: Path, tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_bytes((test_data / "glue/MNLI/kshot-13.train.tsv").read_bytes())
    (tmp_path / "dev_matched.tsv").write_bytes((test_data / "glue/MNLI/kshot-13.dev_matched.tsv").read_bytes())
    for subset, file in (("train", "train.tsv"), ("dev", "dev_matched.tsv")):
        examples = source(MNLI, subset, file).layout.read(tmp_path / file, MNLI).examples
        assert np.bincount([e.labels[0] for e in examples]).tolist() == [16, 16, 16]
    (tmp_path / "train.tsv").write_bytes((test_data / "glue/QQP/kshot-13.train.tsv").read_bytes())
    examples = source(QQP, "train", "train.tsv").layout.read(tmp_path / "train.tsv", QQP).examples
    assert (len(examples), examples[0].id) == (32, "360105")


CONVERTED = [
    (COLA, "train", "train.tsv", "label\ttext_a\n1\ta b\n", Example(("a b",), (1,), id="0")),
    (COLA, "test", "test.tsv", "qid\ttext_a\tlabel\n7\ta b\t-1\n", Example(("a b",), id="7")),
    (MRPC, "dev", "dev.tsv", "text_a\ttext_b\tlabel\na\tb\t1\n", Example(("a", "b"), (1,), id="0")),
    (MRPC, "train", "train.tsv", "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t5\t6\ta\tb\n", Example(("a", "b"), (1,), id="0")),
    (MRPC, "test", "test.tsv", "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n3\t5\t6\ta\tb\n", Example(("a", "b"), id="3")),
    (STSB, "dev", "dev.tsv", "text_a\ttext_b\tlabel\na\tb\t3.25\n", Example(("a", "b"), value=3.25, id="0")),
    (QNLI, "dev", "dev.tsv", "text_a\ttext_b\tlabel\na\tb\t1\n", Example(("a", "b"), (QNLI.labels.index("entailment"),), id="0")),
    (MNLI, "dev", "m/dev.tsv", "text_a\ttext_b\tlabel\na\tb\t2\n", Example(("a", "b"), (MNLI.labels.index("entailment"),), id="0")),
    (MNLI_MM, "test", "mm/test.tsv", "qid\ttext_a\ttext_b\tlabel\n9\ta\tb\t-1\n", Example(("a", "b"), id="9")),
    (WNLI, "train", "train.tsv", "label\ttext_b\ttext_a\n0\tb\ta\n", Example(("a", "b"), (0,), id="0")),
    (AX, "test", "diagnostic.tsv", "index\tsentence1\tsentence2\n0\ta\tb\n", Example(("a", "b"), id="0")),
    (AX, "test", "diagnostic-full.tsv", "Domain\tPremise\tHypothesis\tLabel\n\ta\tb\tneutral\n", Example(("a", "b"), (0,), id="0")),
    (chinese.NLPCC_DBQA, "test", "test.tsv", "qid\ttext_a\ttext_b\tlabel\n4\ta\tb\t1\n", Example(("a", "b"), (1,), group="4", id="0")),
    (chinese.XNLI, "train", "XNLI-MT-1.0/multinli/multinli.train.zh.tsv", "premise\thypo\tlabel\na\tb\tcontradictory\n", Example(("a", "b"), (0,), id="0")),
    (
        chinese.XNLI, "dev", "XNLI-1.0/xnli.dev.tsv", "language\tgold_label\tsentence1\tsentence2\nar\tneutral\tx\ty\nzh\tneutral\ta\tb\n",
        Example(("a", "b"), (2,), id="0"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("benchmark", "subset", "file", "text", "row"), CONVERTED)
def test_ernies_and_the_publishers_layouts_give_the_same_rows(
    benchmark: Benchmark, subset: str, file: str, text: str, row: Example, tmp_path: Path
) -> None:
    path = tmp_path / Path(file).name
    path.write_text(text, encoding="utf-8")
    assert source(benchmark, subset, file).layout.read(path, benchmark).examples == (row,)


@pytest.mark.parametrize("benchmark", DECLARED, ids=lambda b: b.name)
def test_a_declaration_holds_together(benchmark: Benchmark) -> None:
    assert all_benchmarks()[benchmark.name] is benchmark
    assert benchmark.language == ("zh" if benchmark in vars(chinese).values() else "en")
    assert len({m.columns for m in benchmark.metrics}) == 1, "one table of counts serves all metrics"
    assert set(benchmark.sources) == ({"test"} if benchmark is AX else {"dev", "test"} if benchmark is MNLI_MM else set(SUBSETS))
    assert bool(benchmark.trained_by) == ("train" not in benchmark.sources)
    assert set(benchmark.rows) <= set(benchmark.sources)
    for sources in benchmark.sources.values():
        assert len({s.file for s in sources}) == len(sources)
    if not benchmark.presets:
        assert benchmark.name in {"ax", "mnli_mm", "ocnli", "afqmc"}
    for name, preset in benchmark.presets.items():
        assert name in {"base", "large"}
        assert 5e-6 <= preset.learning_rate <= 1e-4
        assert preset.epochs in range(2, 11)
        assert preset.batch_size in (4, 8, 16, 24, 32, 64, 128, 256, 512)
        assert preset.max_seq_len in (128, 256, 512)
        assert preset.warmup_share == (0.0 if benchmark.language == "zh" else 0.1)
        assert preset.weight_decay == (0.01 if benchmark.language == "zh" and benchmark.name != "lcqmc" else 0.0)


def test_batch_sizes_are_those_of_the_published_table() -> None:
    # base, large over all cards; XNLI's is 65,536 tokens of rows of 512
    published = {
        "cola": (64, 32), "sst2": (256, 64), "stsb": (128, 128), "qqp": (256, 256), "mnli": (512, 256), "qnli": (256, 256),
        "rte": (4, 16), "mrpc": (32, 16), "wnli": (8, 8), "xnli": (65_536 // 512, 65_536 // 512), "chnsenticorp": (24, 24), "lcqmc": (32, 32),
        "bq": (64, 64), "nlpcc_dbqa": (64, 64),
    }  # fmt: skip
    assert {b.name: (b.presets["base"].batch_size, b.presets["large"].batch_size) for b in DECLARED if b.presets} == published


def test_headlines() -> None:
    assert {b.name: b.metric.name for b in DECLARED if b.metric.name != "accuracy"} == {
        "nlpcc_dbqa": "mrr",
        "cola": "mcc",
        "stsb": "pearson",
        "ax": "mcc",
    }


def test_every_published_figure_is_one_of_a_benchmark_s_metrics() -> None:
    columns = {(c.benchmark, c.metric) for table in load_published().tables for c in table.columns if c.benchmark != "glue"}
    assert len(columns) > 20
    assert [(name, metric) for name, metric in sorted(columns) if metric not in {m.name for m in all_benchmarks()[name].metrics}] == []


def test_a_regression_gives_values_and_is_scored_by_correlation(tokenizer: Tokenizer) -> None:
    examples = [Example(("a", "b"), value=v) for v in (0.0, 2.5, 5.0)]
    encoded = regression.encode(examples, STSB, tokenizer, 8)
    assert encoded.values is not None
    assert encoded.values.dtype == np.float32
    assert encoded.values.tolist() == [0.0, 2.5, 5.0]
    outputs = np.array([[1.0], [2.0], [3.0]], np.float32)
    assert STSB.metric.of(encoded.outcomes(outputs)) == pytest.approx(1.0)
    assert STSB.metric.of(encoded.outcomes(-outputs)) == pytest.approx(-1.0)
    assert encoded.answers(outputs) == [{"value": 1.0}, {"value": 2.0}, {"value": 3.0}]
    hidden = regression.encode([Example(("a", "b"))], STSB, tokenizer, 8)
    assert hidden.values is not None
    assert np.isnan(hidden.values).all()


def test_candidates_are_ranked_within_their_question_by_the_difference_of_logits(tokenizer: Tokenizer) -> None:
    benchmark = chinese.NLPCC_DBQA
    rows = [("q", 0, [0.0, 3.0]), ("r", 1, [0.0, -1.0]), ("q", 1, [5.0, 7.0]), ("q", 0, [0.0, 1.0])]
    examples = [Example(("谁", "好"), (label,), group=group) for group, label, _ in rows]
    encoded = ranking.encode(examples, benchmark, tokenizer, 8)
    outputs = np.array([logits for *_, logits in rows], np.float32)
    counts = encoded.outcomes(outputs)
    scores = {m.name: m.of(counts) for m in benchmark.metrics}
    assert scores["mrr"] == pytest.approx((1 / 2 + 1) / 2)
    assert scores["map"] == pytest.approx((1 / 2 + 1) / 2)
    assert scores["f1"] == pytest.approx(2 * 1 / (3 + 2))
    assert [a["label"] for a in encoded.answers(outputs)] == ["1", "0", "1", "1"]
    assert [s.label for s in encoded.samples] == [0, 1, 1, 0]


def test_the_diagnostics_are_read_by_a_model_of_three_classes(tokenizer: Tokenizer) -> None:
    examples = [Example(("a", "b"), (label,)) for label in (1, 1, 0, 0)]
    encoded = AX.encode(examples, AX, tokenizer, 8)
    outputs = np.array([[0, 0, 1], [0, 0, 2], [1, 0, 0], [0, 1, 0]], np.float32)
    assert AX.metric.of(encoded.outcomes(outputs)) == pytest.approx(1.0)
    assert [a["label"] for a in encoded.answers(outputs)] == ["entailment", "entailment", "contradiction", "neutral"]


def test_the_mismatched_set_differs_from_the_matched_one_in_its_rows_only() -> None:
    same = replace(MNLI_MM, name="mnli", source=MNLI.source, sources=MNLI.sources, rows=MNLI.rows, presets=MNLI.presets, trained_by="")
    assert same == MNLI
    assert not {s.file for subset in ("dev", "test") for s in MNLI.sources[subset]} & {
        s.file for subset in ("dev", "test") for s in MNLI_MM.sources[subset]
    }
