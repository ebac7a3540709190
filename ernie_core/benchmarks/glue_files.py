"""GLUE's files and their columns, and where each of them stands in ERNIE's layout (ernie.md 7.2, 7.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_BINARY = {"0": "0", "1": "1"}
_ENTAILMENT = {"not_entailment": "0", "entailment": "1"}
_INFERENCE = {"contradiction": "0", "neutral": "1", "entailment": "2"}
PAIR_IDS = ("#1 ID", "#2 ID")
_MRPC_TEXTS = ("#1 String", "#2 String")


@dataclass(frozen=True, eq=False)
class RawFile:
    """One of GLUE's files, and what becomes of it.

    Args:
        path: below GLUE's folder; the file may also stand there compressed (.gz).
        target: below the output folder.
        texts: its columns that become text_a and, of a pair, text_b.
        label: its column of labels; "" in a test file, whose rows get -1.
        labels: GLUE's label -> ERNIE's; {} where the label is a score, kept as it is written.
        index: a test file's column that becomes qid; "" for the row's number from 0.
        header: names of the columns of a file that has no header line.
    """

    path: str
    target: str
    texts: tuple[str, ...]
    label: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    index: str = ""
    header: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """ERNIE's columns in the seed's order (ernie.md 7.2)."""
        texts = ("text_a", "text_b")[: len(self.texts)]
        if not self.label:
            return ("qid", *texts, "label")
        return ("label", *texts) if len(texts) == 1 else (*texts, "label")


def _task(folder: str, texts: tuple[str, ...], label: str, labels: Mapping[str, str], index: str = "index") -> tuple[RawFile, ...]:
    paths = [f"{folder}/{subset}.tsv" for subset in ("train", "dev", "test")]
    return (*(RawFile(p, p, texts, label, labels) for p in paths[:2]), RawFile(paths[2], paths[2], texts, index=index))


def _mnli() -> tuple[RawFile, ...]:
    train, dev, test = _task("MNLI", ("sentence1", "sentence2"), "gold_label", _INFERENCE)
    files = [train]
    for part, name in (("m", "matched"), ("mm", "mismatched")):
        files.append(RawFile(f"MNLI/dev_{name}.tsv", f"MNLI/{part}/dev.tsv", dev.texts, dev.label, dev.labels))
        files.append(RawFile(f"MNLI/test_{name}.tsv", f"MNLI/{part}/test.tsv", test.texts, index=test.index))
    return tuple(files)


def _cola() -> tuple[RawFile, ...]:
    header = ("source", "label", "mark", "sentence")
    train, dev, test = _task("CoLA", ("sentence",), "label", _BINARY)
    return (*(RawFile(f.path, f.target, f.texts, f.label, f.labels, header=header) for f in (train, dev)), test)


TASKS: Mapping[str, tuple[RawFile, ...]] = {
    "CoLA": _cola(),
    "SST-2": _task("SST-2", ("sentence",), "label", _BINARY),
    "MRPC": _task("MRPC", _MRPC_TEXTS, "Quality", _BINARY),
    "STS-B": _task("STS-B", ("sentence1", "sentence2"), "score", {}),
    "QQP": _task("QQP", ("question1", "question2"), "is_duplicate", _BINARY, index="id"),
    "MNLI": _mnli(),
    "QNLI": _task("QNLI", ("question", "sentence"), "label", _ENTAILMENT),
    "RTE": _task("RTE", ("sentence1", "sentence2"), "label", _ENTAILMENT),
    "WNLI": _task("WNLI", ("sentence1", "sentence2"), "label", _BINARY),
    "diagnostic": (RawFile("diagnostic/diagnostic.tsv", "MNLI/diagnostic.tsv", ("sentence1", "sentence2"), index="index"),),
}
"""GLUE's folders with their files."""
MSR_TRAIN = RawFile("MRPC/msr_paraphrase_train.txt", "MRPC/train.tsv", _MRPC_TEXTS, "Quality", _BINARY)
MSR_TEST = RawFile("MRPC/msr_paraphrase_test.txt", "MRPC/test.tsv", _MRPC_TEXTS)
DEV_IDS = RawFile("MRPC/dev_ids.tsv", "", (), header=PAIR_IDS)
DEV = RawFile("MRPC/dev.tsv", "", ())
