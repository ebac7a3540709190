"""The zip that GLUE's leaderboard takes: one table of answers a test set (Wang et al. 2018; gluebenchmark.com)."""

from __future__ import annotations

import io
import math
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ernie_core.errors import InputError, closest, printable

HEADER = "index\tprediction"
_BINARY = ("0", "1")
_ENTAILMENT = ("entailment", "not_entailment")
_INFERENCE = ("entailment", "neutral", "contradiction")
_TOP_SCORE = 5.0  # STS-B's scores are 0 to 5
_SHOWN = 3
_MOST_BYTES = 1 << 25  # of one table; the largest honest one, QQP's, has 3.6 MB
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold


@dataclass(frozen=True)
class Prediction:
    """One example's answer: its id, and what `Encoded.answers` gives for it, such as {"label": "entailment"} or {"value": 3.2}."""

    id: str
    answer: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """One file of the zip: its name, the rows of GLUE's test set, and the labels it may hold; () for a score from 0 to 5."""

    file: str
    rows: int
    labels: tuple[str, ...]


TABLES: Mapping[str, Table] = {
    "ax": Table("AX.tsv", 1104, _INFERENCE),
    "cola": Table("CoLA.tsv", 1063, _BINARY),
    "mnli": Table("MNLI-m.tsv", 9796, _INFERENCE),
    "mnli_mm": Table("MNLI-mm.tsv", 9847, _INFERENCE),
    "mrpc": Table("MRPC.tsv", 1725, _BINARY),
    "qnli": Table("QNLI.tsv", 5463, _ENTAILMENT),
    "qqp": Table("QQP.tsv", 390965, _BINARY),
    "rte": Table("RTE.tsv", 3000, _ENTAILMENT),
    "sst2": Table("SST-2.tsv", 1821, _BINARY),
    "stsb": Table("STS-B.tsv", 1379, ()),
    "wnli": Table("WNLI.tsv", 146, _BINARY),
}
"""Our benchmark -> its file."""


def submission(predictions: Mapping[str, Sequence[Prediction]], say: Callable[[str], None], *, partial: bool = False) -> bytes:
    """Return the zip; equal predictions give equal bytes.

    Args:
        predictions: benchmark (`TABLES`) -> answers to its whole test set in any order; ids are the rows' numbers from 0. Scores are cut to 0 … 5.
        say: gets one line that names the files left out, if any.
        partial: whether files may be left out. The leaderboard takes whole ones only; a partial zip is for looking at.

    Raises:
        InputError: E-GLUE-TASK (an unknown benchmark, none, or without `partial` not all of them), E-GLUE-ROWS (another number of rows than the
            test set's, or ids other than 0 to n-1), E-GLUE-ANSWER (a label or score that the file cannot hold).

    Example: {"wnli": [Prediction("1", {"label": "0"}), Prediction("0", {"label": "1"}), …]} -> WNLI.tsv ``index TAB prediction``, ``0 TAB 1``, ``1 TAB 0``, ….
    """
    unknown = [name for name in predictions if name not in TABLES]
    if unknown or not predictions:
        raise InputError(
            "E-GLUE-TASK", "the leaderboard has no such task" if unknown else "there are no predictions", found=", ".join(unknown),
            expected=f"some of {closest(unknown[0] if unknown else '', TABLES, limit=20)}", fix="give predictions by the benchmarks' names",
        )  # fmt: skip
    missing = [name for name in TABLES if name not in predictions]
    if missing and not partial:
        raise InputError(
            "E-GLUE-TASK", "the leaderboard takes predictions for all tasks", expected=f"predictions for {', '.join(missing)} too",
            fix="predict their test sets, or ask for a partial zip to look at",
        )  # fmt: skip
    tables = {table.file: _lines(name, table, predictions[name]) for name, table in TABLES.items() if name in predictions}
    if missing:
        say(f"partial, not for the leaderboard; without {', '.join(TABLES[name].file for name in missing)}")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # stored: deflated bytes depend on the library's version
        for file, lines in tables.items():
            info = zipfile.ZipInfo(file, _TIME)
            info.create_system, info.external_attr = 3, 0o644 << 16  # Unix, on every system
            archive.writestr(info, "\n".join((HEADER, *lines)) + "\n")
    return buffer.getvalue()


def _lines(name: str, table: Table, predictions: Sequence[Prediction]) -> list[str]:
    where = f"benchmark {name}"
    if len(predictions) != table.rows:
        raise InputError(
            "E-GLUE-ROWS", f"{table.file} needs an answer to each row of GLUE's test set", where=where, expected=f"{table.rows} rows",
            found=f"{len(predictions)}", fix="predict GLUE's own test file, whole",
        )  # fmt: skip
    by_index: dict[int, str] = {}
    for prediction in predictions:
        index = int(prediction.id) if _INDEX.fullmatch(prediction.id) else table.rows
        if index >= table.rows or index in by_index:
            found = f"id '{printable(prediction.id)}'" + (" twice" if index in by_index else "")
            expected = f"each number from 0 to {table.rows - 1} once"
            raise InputError(
                "E-GLUE-ROWS", f"ids of {table.file} are wrong", where=where, expected=expected, found=found, fix="keep GLUE's index as id"
            )
        by_index[index] = _answer(table, prediction, where)
    return [f"{index}\t{by_index[index]}" for index in range(table.rows)]


def _answer(table: Table, prediction: Prediction, where: str) -> str:
    """Return what stands in the second column: a label's name, or a score with 3 decimals."""
    given = prediction.answer.get("label" if table.labels else "value")
    if table.labels and given in table.labels:
        return str(given)
    if not table.labels and isinstance(given, float | int) and math.isfinite(given):
        return f"{min(max(float(given), 0.0), _TOP_SCORE) + 0.0:.3f}"
    raise InputError(
        "E-GLUE-ANSWER", f"an answer that {table.file} cannot hold", where=f"{where}, id {printable(prediction.id)}",
        expected=f'"label": one of {", ".join(table.labels)}' if table.labels else '"value": a finite number',
        found=printable(repr(dict(prediction.answer))), fix="predict with this benchmark's own model and label names",
    )  # fmt: skip


def validate(data: bytes) -> list[str]:
    """Return what the leaderboard would refuse in a zip, one line a problem; [] where there is none.

    Example: a zip that lacks RTE.tsv and has one row too few in CoLA.tsv ->
        ``["CoLA.tsv: 1062 rows, not 1063", "RTE.tsv: missing"]``.
    """
    tables = {table.file: table for table in TABLES.values()}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            texts = {info.filename: _unpacked(archive, info) for info in archive.infolist() if info.filename in tables}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as e:  # RuntimeError: encrypted, or an unknown compression
        return [f"not a whole zip file: {printable(str(e))}"]
    problems = []
    for file, table in tables.items():
        if file not in texts:
            problems.append(f"{file}: missing")
        elif (raw := texts[file]) is None:
            problems.append(f"{file}: larger than any answer to this task")
        else:
            problems += [f"{file}: {problem}" for problem in _problems(table, raw)]
    problems += [f"{file}: twice in the zip" for file in tables if names.count(file) > 1]
    return problems + [f"{printable(name)}: not a file of the leaderboard" for name in sorted(set(names) - set(tables))]


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes | None:
    if info.file_size > _MOST_BYTES:
        return None
    with archive.open(info) as f:
        return f.read(info.file_size)  # a bound also on what a wrong header's data would expand to


def _problems(table: Table, raw: bytes) -> list[str]:
    try:
        header, *rows = raw.decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError as e:
        return [f"no UTF-8 at its byte {e.start}"]
    problems = [] if header == HEADER else [f"first line is '{printable(header)}', not 'index TAB prediction'"]
    if len(rows) != table.rows:
        problems.append(f"{len(rows)} rows, not {table.rows}")
    allowed = f"one of {', '.join(table.labels)}" if table.labels else "a number from 0 to 5"
    wrong = [f"line {n + 2} is '{printable(row)}', not {n} TAB {allowed}" for n, row in enumerate(rows) if not _right(table, row, n)]
    return problems + wrong[:_SHOWN] + ([f"and {len(wrong) - _SHOWN} wrong lines more"] if len(wrong) > _SHOWN else [])


def _right(table: Table, row: str, index: int) -> bool:
    number, tab, answer = row.partition("\t")
    if number != str(index) or not tab:
        return False
    if table.labels:
        return answer in table.labels
    return re.fullmatch(r"[0-9]+(\.[0-9]+)?", answer) is not None and float(answer) <= _TOP_SCORE
