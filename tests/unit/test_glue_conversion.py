"""GLUE's files in ERNIE's layout: over the real files no row is lost and no character changed; what is malformed is named."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ernie_core.benchmarks.glue_conversion import convert
from ernie_core.errors import InputError, OutputError
from jobs.cli import main

# Rows of the data folder's README.
ROWS = {
    "CoLA/train.tsv": 8551, "CoLA/dev.tsv": 1043, "CoLA/test.tsv": 1063,
    "SST-2/train.tsv": 67349, "SST-2/dev.tsv": 872, "SST-2/test.tsv": 1821,
    "MRPC/train.tsv": 3668, "MRPC/dev.tsv": 408, "MRPC/test.tsv": 1725,
    "STS-B/train.tsv": 5749, "STS-B/dev.tsv": 1500, "STS-B/test.tsv": 1379,
    "RTE/train.tsv": 2490, "RTE/dev.tsv": 277, "RTE/test.tsv": 3000,
    "WNLI/train.tsv": 635, "WNLI/dev.tsv": 71, "WNLI/test.tsv": 146,
}  # fmt: skip
# ernie.md 7.3, counted from 1: columns of the texts, of the label in train and dev; the test files' texts where they differ.
PLACES: dict[str, tuple[tuple[int, ...], int, tuple[int, ...]]] = {
    "CoLA": ((4,), 2, (2,)),
    "SST-2": ((1,), 2, (2,)),
    "STS-B": ((8, 9), 10, (8, 9)),
    "RTE": ((2, 3), 4, (2, 3)),
    "WNLI": ((2, 3), 4, (2, 3)),
}
QQP_HEAD = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
MNLI_HEAD = "index\tpromptID\tpairID\tgenre\ta\tb\tc\td\tsentence1\tsentence2"


def raw(folder: Path, name: str) -> bytes:
    path = folder / name
    return path.read_bytes() if path.exists() else gzip.decompress(path.with_name(path.name + ".gz").read_bytes())


def cells(data: bytes) -> list[list[str]]:
    return [line.split("\t") for line in data.decode().removesuffix("\n").split("\n")]


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def cola(folder: Path, train: str | bytes) -> Path:
    return write(folder, {"CoLA/train.tsv": train, "CoLA/dev.tsv": "s\t1\t\tIt is.\n", "CoLA/test.tsv": "index\tsentence\n0\tIt was.\n"})


def run(folder: Path, out: Path, *, drop_malformed: bool = False) -> tuple[dict[str, dict[str, int]], list[str]]:
    said: list[str] = []
    return convert(folder, out, said.append, drop_malformed=drop_malformed), said


def error_of(folder: Path, *, drop_malformed: bool = False) -> InputError:
    """Return the error of a conversion, and see that it left nothing behind."""
    with pytest.raises(InputError) as caught:
        run(folder, folder.parent / "out", drop_malformed=drop_malformed)
    assert not (folder.parent / "out").exists()
    return caught.value


@pytest.fixture(scope="module")
def glue(test_data: Path) -> Path:
    return test_data / "glue"


@pytest.fixture(scope="module")
def real(glue: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, int]], list[str]]:
    """The real tasks whose files are all there: (output, table of rows, remarks)."""
    folder = tmp_path_factory.mktemp("glue")
    for task in ("CoLA", "SST-2", "MRPC", "STS-B", "RTE", "WNLI"):
        (folder / task).symlink_to(glue / task)
    out = tmp_path_factory.mktemp("out")
    return (out, *run(folder, out))


def test_every_row_of_the_real_files_is_written(real: tuple[Path, dict[str, dict[str, int]], list[str]]) -> None:
    out, table, said = real
    assert table == {name: {"in": n, "out": n, "dropped": 0} for name, n in ROWS.items()}
    assert {str(p.relative_to(out)): p.read_bytes().count(b"\n") - 1 for p in out.rglob("*") if p.is_file()} == ROWS
    assert said == [
        "MRPC: no train.tsv, so it is made from Microsoft's files and GLUE's dev ids",
        "skipped, no such folder: QQP, MNLI, QNLI, diagnostic",
    ]


@pytest.mark.parametrize("task", PLACES)
def test_columns_and_characters_are_those_of_the_raw_file(task: str, glue: Path, real: tuple[Path, dict[str, dict[str, int]], list[str]]) -> None:
    texts, label, test_texts = PLACES[task]
    for subset in ("train", "dev", "test"):
        theirs, ours = cells(raw(glue, f"{task}/{subset}.tsv")), cells((real[0] / task / f"{subset}.tsv").read_bytes())
        theirs = theirs if task == "CoLA" and subset != "test" else theirs[1:]  # no header there: the seed loses this row
        names = {"entailment": "1", "not_entailment": "0"}
        expected = [[r[c - 1] for c in (test_texts if subset == "test" else texts)] for r in theirs]
        if subset == "test":
            head = ["qid", "text_a", *["text_b"][: len(texts) - 1], "label"]
            rows = [[r[0], *t, "-1"] for r, t in zip(theirs, expected, strict=True)]
        else:
            labels = [names.get(r[label - 1], r[label - 1]) for r in theirs]
            head = ["label", "text_a"] if len(texts) == 1 else ["text_a", "text_b", "label"]
            rows = [[y, *t] if len(t) == 1 else [*t, y] for y, t in zip(labels, expected, strict=True)]
        assert ours == [head, *rows]


def test_mrpc_is_microsoft_s_text_divided_by_glue_s_dev_ids(glue: Path, real: tuple[Path, dict[str, dict[str, int]], list[str]]) -> None:
    theirs = [line.split("\t") for line in raw(glue, "MRPC/msr_paraphrase_train.txt").decode().split("\r\n")[1:-1]]
    pairs = {(r[1], r[2]) for r in cells(raw(glue, "MRPC/dev.tsv"))[1:]}
    assert len(pairs) == 408
    for subset, inside in (("train", False), ("dev", True)):
        rows = [[r[3], r[4], r[0]] for r in theirs if ((r[1], r[2]) in pairs) == inside]
        assert cells((real[0] / f"MRPC/{subset}.tsv").read_bytes()) == [["text_a", "text_b", "label"], *rows]
    test = (real[0] / "MRPC/test.tsv").read_bytes()
    assert b"\r" not in test
    assert [r[0] for r in cells(test)[1:]] == [str(n) for n in range(1725)]
    quotes = raw(glue, "MRPC/msr_paraphrase_test.txt").count(b'"')
    assert test.count(b'"') == quotes > 500


def test_dev_ids_alone_divide_mrpc_too(glue: Path, tmp_path: Path, real: tuple[Path, dict[str, dict[str, int]], list[str]]) -> None:
    files: dict[str, str | bytes] = {f"MRPC/msr_paraphrase_{n}.txt": raw(glue, f"MRPC/msr_paraphrase_{n}.txt") for n in ("train", "test")}
    ids = "".join(f"{r[1]}\t{r[2]}\n" for r in cells(raw(glue, "MRPC/dev.tsv"))[1:])
    run(write(tmp_path / "a", {**files, "MRPC/dev_ids.tsv": ids}), tmp_path / "out")
    for name in ("train", "dev", "test"):
        assert (tmp_path / f"out/MRPC/{name}.tsv").read_bytes() == (real[0] / f"MRPC/{name}.tsv").read_bytes()
    error = error_of(write(tmp_path / "b/glue", {**files, "MRPC/dev_ids.tsv": ids + "1\t2\n"}))
    assert "1 of 409, such as 1 2" in str(error)
    error = error_of(write(tmp_path / "c/glue", {**files, "MRPC/dev_ids.tsv": ids + "12\n"}), drop_malformed=True)
    assert "MRPC/dev_ids.tsv:409 (1 columns, not 2)" in str(error)


def test_glue_s_own_three_files_of_mrpc_come_before_microsoft_s(tmp_path: Path) -> None:
    head = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"
    files: dict[str, str | bytes] = {f"MRPC/{s}.tsv": head + '1\t7\t8\t" a\tb"\r\n' for s in ("train", "dev")}
    files |= {"MRPC/test.tsv": head.replace("Quality", "index") + "0\t7\t8\ta\tb\n", "MRPC/msr_paraphrase_train.txt": "no"}
    assert run(write(tmp_path / "glue", files), tmp_path / "out")[0]["MRPC/dev.tsv"] == {"in": 1, "out": 1, "dropped": 0}
    assert (tmp_path / "out/MRPC/dev.tsv").read_bytes() == b'text_a\ttext_b\tlabel\n" a\tb"\t1\n'
    assert (tmp_path / "out/MRPC/test.tsv").read_bytes() == b"qid\ttext_a\ttext_b\tlabel\n0\ta\tb\t-1\n"


def test_qnli_keeps_real_rows_and_maps_labels(glue: Path, tmp_path: Path) -> None:
    train = "index\tquestion\tsentence\tlabel\n0\tWhy?\tSo.\tentailment\n"
    run(
        write(tmp_path / "glue", {f"QNLI/{s}.tsv": raw(glue, f"QNLI/{s}.tsv") for s in ("dev", "test")} | {"QNLI/train.tsv": train}), tmp_path / "out"
    )
    theirs = cells(raw(glue, "QNLI/dev.tsv"))[1:]
    rows = [[r[1], r[2], str(int(r[3] == "entailment"))] for r in theirs]
    assert len(rows) == 5463
    assert cells((tmp_path / "out/QNLI/dev.tsv").read_bytes())[1:] == rows
    assert len(cells((tmp_path / "out/QNLI/test.tsv").read_bytes())) == 5464


def test_mnli_has_both_parts_and_the_diagnostics(glue: Path, tmp_path: Path) -> None:
    train = (glue / "MNLI/kshot-13.train.tsv").read_bytes()
    dev = f"{MNLI_HEAD}\tlabel1\tlabel2\tlabel3\tlabel4\tlabel5\tgold_label\n0\t1\t1n\tg\t\t\t\t\t it \tis\tx\tx\tx\tx\tx\tneutral\n"
    test = f"{MNLI_HEAD}\n0\t1\t1n\tg\t\t\t\t\tit\t is\n"
    files: dict[str, str | bytes] = {f"MNLI/dev_{p}matched.tsv": dev for p in ("", "mis")} | {f"MNLI/test_{p}matched.tsv": test for p in ("", "mis")}
    files |= {"MNLI/train.tsv": train, "diagnostic/diagnostic.tsv": "index\tsentence1\tsentence2\n0\ta\tb\n"}
    table, _ = run(write(tmp_path / "glue", files), tmp_path / "out")
    assert {name: rows["out"] for name, rows in table.items()} == {
        "MNLI/train.tsv": 48, "MNLI/m/dev.tsv": 1, "MNLI/m/test.tsv": 1, "MNLI/mm/dev.tsv": 1, "MNLI/mm/test.tsv": 1, "MNLI/diagnostic.tsv": 1,
    }  # fmt: skip
    ids = {"contradiction": "0", "neutral": "1", "entailment": "2"}
    rows = [[r[8], r[9], ids[r[11]]] for r in cells(train)[1:]]
    assert {r[2] for r in rows} == {"0", "1", "2"}
    assert cells((tmp_path / "out/MNLI/train.tsv").read_bytes())[1:] == rows
    assert (tmp_path / "out/MNLI/mm/dev.tsv").read_bytes() == b"text_a\ttext_b\tlabel\n it \tis\t1\n"
    assert (tmp_path / "out/MNLI/m/test.tsv").read_bytes() == b"qid\ttext_a\ttext_b\tlabel\n0\tit\t is\t-1\n"
    assert (tmp_path / "out/MNLI/diagnostic.tsv").read_bytes() == b"qid\ttext_a\ttext_b\tlabel\n0\ta\tb\t-1\n"


def test_a_real_malformed_row_is_named_and_left_out_only_when_asked(glue: Path, tmp_path: Path) -> None:
    part = raw(glue, "QQP/part.new_dev.tsv")
    files: dict[str, str | bytes] = {
        "QQP/train.tsv": (glue / "QQP/kshot-13.train.tsv").read_bytes(),
        "QQP/dev.tsv.gz": gzip.compress(QQP_HEAD.encode() + part),
    }
    folder = write(tmp_path / "glue", {**files, "QQP/test.tsv": "id\tquestion1\tquestion2\n0\ta?\tb?\n"})
    assert error_of(write(folder, {"QQP/dev.tsv": part})).code == "E-BENCH-HEADER"
    (folder / "QQP/dev.tsv").unlink()
    error = error_of(folder)
    assert (error.code, error.exit_code) == ("E-BENCH-ROW", 3)
    assert "1 rows of GLUE's files are malformed; nothing was written" in str(error)
    assert error.found == "QQP/dev.tsv.gz:2 (5 columns, not 6)"
    table, said = run(folder, tmp_path / "out", drop_malformed=True)
    assert table["QQP/dev.tsv"] == {"in": 23497, "out": 23496, "dropped": 1}
    assert said[-1] == "1 malformed rows left out: QQP/dev.tsv.gz:2 (5 columns, not 6)"
    assert cells((tmp_path / "out/QQP/dev.tsv").read_bytes())[1:] == [r[3:] for r in cells(part)[1:]]


BAD = [
    (b"s\t1\t\n", "(3 columns, not 4)"),
    (b"s\t1\t\ta\tb\n", "(5 columns, not 4)"),
    (b"\n", "(1 columns, not 4)"),
    (b"s\t2\t\tok\n", "(label '2' is none of 0, 1)"),
    (b"s\t\t\tok\n", "(label '' is none of 0, 1)"),
    (b"s\t1 \t\tok\n", "(label '1 ' is none of 0, 1)"),
    (b"s\t1\t\t\xff\n", "(no UTF-8 at its byte 5)"),
]


@pytest.mark.parametrize(("row", "why"), BAD)
def test_each_kind_of_malformed_row_is_named_by_line(row: bytes, why: str, tmp_path: Path) -> None:
    folder = cola(tmp_path / "glue", b"s\t1\t\tgood\n" + row + b"s\t0\t*\tgood")
    assert error_of(folder).found == f"CoLA/train.tsv:2 {why}"
    table, _ = run(folder, tmp_path / "out", drop_malformed=True)
    assert table["CoLA/train.tsv"] == {"in": 3, "out": 2, "dropped": 1}
    assert (tmp_path / "out/CoLA/train.tsv").read_bytes() == b"label\ttext_a\n1\tgood\n0\tgood\n"


@pytest.mark.parametrize("score", ["", "nan", "5.001", "-1", "4,5", " 4", "1_0"])
def test_scores_of_sts_b_are_numbers_from_0_to_5(score: str, tmp_path: Path) -> None:
    head = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2"
    row = "0\tg\tf\ty\to\ts\ts\ta\tb"
    files: dict[str, str | bytes] = {f"STS-B/{s}.tsv": f"{head}\tscore\n{row}\t5.000\n{row}\t{y}\n" for s, y in (("train", score), ("dev", "0"))}
    folder = write(tmp_path / "glue", files | {"STS-B/test.tsv": f"{head}\n{row}\n"})
    assert error_of(folder).found == f"STS-B/train.tsv:3 (score '{score}' is no number from 0 to 5)"


def test_ten_of_many_malformed_rows_are_named(tmp_path: Path) -> None:
    error = error_of(cola(tmp_path / "glue", "s\t1\t\tgood\n" + "bad\n" * 13))
    assert error.what.startswith("13 rows")
    assert error.found.startswith("CoLA/train.tsv:2 (")
    assert error.found.count("CoLA/train.tsv:") == 10
    assert error.found.endswith("CoLA/train.tsv:11 (1 columns, not 4) and 3 more")


def test_white_space_quotes_and_odd_line_marks_inside_a_field_stay(tmp_path: Path) -> None:
    text = ' "He said \u2028 it\u0085\x0b\x0c, \r""x" \u00a0\ufeff '
    run(cola(tmp_path / "glue", f"\ufeffs\t1\t\t{text}\r\ns\t0\t*\t\r\ns\t0\t*\t \r\r\n"), tmp_path / "out")
    assert (tmp_path / "out/CoLA/train.tsv").read_bytes() == f"label\ttext_a\n1\t{text}\n0\t\n0\t \r\n".encode()


def test_folders_that_are_absent_or_lack_files_are_named(tmp_path: Path) -> None:
    assert "one of the folders CoLA, SST-2, " in error_of(tmp_path / "nowhere").expected
    folder = write(cola(tmp_path / "glue", "s\t1\t\tok\n"), {"RTE/dev.tsv": "", "MRPC/dev.tsv": ""})
    (folder / "CoLA/dev.tsv").unlink()
    error = error_of(folder)
    assert error.code == "E-BENCH-MISSING"
    assert error.expected.startswith("CoLA/dev.tsv, MRPC/msr_paraphrase_train.txt, MRPC/msr_paraphrase_test.txt, RTE/train.tsv, RTE/test.tsv (")
    (folder / "MRPC/dev.tsv").unlink()
    assert "MRPC/dev.tsv or dev_ids.tsv" in error_of(folder).expected


def test_empty_and_damaged_files_and_the_input_s_own_folder_are_refused(tmp_path: Path) -> None:
    folder = cola(tmp_path / "glue", "")
    assert "E-BENCH-EMPTY there is no row for CoLA/train.tsv" in str(error_of(folder))
    (folder / "CoLA/train.tsv").unlink()
    write(folder, {"CoLA/train.tsv.gz": gzip.compress(b"s\t1\t\tok\n" * 1000)[:-9]})
    assert error_of(folder).code == "E-GZIP"
    before = {p: p.read_bytes() for p in folder.rglob("*.tsv")}
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(OutputError, match="E-OUTPUT-FOREIGN"):
        run(folder, tmp_path / "link")
    assert {p: p.read_bytes() for p in folder.rglob("*.tsv")} == before


def test_the_command_prints_the_table_and_exits_by_the_kind_of_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = cola(tmp_path / "glue", "s\t1\t\tgood\nbad\n")
    assert main(["convert-glue", str(folder), str(tmp_path / "out")]) == 3
    assert "leave them out with --drop-malformed" in capsys.readouterr().err
    assert main(["convert-glue", str(folder), str(tmp_path / "out"), "--drop-malformed"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[-4:] == [
        ["file", "rows", "in", "out", "dropped"], ["CoLA/train.tsv", "2", "1", "1"], ["CoLA/dev.tsv", "1", "1", "0"], ["CoLA/test.tsv", "1", "1", "0"],
    ]  # fmt: skip
    assert main(["convert-glue", str(folder), str(folder)]) == 5
