"""The Chinese benchmarks of ERNIE 2.0's tables that give texts, or pairs of them, a label (ernie.md 7.4), and two of their form: OCNLI, AFQMC.

Every subset may stand as its publisher gives it out or as ERNIE's TSV. A stand-in for a train set that its publisher gives out on
application only comes last, and its rows do not add up to `rows`.
"""

from __future__ import annotations

from dataclasses import replace

from ernie_core.benchmarks import ranking
from ernie_core.benchmarks.base import Benchmark, Preset, Source
from ernie_core.benchmarks.classification import encode
from ernie_core.benchmarks.json_layouts import JsonLines
from ernie_core.benchmarks.layouts import ERNIE_PAIR, ERNIE_TEXT, Either, Table, unlabelled
from ernie_core.benchmarks.metrics.classification import ACCURACY
from ernie_core.benchmarks.metrics.ranking import MAP, MRR, RANKING_F1

_NLI = ("contradiction", "entailment", "neutral")

_XNLI_OF_ALL_LANGUAGES = Table({"text_a": "sentence1", "text_b": "sentence2", "label": "gold_label"}, where={"language": "zh"})
_XNLI_TRANSLATED = Table(  # by machine, which may leave a text empty
    {"text_a": "premise", "text_b": "hypo", "label": "label"}, names={"contradictory": "contradiction"}, max_malformed=100
)
XNLI = Benchmark(
    name="xnli", kind="classification", labels=_NLI, metrics=(ACCURACY,), encode=encode,
    source="Conneau et al. 2018, the Chinese part; labels, presets and metric: ernie.md 7.4. Its 8192 tokens a card are 16 rows of 512",
    sources={
        "train": (
            Source("train.tsv", ERNIE_PAIR), Source("XNLI-MT-1.0/multinli/multinli.train.zh.tsv", _XNLI_TRANSLATED),
            Source("train_sample_from_cmnli.tsv", ERNIE_PAIR),
        ),
        "dev": (Source("dev.tsv", ERNIE_PAIR), Source("XNLI-1.0/xnli.dev.tsv", _XNLI_OF_ALL_LANGUAGES)),
        "test": (Source("test.tsv", ERNIE_PAIR), Source("XNLI-1.0/xnli.test.tsv", _XNLI_OF_ALL_LANGUAGES)),
    },
    rows={"train": 392_702, "dev": 2490, "test": 5010},
    presets={"base": Preset(1e-4, 3, 128, 512, 0.0, 0.01), "large": Preset(4e-5, 3, 128, 512, 0.0, 0.01)},
)  # fmt: skip

CHNSENTICORP = Benchmark(
    name="chnsenticorp", kind="classification", labels=("0", "1"), metrics=(ACCURACY,), encode=encode,
    source="ERNIE's split of ChnSentiCorp, 1 positive; layout, presets and metric: ernie.md 7.4. Some 28 % of dev and test texts stand in train",
    sources={subset: (Source(f"{subset}.tsv", ERNIE_TEXT),) for subset in ("train", "dev", "test")},
    rows={"train": 9600, "dev": 1200, "test": 1200},
    presets={"base": Preset(5e-5, 10, 24, 256, 0.0, 0.01), "large": Preset(1e-5, 10, 24, 256, 0.0, 0.01)},
)  # fmt: skip

_BARE_PAIR = Table({"text_a": 0, "text_b": 1, "label": 2}, header=False)
_PAIR_FILE = Either((ERNIE_PAIR, _BARE_PAIR))
LCQMC = Benchmark(
    name="lcqmc", kind="classification", labels=("0", "1"), metrics=(ACCURACY,), encode=encode,
    source="Liu et al. 2018, 1 the same question; the publisher's files have no header; presets and metric: ernie.md 7.4",
    sources={subset: (Source(f"{subset}.tsv", _PAIR_FILE), Source(f"{subset}.txt", _PAIR_FILE)) for subset in ("train", "dev", "test")},
    rows={"train": 238_766, "dev": 8802, "test": 12_500},
    presets={"base": Preset(2e-5, 3, 32, 128, 0.0, 0.0), "large": Preset(5e-6, 3, 32, 128, 0.0, 0.0)},
)  # fmt: skip

_BQ_CSV = Table({"text_a": "sentence1", "text_b": "sentence2", "label": "label"}, delimiter=",", quoted=True)
BQ = Benchmark(
    name="bq", kind="classification", labels=("0", "1"), metrics=(ACCURACY,), encode=encode,
    source="Chen et al. 2018, questions to a bank, 1 the same; the publisher's files are CSV; presets and metric: ernie.md 7.4",
    sources={
        "train": (
            Source("train.csv", _BQ_CSV), Source("train.tsv", ERNIE_PAIR), Source("sim_webank.gb18030.csv", replace(_BQ_CSV, encoding="gb18030")),
        ),
        "dev": (Source("dev.csv", _BQ_CSV), Source("dev.tsv", ERNIE_PAIR)),
        "test": (Source("test.csv", _BQ_CSV), Source("test.tsv", ERNIE_PAIR)),
    },
    rows={"train": 100_000, "dev": 10_000, "test": 10_000},
    presets={"base": Preset(3e-5, 3, 64, 128, 0.0, 0.01), "large": Preset(1.5e-5, 3, 64, 128, 0.0, 0.01)},
)  # fmt: skip

_ERNIE_QUESTIONS = Table({"label": "label", "text_a": "text_a", "text_b": "text_b", "group": "qid"}, others=False)
_DBQA_2016 = Table({"group": 0, "text_a": 0, "text_b": 1, "label": 2}, header=False)
_DBQA_2017 = Table({"label": 0, "group": 1, "text_a": 1, "text_b": 2}, header=False)
NLPCC_DBQA = Benchmark(
    name="nlpcc_dbqa", kind="classification", labels=("0", "1"), metrics=(MRR, RANKING_F1, MAP), encode=ranking.encode,
    source=(
        "NLPCC 2016 DBQA, 1 the sentence answers the question; presets and metrics: ernie.md 7.4, 8.1. ERNIE's split of it (about 182,000, "
        "41,000 and 82,000 rows) was not given out; the publisher's 2017 files are another set, whose dev has one row of label 10"
    ),
    sources={
        "train": (Source("train.tsv", _ERNIE_QUESTIONS), Source("nlpcc-iccpol-2016.dbqa.training-data", _DBQA_2016)),
        "dev": (Source("dev.tsv", _ERNIE_QUESTIONS), Source("nlpcc2017.dbqa.dev", replace(_DBQA_2017, max_malformed=1))),
        "test": (Source("test.tsv", _ERNIE_QUESTIONS), Source("nlpcc2017.dbqa.test", _DBQA_2017)),
    },
    presets={"base": Preset(2e-5, 3, 64, 512, 0.0, 0.01), "large": Preset(1e-5, 3, 64, 512, 0.0, 0.01)},
)  # fmt: skip

_OCNLI = JsonLines({"text_a": "sentence1", "text_b": "sentence2", "label": "label", "id": "id"}, drop={"-": "no_majority"})
OCNLI = Benchmark(
    name="ocnli", kind="classification", labels=_NLI, metrics=(ACCURACY,), encode=encode,
    source="Hu et al. 2020, labels in XNLI's order; a label - says that no majority was found, and such rows are left out. ERNIE 2.0 did not use it",
    sources={
        "train": tuple(Source(f"train.{size}.json", _OCNLI) for size in ("50k", "10k", "3k")),
        "dev": (Source("dev.json", _OCNLI),),
        "test": (Source("test.json", replace(_OCNLI, labelled=False)),),
    },
    rows={"dev": 3000, "test": 3000},
)  # fmt: skip

_CLUE_PAIR = JsonLines({"text_a": "sentence1", "text_b": "sentence2", "label": "label", "id": "id"}, optional=("id",))
AFQMC = Benchmark(
    name="afqmc", kind="classification", labels=("0", "1"), metrics=(ACCURACY,), encode=encode,
    source="Ant Financial's questions, 1 the same, as CLUE gives them out (JSON) or in LCQMC's form. ERNIE 2.0 did not use it",
    sources={
        "train": (Source("train.txt", _PAIR_FILE), Source("train.json", _CLUE_PAIR)),
        "dev": (Source("dev.txt", _PAIR_FILE), Source("dev.json", _CLUE_PAIR)),
        "test": (
            Source("test.txt", Either((unlabelled(ERNIE_PAIR), unlabelled(_BARE_PAIR)))), Source("test.json", replace(_CLUE_PAIR, labelled=False)),
        ),
    },
    rows={"train": 34_334, "dev": 4316, "test": 3861},
)  # fmt: skip
