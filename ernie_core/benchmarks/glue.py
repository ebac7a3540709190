"""GLUE (Wang et al. 2019), as its publishers give it out and as ERNIE converts it (ernie.md 7.2, 7.3).

Test labels are hidden, so test rows are unlabelled and keep GLUE's index as their id, except where another publisher gives the labels out
(MRPC, STS-B). Presets are the table of ernie.md 7.2: rows a card times cards. Samples of a train set stand in for it last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ernie_core.benchmarks import classification, regression
from ernie_core.benchmarks.base import Benchmark, Encoded, Example, Outputs, Preset, Source, Subset, bad_row
from ernie_core.benchmarks.classification import encode, probabilities
from ernie_core.benchmarks.json_layouts import JsonLines, JsonObject
from ernie_core.benchmarks.layouts import ERNIE_PAIR, ERNIE_TEXT, Either, Table, unlabelled
from ernie_core.benchmarks.metrics.base import Counts
from ernie_core.benchmarks.metrics.classification import ACCURACY, ACCURACY_F1, F1, MCC, classification_counts
from ernie_core.benchmarks.metrics.correlation import PEARSON, PEARSON_SPEARMAN, SPEARMAN
from ernie_core.benchmarks.packed import existing
from ernie_core.tokenization import Tokenizer

_YES_NO = ("0", "1")
_RTE = ("not_entailment", "entailment")
_ERNIE_RTE = replace(ERNIE_PAIR, names={"0": "not_entailment", "1": "entailment"})
_SAMPLE = JsonObject({"text_a": "text_a", "text_b": "text_b", "label": "label"})


def _pair(text_a: str, text_b: str, label: str = "label", index: str = "index") -> Table:
    return Table({"text_a": text_a, "text_b": text_b, "label": label, "id": index}, optional=("id",))


def _files(ernie: Table, train: Table, test: Table | None = None) -> dict[str, tuple[Source, ...]]:
    """Return train.tsv, dev.tsv and test.tsv, each in ERNIE's or in GLUE's layout; `test` where its columns differ from `train`'s."""
    known, hidden = Either((ernie, train)), Either((unlabelled(ernie), unlabelled(test or train)))
    return {"train": (Source("train.tsv", known),), "dev": (Source("dev.tsv", known),), "test": (Source("test.tsv", hidden),)}


COLA = Benchmark(
    name="cola", kind="classification", labels=_YES_NO, metrics=(MCC, ACCURACY), encode=encode, language="en",
    source="GLUE CoLA, 1 acceptable; train and dev have no header, of which ERNIE's conversion loses the first row each",
    sources=_files(ERNIE_TEXT, Table({"label": 1, "text_a": 3}, header=False), Table({"text_a": "sentence", "id": "index"}, labelled=False)),
    rows={"train": 8551, "dev": 1043, "test": 1063},
    presets={"base": Preset(3e-5, 3, 64, 128, 0.1, 0.0), "large": Preset(3e-5, 5, 32, 128, 0.1, 0.0)},
)  # fmt: skip

SST2 = Benchmark(
    name="sst2", kind="classification", labels=_YES_NO, metrics=(ACCURACY,), encode=encode, language="en", source="GLUE SST-2, 1 positive",
    sources=_files(ERNIE_TEXT, Table({"text_a": "sentence", "label": "label", "id": "index"}, optional=("id",))),
    rows={"train": 67_349, "dev": 872, "test": 1821},
    presets={"base": Preset(2e-5, 4, 256, 128, 0.1, 0.0), "large": Preset(2e-5, 4, 64, 128, 0.1, 0.0)},
)  # fmt: skip

_MICROSOFT = Table({"label": "Quality", "text_a": "#1 String", "text_b": "#2 String"})
_MICROSOFT_IDS = Table({"label": "Quality", "text_a": "#1 String", "text_b": "#2 String", "id": "#1 ID", "group": "#2 ID"})


@dataclass(frozen=True)
class Mrpc:
    """Microsoft's train file, of which GLUE holds some rows back as its dev set: all rows whose pair of ids `dev_file` does not hold.

    Args:
        dev_file: GLUE's dev set, beside the file that is read.
    """

    dev_file: str

    def read(self, path: Path, benchmark: Benchmark) -> Subset:
        """Read the rows left for training; errors are those of `Table.read`, and E-BENCH-ROW for a dev row that is not Microsoft's."""
        whole, dev = (_MICROSOFT_IDS.read(p, benchmark) for p in (path, path.with_name(self.dev_file)))
        held = {(e.id, e.group) for e in dev.examples}
        if strange := held - {(e.id, e.group) for e in whole.examples}:
            raise bad_row(
                benchmark,
                str(existing(path.with_name(self.dev_file))),
                f"only pairs of {path.name}",
                f"ids {min(strange)}",
                "get the two files of one set",
            )
        kept = [e for e in whole.examples if (e.id, e.group) not in held]
        return Subset(tuple(replace(e, id=str(i), group="") for i, e in enumerate(kept)), whole.dropped)


MRPC = Benchmark(
    name="mrpc", kind="classification", labels=_YES_NO, metrics=(ACCURACY, F1, ACCURACY_F1), encode=encode, language="en",
    source="GLUE MRPC, 1 a paraphrase; train is Microsoft's less GLUE's dev, and Microsoft's test has its labels",
    sources={
        "train": (Source("train.tsv", Either((ERNIE_PAIR, _MICROSOFT))), Source("msr_paraphrase_train.txt", Mrpc("dev.tsv"))),
        "dev": (Source("dev.tsv", Either((ERNIE_PAIR, _MICROSOFT))),),
        "test": (
            Source("msr_paraphrase_test.txt", _MICROSOFT),
            Source("test.tsv", Either((unlabelled(ERNIE_PAIR), unlabelled(_pair("#1 String", "#2 String"))))),
        ),
    },
    rows={"train": 3668, "dev": 408, "test": 1725},
    presets={"base": Preset(3e-5, 4, 32, 128, 0.1, 0.0), "large": Preset(3e-5, 4, 16, 128, 0.1, 0.0)},
)  # fmt: skip

_STS = Table({"text_a": "sentence1", "text_b": "sentence2", "value": "score", "id": "index"}, optional=("id",))
_ERNIE_STS = Table({"value": "label", "text_a": "text_a", "text_b": "text_b", "id": "qid"}, optional=("id",), others=False)
_STS_ORIGINAL = Table({"value": 4, "text_a": 5, "text_b": 6}, header=False, widths=(7, 9))
_STS_FILES = _files(_ERNIE_STS, _STS)
STSB = Benchmark(
    name="stsb", kind="regression", labels=(), metrics=(PEARSON, SPEARMAN, PEARSON_SPEARMAN), encode=regression.encode, language="en",
    source="GLUE STS-B, likeness from 0 to 5; the files of its authors (Cer et al. 2017) have the test scores, in GLUE's order",
    sources={
        "train": (*_STS_FILES["train"], Source("original/sts-train.csv", _STS_ORIGINAL)),
        "dev": (*_STS_FILES["dev"], Source("original/sts-dev.csv", _STS_ORIGINAL)),
        "test": (Source("original/sts-test.csv", _STS_ORIGINAL), *_STS_FILES["test"]),
    },
    rows={"train": 5749, "dev": 1500, "test": 1379},
    presets={"base": Preset(5e-5, 3, 128, 128, 0.1, 0.0), "large": Preset(5e-5, 3, 128, 128, 0.1, 0.0)},
)  # fmt: skip

_QQP = _pair("question1", "question2", "is_duplicate", "id")
_QQP_BARE = Table({"id": 0, "text_a": 3, "text_b": 4, "label": 5}, header=False, max_malformed=1)
_QQP_FILES = _files(ERNIE_PAIR, _QQP)
QQP = Benchmark(
    name="qqp", kind="classification", labels=_YES_NO, metrics=(ACCURACY, F1, ACCURACY_F1), encode=encode, language="en",
    source="GLUE QQP, 1 the same question; a few rows of its train file lack a column",
    sources={
        "train": (
            Source("train.tsv", Either((ERNIE_PAIR, replace(_QQP, max_malformed=50)))), Source("sample.train.json", _SAMPLE),
            Source("part.new_dev.tsv", _QQP_BARE),
        ),
        "dev": (*_QQP_FILES["dev"], Source("sample.dev.json", _SAMPLE)),
        "test": _QQP_FILES["test"],
    },
    rows={"train": 363_846, "dev": 40_430, "test": 390_965},
    presets={"base": Preset(3e-5, 3, 256, 128, 0.1, 0.0), "large": Preset(5e-5, 3, 256, 128, 0.1, 0.0)},
)  # fmt: skip

_MNLI = _pair("sentence1", "sentence2", "gold_label")
_ERNIE_MNLI = replace(ERNIE_PAIR, names={"0": "contradiction", "1": "neutral", "2": "entailment"})


_MNLI_TRAIN = (Source("train.tsv", Either((_ERNIE_MNLI, _MNLI))), Source("sample.train.json", _SAMPLE))
MNLI = Benchmark(
    name="mnli", kind="classification", labels=("contradiction", "neutral", "entailment"), metrics=(ACCURACY,), encode=encode, language="en",
    source="GLUE MNLI, dev and test of the genres that train has",
    sources={
        "train": _MNLI_TRAIN,
        "dev": (Source("dev_matched.tsv", _MNLI), Source("m/dev.tsv", _ERNIE_MNLI), Source("sample.dev.json", _SAMPLE)),
        "test": (Source("test_matched.tsv", unlabelled(_MNLI)), Source("m/test.tsv", unlabelled(_ERNIE_MNLI))),
    },
    rows={"train": 392_702, "dev": 9815, "test": 9796},
    presets={"base": Preset(3e-5, 3, 512, 128, 0.1, 0.0), "large": Preset(3e-5, 3, 256, 128, 0.1, 0.0)},
)  # fmt: skip
MNLI_MM = replace(
    MNLI, name="mnli_mm", source="GLUE MNLI, dev and test of genres that train does not have", trained_by="mnli", presets={},
    sources={
        "dev": (Source("dev_mismatched.tsv", _MNLI), Source("mm/dev.tsv", _ERNIE_MNLI)),
        "test": (Source("test_mismatched.tsv", unlabelled(_MNLI)), Source("mm/test.tsv", unlabelled(_ERNIE_MNLI))),
    },
    rows={"dev": 9832, "test": 9847},
)  # fmt: skip

_QNLI_FILES = _files(_ERNIE_RTE, _pair("question", "sentence"))
QNLI = Benchmark(
    name="qnli", kind="classification", labels=_RTE, metrics=(ACCURACY,), encode=encode, language="en",
    source="GLUE QNLI, whether the sentence answers the question",
    sources=_QNLI_FILES | {"train": (*_QNLI_FILES["train"], Source("sample.train.json", _SAMPLE))},
    rows={"train": 104_743, "dev": 5463, "test": 5463},
    presets={"base": Preset(2e-5, 4, 256, 128, 0.1, 0.0), "large": Preset(2e-5, 4, 256, 128, 0.1, 0.0)},
)  # fmt: skip

RTE = Benchmark(
    name="rte", kind="classification", labels=_RTE, metrics=(ACCURACY,), encode=encode, language="en", source="GLUE RTE",
    sources=_files(_ERNIE_RTE, _pair("sentence1", "sentence2")),
    rows={"train": 2490, "dev": 277, "test": 3000},
    presets={"base": Preset(2e-5, 4, 4, 128, 0.1, 0.0), "large": Preset(3e-5, 5, 16, 128, 0.1, 0.0)},
)  # fmt: skip

WNLI = Benchmark(
    name="wnli", kind="classification", labels=_YES_NO, metrics=(ACCURACY,), encode=encode, language="en", source="GLUE WNLI, 1 entailment",
    sources=_files(ERNIE_PAIR, _pair("sentence1", "sentence2")),
    rows={"train": 635, "dev": 71, "test": 146},
    presets={"base": Preset(2e-5, 4, 8, 512, 0.1, 0.0), "large": Preset(2e-5, 4, 8, 512, 0.1, 0.0)},
)  # fmt: skip


def encode_diagnostics(examples: Sequence[Example], benchmark: Benchmark, tokenizer: Tokenizer, max_seq_len: int) -> Encoded:
    """Encode the diagnostics for a model of `MNLI`, whose outputs are float32[n, 3]: scored in two classes, answered in MNLI's three.

    Args:
        examples: n rows.
        benchmark: AX.
        tokenizer: of the model's vocabulary.
        max_seq_len: longest row in tokens, specials included.
    """
    encoded = classification.encode(examples, benchmark, tokenizer, max_seq_len)
    gold = np.array([s.label for s in encoded.samples], dtype=np.int64)

    def outcomes(outputs: Outputs) -> Counts:
        return classification_counts(gold, (outputs.argmax(-1) == MNLI.labels.index("entailment")).astype(np.int64))

    def answers(outputs: Outputs) -> list[dict[str, Any]]:
        return [{"label": MNLI.labels[int(p.argmax())], "probabilities": p.round(6).tolist()} for p in probabilities(outputs)]

    return replace(encoded, outcomes=outcomes, answers=answers)


_DIAGNOSTIC_FULL = Table(
    {"text_a": "Premise", "text_b": "Hypothesis", "label": "Label"}, names={"contradiction": "not_entailment", "neutral": "not_entailment"}
)
AX = Benchmark(
    name="ax", kind="classification", labels=_RTE, metrics=(MCC, ACCURACY), encode=encode_diagnostics, language="en", trained_by="mnli",
    source=(
        "GLUE's diagnostics, read by the model of mnli: there is no train set. Labels in two classes, as SuperGLUE's AX-b has them; "
        "the score that GLUE reports is of three"
    ),
    sources={
        "test": (
            Source("AX-b.jsonl", JsonLines({"text_a": "sentence1", "text_b": "sentence2", "label": "label", "id": "idx"})),
            Source("diagnostic-full.tsv", _DIAGNOSTIC_FULL),
            Source("diagnostic.tsv", Either((unlabelled(ERNIE_PAIR), unlabelled(_pair("sentence1", "sentence2"))))),
        )
    },
    rows={"test": 1104},
)  # fmt: skip
