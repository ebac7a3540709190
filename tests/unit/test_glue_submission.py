"""The leaderboard's zip: names, labels, sizes, equal bytes; and what `validate` finds in a damaged one."""

from __future__ import annotations

import io
import random
import zipfile
from typing import Any

import pytest

from ernie_core.benchmarks.glue_submission import TABLES, Prediction, submission, validate
from ernie_core.errors import InputError

# The sizes of GLUE's test sets.
SIZES = {
    "AX.tsv": 1104, "CoLA.tsv": 1063, "MNLI-m.tsv": 9796, "MNLI-mm.tsv": 9847, "MRPC.tsv": 1725, "QNLI.tsv": 5463,
    "QQP.tsv": 390965, "RTE.tsv": 3000, "SST-2.tsv": 1821, "STS-B.tsv": 1379, "WNLI.tsv": 146,
}  # fmt: skip
LABELS = {
    **dict.fromkeys(("ax", "mnli", "mnli_mm"), ("contradiction", "entailment", "neutral")),
    **dict.fromkeys(("qnli", "rte"), ("not_entailment", "entailment")),
    **dict.fromkeys(("cola", "mrpc", "qqp", "sst2", "wnli"), ("0", "1")),
}


def answers(name: str) -> list[Prediction]:
    n = TABLES[name].rows
    if name == "stsb":
        return [Prediction(str(i), {"value": (i % 80) / 10 - 1}) for i in range(n)]  # -1 to 6.9
    return [Prediction(str(i), {"label": LABELS[name][i % len(LABELS[name])], "probabilities": [0.1]}) for i in range(n)]


def refuse(_: str) -> None:
    raise AssertionError("nothing is to be said")


def wnli(*change: Prediction, drop: int = 0) -> InputError:
    rows = answers("wnli")
    rows[: len(change)] = change
    with pytest.raises(InputError) as caught:
        submission({"wnli": rows[: len(rows) - drop]}, refuse, partial=True)
    return caught.value


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def whole() -> bytes:
    return submission({name: answers(name) for name in TABLES}, refuse)


@pytest.fixture(scope="module")
def files(whole: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_whole_submission_has_the_leaderboard_s_files(whole: bytes, files: dict[str, bytes]) -> None:
    assert validate(whole) == []
    assert {name: data.count(b"\n") - 1 for name, data in files.items()} == SIZES
    assert list(files) == sorted(SIZES, key=str.lower)
    assert files["AX.tsv"].startswith(b"index\tprediction\n0\tcontradiction\n1\tentailment\n2\tneutral\n")
    assert files["RTE.tsv"].startswith(b"index\tprediction\n0\tnot_entailment\n1\tentailment\n")
    assert files["CoLA.tsv"].endswith(b"\n1061\t1\n1062\t0\n")
    scores = dict(line.split(b"\t") for line in files["STS-B.tsv"].splitlines()[1:])
    assert [scores[i] for i in (b"0", b"10", b"25", b"60", b"79")] == [b"0.000", b"0.000", b"1.500", b"5.000", b"5.000"]


def test_equal_predictions_give_equal_bytes_in_any_order() -> None:
    said: list[str] = []
    rows = {name: answers(name) for name in ("rte", "stsb", "ax")}
    mixed = {name: random.Random(1).sample(rows[name], len(rows[name])) for name in ("ax", "rte", "stsb")}
    one, two = (submission(r, said.append, partial=True) for r in (rows, mixed))
    assert one == two
    with zipfile.ZipFile(io.BytesIO(one)) as archive:
        assert {(i.date_time, i.create_system, i.compress_type) for i in archive.infolist()} == {((1980, 1, 1, 0, 0, 0), 3, zipfile.ZIP_STORED)}
    assert said[0] == (
        "partial, not for the leaderboard; without CoLA.tsv, MNLI-m.tsv, MNLI-mm.tsv, MRPC.tsv, QNLI.tsv, QQP.tsv, SST-2.tsv, WNLI.tsv"
    )
    assert validate(one) == [f"{name}: missing" for name in SIZES if name not in {"AX.tsv", "RTE.tsv", "STS-B.tsv"}]


def test_a_negative_zero_is_written_as_zero() -> None:
    rows = [Prediction(str(i), {"value": -0.0 if i else -0.0001}) for i in range(1379)]
    data = submission({"stsb": rows}, [].append, partial=True)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert b"-" not in archive.read("STS-B.tsv")


def test_a_missing_or_unknown_task_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        submission({"wnli": answers("wnli")}, refuse)
    assert caught.value.code == "E-GLUE-TASK"
    assert caught.value.expected == "predictions for ax, cola, mnli, mnli_mm, mrpc, qnli, qqp, rte, sst2, stsb too"
    with pytest.raises(InputError, match=r"no such task; expected some of mnli, .*; found mnl, reviews"):
        submission({"mnl": [], "wnli": answers("wnli")} | {"reviews": []}, refuse, partial=True)
    with pytest.raises(InputError, match="there are no predictions"):
        submission({}, refuse, partial=True)


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (lambda: wnli(drop=1), "E-GLUE-ROWS", "expected 146 rows; found 145"),
        (lambda: wnli(Prediction("1", {"label": "0"})), "E-GLUE-ROWS", "expected each number from 0 to 145 once; found id '1' twice"),
        (lambda: wnli(Prediction("146", {"label": "0"})), "E-GLUE-ROWS", "found id '146'"),
        (lambda: wnli(Prediction("00", {"label": "0"})), "E-GLUE-ROWS", "found id '00'"),
        (lambda: wnli(Prediction("dev-0", {"label": "0"})), "E-GLUE-ROWS", "found id 'dev-0'"),
        (lambda: wnli(Prediction("0", {"label": "entailment"})), "E-GLUE-ANSWER", 'at benchmark wnli, id 0; expected "label": one of 0, 1; found'),
        (lambda: wnli(Prediction("0", {"label": 1})), "E-GLUE-ANSWER", "found {'label': 1}"),
        (lambda: wnli(Prediction("0", {"value": 1.0})), "E-GLUE-ANSWER", "found {'value': 1.0}"),
    ],
)
def test_wrong_rows_ids_and_answers_are_named(error: Any, code: str, says: str) -> None:
    found = error()
    assert found.code == code
    assert says in str(found)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "3.0"])
def test_a_score_is_a_finite_number(value: Any) -> None:
    with pytest.raises(InputError, match=r'E-GLUE-ANSWER .* expected "value": a finite number'):
        submission({"stsb": [Prediction(str(i), {"value": value}) for i in range(1379)]}, refuse, partial=True)


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        (
            "RTE.tsv",
            b"index\tprediction\n",
            b"",
            ["RTE.tsv: first line is '0\\tnot_entailment', not 'index TAB prediction'", "RTE.tsv: 2999 rows, not 3000"],
        ),
        ("CoLA.tsv", b"1062\t0\n", b"", ["CoLA.tsv: 1062 rows, not 1063"]),
        ("QNLI.tsv", b"\n7\tentailment\n", b"\n7\t1\n", ["QNLI.tsv: line 9 is '7\\t1', not 7 TAB one of entailment, not_entailment"]),
        ("MRPC.tsv", b"\n5\t1\n", b"\n5\t1\r\n", ["MRPC.tsv: line 7 is '5\\t1\\r', not 5 TAB one of 0, 1"]),
        ("SST-2.tsv", b"\n5\t", b"\n6\t", ["SST-2.tsv: line 7 is '6\\t1', not 5 TAB one of 0, 1"]),
        ("STS-B.tsv", b"\n25\t1.500", b"\n25\t5.100", ["STS-B.tsv: line 27 is '25\\t5.100', not 25 TAB a number from 0 to 5"]),
        ("STS-B.tsv", b"\n25\t1.500", b"\n25\tnan", ["STS-B.tsv: line 27 is '25\\tnan', not 25 TAB a number from 0 to 5"]),
        ("AX.tsv", b"contradiction", b"\xff", ["AX.tsv: no UTF-8 at its byte 19"]),
    ],
)
def test_each_fault_of_a_table_is_found(name: str, old: bytes, new: bytes, says: list[str], files: dict[str, bytes]) -> None:
    assert old in files[name]
    problems = validate(zipped({name: files[name].replace(old, new, 1)}))
    assert [p for p in problems if not p.endswith(": missing")][: len(says)] == says
    assert len([p for p in problems if p.endswith(": missing")]) == len(SIZES) - 1


def test_faults_of_the_zip_itself_are_found(whole: bytes, files: dict[str, bytes]) -> None:
    small = {name: data for name, data in files.items() if name != "QQP.tsv"}
    assert validate(zipped({**small, "pred/QQP.tsv": b"", "x\x1b.tsv": b""})) == [
        "QQP.tsv: missing", "pred/QQP.tsv: not a file of the leaderboard", "x\\x1b.tsv: not a file of the leaderboard",
    ]  # fmt: skip
    assert validate(b"")[0].startswith("not a whole zip file: ")
    assert validate(whole[: len(whole) // 2])[0].startswith("not a whole zip file: ")
    place = whole.index(b"entailment")
    damaged = whole[: place + 4] + b"#" + whole[place + 5 :]
    assert validate(damaged)[0].startswith("not a whole zip file: Bad CRC-32")
    assert validate(zipped({"RTE.tsv": b"\0" * ((1 << 25) + 1)}))[7] == "RTE.tsv: larger than any answer to this task"
    buffer = io.BytesIO(zipped(small))
    with zipfile.ZipFile(buffer, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("RTE.tsv", small["RTE.tsv"])
    assert validate(buffer.getvalue()) == ["QQP.tsv: missing", "RTE.tsv: twice in the zip"]
    wrong = b"index\tprediction\n" + b"".join(b"%d\t2\n" % i for i in range(146))
    assert [p for p in validate(zipped({"WNLI.tsv": wrong})) if "missing" not in p][-1] == "WNLI.tsv: and 143 wrong lines more"
