"""Suites: many published benchmarks on one model, as a recipe that is written down and run like any other."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from corpus_prep.benchmark_files import benchmark_inputs
from ernie_core.benchmarks.base import all_benchmarks
from ernie_core.errors import InputError
from pipelines.recipe_finetune import BenchmarkSettings

SUITES: dict[str, dict[str, tuple[str, ...]]] = {
    "zh": {
        "xnli": ("xnli",), "drcd": ("drcd",), "cmrc2018": ("cmrc2018", "cmrc"), "dureader": ("dureader", "dureader_demo"), "msra_ner": ("msra_ner",),
        "chnsenticorp": ("chnsenticorp",), "lcqmc": ("lcqmc",), "bq": ("bq", "bq_corpus"), "nlpcc_dbqa": ("nlpcc_dbqa", "nlpcc-dbqa", "dbqa"),
    },
    "glue": {
        "cola": ("CoLA",), "sst2": ("SST-2",), "mrpc": ("MRPC",), "stsb": ("STS-B",), "qqp": ("QQP",), "mnli": ("MNLI",), "mnli_mm": ("MNLI",),
        "ax": ("diagnostic", "AX", "MNLI"), "qnli": ("QNLI",), "rte": ("RTE",), "wnli": ("WNLI",),
    },
}  # fmt: skip
"""Suite -> benchmark -> names that its folder may have below the data folder: the seed's nine Chinese benchmarks, and GLUE."""
EVAL_ROWS = 1000
"""Dev rows that choose the step; the score is on all."""
_GIVEN = re.compile(r"finetune\.benchmarks\.(\w+)\.(train|dev|test)=(.+)")


@dataclass(frozen=True)
class Suite:
    """What was asked for.

    Args:
        name: out of SUITES.
        data: folder of the benchmarks' folders.
        model: a run, a model, or a folder of transformers.
        run: name of the run.
        seeds: how many.
        preset: "base", "large", or "" for our own grid.
        only: benchmarks to run; () for all.
        rows: training rows of each, at most; None = all.
        overrides: `--set` settings; those that name a benchmark's file count for what is there.
    """

    name: str
    data: Path
    model: Path
    run: str
    seeds: int
    preset: str
    only: tuple[str, ...]
    rows: int | None
    overrides: tuple[str, ...]


def run_name(suite: str, model: Path) -> str:
    """Return the name of a suite's run, from the model's folder.

    Example: ``run_name("glue", Path("ernie-2.0-base-en"))`` -> ``"glue_of_ernie_2_0_base_en"``.
    """
    return re.sub("[^a-z0-9]+", "_", f"{suite}_of_{model.resolve().name}".lower()).strip("_")[:64]


def suite_recipe(suite: Suite) -> tuple[str, list[str]]:
    """Return the recipe of a suite as YAML, and why benchmarks are left out, a line each.

    Raises:
        InputError: E-SUITE-EMPTY, the data folder holds none of them.
    """
    entries, left_out, kept = list[str](), list[str](), set[str]()
    for name, folders in SUITES[suite.name].items():
        if suite.only and name not in suite.only:
            continue
        host = all_benchmarks()[name].trained_by
        if host and host not in kept:
            left_out.append(f"{name} is left out: trials of {host} predict it, which is left out")
            continue
        folder, why = _folder(name, [suite.data / f for f in folders if (suite.data / f).is_dir()], suite.overrides)
        if folder is None:
            left_out.append(f"{name} is left out: {why or 'no folder ' + ' or '.join(folders) + f' in {suite.data}'}")
            continue
        kept.add(name)
        settings = {
            "path": str(folder),
            **({} if host else {"eval_times": 3, "eval_rows": EVAL_ROWS}),
            **({"preset": suite.preset} if suite.preset and not host else {}),
            **({"train_rows": suite.rows} if suite.rows and not host else {}),
        }
        entries.append(f"    {name}: {json.dumps(settings, ensure_ascii=False)}")
    if not entries:
        raise _nothing_there(suite, left_out)
    language = "en" if suite.name == "glue" else "zh"
    lines = [
        f"# Suite {suite.name}, written by `ernie finetune --suite`; run it again, or change it and run it: ernie run THIS",
        f"name: {suite.run}", f"language: {language}", "finetune:", f"  model: {json.dumps(str(suite.model), ensure_ascii=False)}", "  arms: [pretrained]",
        f"  seeds: [{', '.join(str(i + 1) for i in range(suite.seeds))}]", "  benchmarks:", *entries,
    ]  # fmt: skip
    return "\n".join(lines) + "\n", left_out


def _nothing_there(suite: Suite, left_out: Sequence[str]) -> InputError:
    """Return the error of a folder without any benchmark of the suite; a folder in it, or around it, that has them is named."""
    names = [folder for name, folders in SUITES[suite.name].items() if not suite.only or name in suite.only for folder in folders]
    near = [*(sorted(p for p in suite.data.iterdir() if p.is_dir()) if suite.data.is_dir() else ()), suite.data.parent]
    better = [str(place) for place in near if any((place / folder).is_dir() for folder in names)]
    present = any((suite.data / folder).is_dir() for folder in names)
    return InputError(
        "E-SUITE-EMPTY", f"no benchmark of suite {suite.name} is there", where=str(suite.data), expected=f"folders such as {', '.join(dict.fromkeys(names))}",
        found="; ".join(left_out) if present else "none of them" if suite.data.is_dir() else "no such folder",
        fix="give the folder that holds the benchmarks' folders" + (f": --data {better[0]}" if better and not present else ""),
    )  # fmt: skip


def _folder(name: str, folders: Sequence[Path], overrides: Sequence[str]) -> tuple[Path | None, str]:
    """Return the first folder that holds a benchmark's rows, or None and why the last does not."""
    given = {m[2]: m[3] for setting in overrides if (m := _GIVEN.fullmatch(setting)) and m[1] == name}
    why = ""
    for folder in folders:
        try:
            benchmark_inputs(name, BenchmarkSettings(path=str(folder)).model_dump() | given)
        except InputError as e:
            why = f"{e.what}, expected {e.expected} in {folder}"
        else:
            return folder, ""
    return None, why
