"""GLUE's own files -> ERNIE's TSV layout, losing no row: what the seed's `cvt.sh` is for (ernie.md 7.3).

GLUE's files are split at TAB and line feed only: no quoting, no escaping. A field is never stripped; a byte order mark at the head of a file and
the CR of a CR LF are no part of a field. Columns are found by name, so that a row has as many of them as its file's header, or is named malformed.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ernie_core.benchmarks.glue_files import DEV, DEV_IDS, MSR_TEST, MSR_TRAIN, PAIR_IDS, TASKS, RawFile
from ernie_core.errors import InputError, OutputError, printable
from ernie_core.manifest import atomic_write

_TOP_SCORE = 5.0  # STS-B's scores are 0 to 5
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
_SHOWN = 10


@dataclass
class _Output:
    """One file to be written: its bytes so far, the rows read for it, and those left out by where and why."""

    data: bytearray
    rows_in: int = 0
    rows_out: int = 0
    malformed: list[str] = field(default_factory=list)


class _MalformedError(ValueError):
    """Why a row cannot be converted."""


def convert(source: Path, target: Path, say: Callable[[str], None], *, drop_malformed: bool = False) -> dict[str, dict[str, int]]:
    """Convert GLUE's folders; all of them are read and checked before the first file is written.

    Args:
        source: holds GLUE's folders (CoLA, SST-2, …, diagnostic); those that are absent are skipped. MRPC is GLUE's three files, or Microsoft's two
            with GLUE's dev ids (`dev_ids.tsv`, or the ids in `dev.tsv`; the dev rows are Microsoft's too, so that all text has one form).
        target: the output, TASK/{train,dev,test}.tsv, MNLI/{m,mm}/{dev,test}.tsv, MNLI/diagnostic.tsv; test files have label -1.
        say: gets one line a remark.
        drop_malformed: leave out malformed rows instead of refusing them: wrong number of columns, unknown label, no index, no UTF-8.

    Returns:
        File below `target` -> {"in": rows of GLUE's file, "out": rows written, "dropped": malformed rows}.

    Raises:
        InputError: E-BENCH-MISSING (no folder, or files of one), E-BENCH-HEADER, E-BENCH-ROW (up to 10 malformed rows are named), E-BENCH-EMPTY, E-GZIP.
        OutputError: E-OUTPUT-FOREIGN, the output would overwrite GLUE's files.

    Example: CoLA/train.tsv ``gj04 TAB 1 TAB TAB The box broke.`` -> ``label TAB text_a``, ``1 TAB The box broke.``; its row: {"in": 1, "out": 1, "dropped": 0}.
    """
    if target.resolve() == source.resolve():
        raise OutputError("E-OUTPUT-FOREIGN", "the output would overwrite GLUE's own files", where=str(target), fix="give another folder")
    files = _found(source, say)
    outputs: dict[str, _Output] = {}
    for file, path in files.items():
        if file is MSR_TRAIN:
            ids = DEV_IDS if DEV_IDS in files else DEV
            outputs |= _split_mrpc(source, path, ids, files[ids])
        elif file.target:
            outputs |= _convert_file(file, source, path)
    malformed = [row for output in outputs.values() for row in output.malformed]
    if malformed and not drop_malformed:
        raise InputError(
            "E-BENCH-ROW", f"{len(malformed)} rows of GLUE's files are malformed; nothing was written", where=str(source),
            found=_some(malformed), fix="fetch the files again, correct the rows, or leave them out with --drop-malformed",
        )  # fmt: skip
    if malformed:
        say(f"{len(malformed)} malformed rows left out: {_some(malformed)}")
    for name, output in outputs.items():
        if not output.rows_out:
            raise InputError("E-BENCH-EMPTY", f"there is no row for {name}", where=str(source), fix="fetch GLUE's files again")
    for name, output in outputs.items():
        atomic_write(target / name, bytes(output.data))
    return {name: {"in": o.rows_in, "out": o.rows_out, "dropped": len(o.malformed)} for name, o in outputs.items()}


def _some(rows: list[str]) -> str:
    return ", ".join(rows[:_SHOWN]) + (f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else "")


def _found(source: Path, say: Callable[[str], None]) -> dict[RawFile, Path]:
    """Return the files of the folders that are there, each with its path; says which folders are not, and refuses folders that lack files."""
    tasks = {task: files for task, files in TASKS.items() if (source / task).is_dir()}
    if not tasks:
        expected = f"one of the folders {', '.join(TASKS)}"
        raise InputError("E-BENCH-MISSING", "no data of GLUE here", where=str(source), expected=expected, fix="give GLUE's folder")
    if "MRPC" in tasks and _stored(source, tasks["MRPC"][0]) is None:
        say("MRPC: no train.tsv, so it is made from Microsoft's files and GLUE's dev ids")
        tasks["MRPC"] = (MSR_TRAIN, MSR_TEST, DEV if _stored(source, DEV_IDS) is None else DEV_IDS)
    paths = {file: _stored(source, file) for files in tasks.values() for file in files}
    missing = [file.path + (" or dev_ids.tsv" if file is DEV else "") for file, path in paths.items() if path is None]
    if missing:
        raise InputError(
            "E-BENCH-MISSING", "folders of GLUE lack files; nothing was written", where=str(source), expected=", ".join(missing) + " (each may end in .gz)",
            fix="put them there, or take the folder away to leave the task out",
        )  # fmt: skip
    if absent := [task for task in TASKS if task not in tasks]:
        say(f"skipped, no such folder: {', '.join(absent)}")
    return {file: path for file, path in paths.items() if path is not None}


def _stored(source: Path, file: RawFile) -> Path | None:
    plain = source / file.path
    return next((path for path in (plain, plain.with_name(plain.name + ".gz")) if path.is_file()), None)


def _split_mrpc(source: Path, path: Path, ids: RawFile, ids_path: Path) -> dict[str, _Output]:
    """Convert Microsoft's training file to MRPC/train.tsv and MRPC/dev.tsv, the rows whose pair of ids is GLUE's dev set."""
    wrong = _Output(bytearray())
    pairs = {_pair(record) for _, record in _records(ids, source, ids_path, PAIR_IDS, wrong)}
    if wrong.malformed:  # a dev row that is not known as one would join the training set
        raise InputError(
            "E-BENCH-ROW", "GLUE's dev ids of MRPC have malformed rows", where=str(source), found=_some(wrong.malformed), fix="correct them"
        )
    unseen = set(pairs)

    def route(record: Mapping[str, str]) -> str:
        unseen.discard(_pair(record))
        return DEV.path if _pair(record) in pairs else MSR_TRAIN.target

    outputs = _convert_file(MSR_TRAIN, source, path, route, PAIR_IDS)
    if len(unseen) > len(outputs[MSR_TRAIN.target].malformed):
        raise InputError(
            "E-BENCH-ROW", "pairs of GLUE's dev set are not in Microsoft's training file", where=str(ids_path),
            found=f"{len(unseen)} of {len(pairs)}, such as {printable(' '.join(min(unseen)))}", fix="fetch both files again",
        )  # fmt: skip
    return outputs


def _pair(record: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(record[name] for name in PAIR_IDS)


def _convert_file(
    file: RawFile, source: Path, path: Path, route: Callable[[Mapping[str, str]], str] | None = None, also: tuple[str, ...] = ()
) -> dict[str, _Output]:
    """Convert one file to its target, or each row to the one `route` says; malformed rows count for the file's target. `also`: further columns needed."""
    head = ("\t".join(file.columns) + "\n").encode()
    outputs = {file.target: _Output(bytearray(head))}
    needed = tuple(name for name in (*file.texts, file.label, file.index, *also) if name)
    for number, record in _records(file, source, path, needed, outputs[file.target]):
        try:
            line = "\t".join(_fields(file, record, number)) + "\n"
        except _MalformedError as e:
            outputs[file.target].rows_in += 1
            outputs[file.target].malformed.append(_place(source, path, number, str(e)))
            continue
        output = outputs.setdefault(route(record), _Output(bytearray(head))) if route else outputs[file.target]
        output.data += line.encode()
        output.rows_in += 1
        output.rows_out += 1
    return outputs


def _place(source: Path, path: Path, number: int, why: str) -> str:
    return f"{path.relative_to(source)}:{number} ({why})"


def _fields(file: RawFile, record: Mapping[str, str], number: int) -> tuple[str, ...]:
    """Return one row's fields in the order of `file.columns`."""
    texts = tuple(record[name] for name in file.texts)
    if not file.label:
        qid = record[file.index] if file.index else str(number - 2)  # line 2 holds row 0
        if not (qid.isascii() and qid.isdigit()):
            raise _MalformedError(f"index '{printable(qid, 20)}' is no number")
        return (qid, *texts, "-1")
    raw = record[file.label]
    if file.labels:
        if raw not in file.labels:
            raise _MalformedError(f"label '{printable(raw, 20)}' is none of {', '.join(file.labels)}")
        label = file.labels[raw]
    else:
        if not _NUMBER.fullmatch(raw) or float(raw) > _TOP_SCORE:
            raise _MalformedError(f"score '{printable(raw, 20)}' is no number from 0 to 5")
        label = raw
    return (label, *texts) if len(texts) == 1 else (*texts, label)


def _records(file: RawFile, source: Path, path: Path, needed: tuple[str, ...], output: _Output) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number from 1, column -> field) of a file's rows; those that cannot be split into its columns go to `output.malformed`."""
    header: list[str] = list(file.header)
    for number, line in _lines(path):
        try:
            cells = line.decode().split("\t")
        except UnicodeDecodeError as e:
            cells = []
            why = f"no UTF-8 at its byte {e.start}"
        else:
            why = f"{len(cells)} columns, not {len(header)}"
        if not header:
            if missing := [name for name in needed if name not in cells]:
                raise InputError(
                    "E-BENCH-HEADER", "the first line of a file of GLUE names not all its columns", where=f"{path}:1", expected=", ".join(missing),
                    found=printable(line), fix="give GLUE's own file, with its header",
                )  # fmt: skip
            header = cells
        elif len(cells) != len(header):
            output.rows_in += 1
            output.malformed.append(_place(source, path, number, why))
        else:
            yield number, dict(zip(header, cells, strict=True))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, bytes) of a file's lines without their end; a byte order mark is taken off the first."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as f:
            for number, line in enumerate(f, 1):
                bare = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                yield number, bare.removesuffix(b"\r\n" if bare.endswith(b"\r\n") else b"\n")
    except (gzip.BadGzipFile, EOFError, zlib.error) as e:
        raise InputError("E-GZIP", "gzip file is damaged or cut off", where=str(path), found=str(e), fix="fetch the file again") from e
    except OSError as e:
        raise InputError("E-BENCH-MISSING", "cannot read a file of GLUE", where=str(path), found=str(e.strerror), fix="put the file there") from e
