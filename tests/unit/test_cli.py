"""The command line: help, exit codes, one line for each kind of error; and the workflow's tracking, with toy steps."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from corpus_prep.splits import DEFAULTS, plan_splits
from ernie_core.errors import DivergedError, IntegrityError, PreemptedError
from ernie_core.manifest import Manifest, atomic_write, write_manifest
from jobs import run as run_job
from jobs.cli import build_parser, main
from pipelines.estimate import estimate, slowness
from pipelines.recipe import load_recipe
from pipelines.recipe_schema import Model
from pipelines.steps import Step, StepContext
from pipelines.workflow import corpora_of, run_recipe, steps_of

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "pipelines/recipes/demo.yaml"


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe over one small text file, in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("你好。\n\n再见。\n", encoding="utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nworkers: 0\ncorpora:\n  a: {reader: text, path: a.txt}\n", encoding="utf-8")
    return path


def last_error(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip()


@pytest.mark.parametrize("command", [[], ["run"], ["prepare"], ["pretrain"], ["finetune"], ["report"], ["shards"], ["gc"]])
def test_every_command_has_a_help_that_teaches(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert len(text) > 200
    if command != ["shards"]:
        assert "ernie run my.yaml --dry-run" in text
        assert "exit codes: 0 done" in text


@pytest.mark.parametrize("job", ["run", "prepare", "pretrain", "finetune"])
def test_every_job_runs_as_a_module_for_ray_job_submit(recipe: Path, job: str) -> None:
    command = [sys.executable, "-m", f"jobs.{job}", str(recipe), "--print-config"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "name: mine" in done.stdout


def test_every_example_in_the_help_is_a_command_that_parses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    lines = [line.strip().split("   ")[0] for line in capsys.readouterr().out.split("examples:")[1].splitlines() if line.startswith("  ernie ")]
    assert len(lines) >= 6
    for line in lines:
        if "--train_filelist" not in line:
            build_parser().parse_args(line.split()[1:])


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["rnu", "x.yaml"], "unknown command 'rnu', expected one of run, "),
        (["run"], "the following arguments are required: RECIPE"),
        (["run", "x.yaml", "--sett", "a=1"], "unrecognized arguments: --sett"),
        (["run", "x.yaml", "--until", "pretrian"], "invalid choice: 'pretrian'"),
        (["run", "x.yaml", "--dry-run", "--print-config"], "not allowed with"),
    ],
)
def test_a_wrong_command_line_exits_2_with_one_line(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    error = last_error(capsys)
    assert caught.value.code == 2
    assert says in error
    assert "\n" not in error


def test_no_command_prints_the_help_and_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "examples:" in capsys.readouterr().out


def test_print_config_prints_a_recipe_that_loads(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(recipe), "--print-config", "--set", "seed=11"]) == 0
    text = capsys.readouterr().out
    (recipe.parent / "again.yaml").write_text(text, encoding="utf-8")
    assert load_recipe(recipe.parent / "again.yaml") == load_recipe(recipe, ["seed=11"])


def test_a_wrong_key_exits_2_within_seconds_and_loads_neither_ray_nor_torch(recipe: Path) -> None:
    code = "import sys; from jobs.cli import main; code = main(sys.argv[1:]); print('ray' in sys.modules, 'torch' in sys.modules, 'mlflow' in sys.modules); sys.exit(code)"
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, "run", str(recipe), "--set", "pretrain.epocs=1"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "False False False\n"), done.stderr
    assert "--set pretrain.epocs pretrain.epocs: unknown key, expected one of " in done.stderr
    assert time.monotonic() - start < 10  # 1 s alone; the machine is shared


@pytest.mark.parametrize(
    ("override", "code", "says"),
    [
        ("corpora.a.path=nowhere/*.txt", 3, "E-CORPUS-MISSING"),
        ("corpora.a.path=empty.txt", 3, "E-CORPUS-EMPTY"),
        ("root=/dev/null/x", 6, "E-PERMISSION"),
        ("root=s3://bucket/x", 2, "E-TRACKING-URI"),
        ("tracking.uri=ftp://x", 2, "E-TRACKING-URI"),
    ],
)
def test_bad_places_are_refused_before_any_work(recipe: Path, override: str, code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    (recipe.parent / "empty.txt").touch()
    before = sorted(recipe.parent.rglob("*"))
    assert main(["run", str(recipe), "--set", override]) == code
    error = last_error(capsys)
    assert error.startswith(f"error: {says} ")
    assert "\n" not in error
    assert sorted(recipe.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("root=ftp://host/x", "root: E-URI"),
        ("root=s3://KEY:SECRET@bucket/x", "root: E-CREDENTIALS"),
        ("prepare.vocab=s3://bucket/vocab.txt", "prepare.vocab: this is read from disk"),
        ("pretrain.init=s3://bucket/runs/a", "pretrain.init: this is read from disk"),
    ],
)
def test_an_address_where_none_is_read_is_refused(recipe: Path, override: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(recipe), "--set", override]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "SECRET" not in error


def test_a_run_folder_of_something_else_exits_5_and_stays_as_it_is(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (recipe.parent / "runs/mine").mkdir(parents=True)
    (recipe.parent / "runs/mine/notes.txt").write_text("mine")
    before = sorted(recipe.parent.rglob("*"))
    assert main(["run", str(recipe)]) == 5
    assert last_error(capsys).startswith("error: E-OUTPUT-FOREIGN ")
    assert sorted(recipe.parent.rglob("*")) == before


def test_a_step_that_the_recipe_lacks_exits_2(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finetune", str(recipe)]) == 2
    assert "this recipe has no step 'finetune'; expected one of " in last_error(capsys)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (IntegrityError("E-SHARD-HASH", "changed", where="x"), 4, "error: E-SHARD-HASH changed; at x"),
        (DivergedError("E-DIVERGED", "nan"), 7, "error: E-DIVERGED nan"),
        (PreemptedError("E-STOPPED", "saved"), 75, "error: E-STOPPED saved"),
        (KeyboardInterrupt(), 130, "stopped; finished work is kept: run the same command again to go on"),
    ],
)
def test_each_kind_of_end_has_its_line_and_exit_code(
    error: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_args: object) -> int:
        raise error

    monkeypatch.setattr(run_job, "run", fail)
    assert main(["run", "x.yaml"]) == code
    assert last_error(capsys) == line


def test_sigterm_exits_75_and_gives_the_handler_back(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(_args: object) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        return 0

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(run_job, "run", stopped)
    assert main(["run", "x.yaml"]) == 75
    assert "run the same command again" in last_error(capsys)
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_unexpected_error_is_named_a_bug_below_its_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(run_job, "run", lambda _args: 1 // 0)
    assert main(["run", "x.yaml"]) == 1
    error = last_error(capsys)
    assert "ZeroDivisionError" in error
    assert error.splitlines()[-1].startswith("error: E-BUG ")


def test_the_steps_of_the_demo_and_what_each_reads() -> None:
    steps = {step.name: step for step in steps_of(load_recipe(DEMO))}
    assert {name: step.parents for name, step in steps.items()} == {
        "import": (), "prepare": ("import",), "pretrain": ("prepare",), "finetune": ("import", "prepare", "pretrain"),
        "report": ("import", "prepare", "pretrain", "finetune"),
    }  # fmt: skip
    assert steps["import"].settings["corpora"] == ["inews", "peoples_daily", "reviews"]


def test_a_recipe_of_own_text_has_neither_import_nor_training(recipe: Path) -> None:
    loaded = load_recipe(recipe)
    steps = steps_of(loaded)
    assert [(s.name, s.parents, s.inputs) for s in steps] == [("prepare", (), ("a.txt",)), ("report", ("prepare",), ())]
    corpus = corpora_of(loaded, None)["a"]
    assert corpus == {**DEFAULTS, "reader": "text", "path": "a.txt", "weight": None}
    assert plan_splits({"a": {**corpus, "path": str(recipe)}}, 1000) == plan_splits({"a": {"reader": "text", "path": str(recipe)}}, 1000)


def test_settings_of_fine_tuning_do_not_touch_the_steps_before(recipe: Path) -> None:
    one, two = ({s.name: s.settings for s in steps_of(load_recipe(DEMO, [o]))} for o in ("seed=7", "finetune.benchmarks.reviews.epochs=9"))
    assert {name for name in one if one[name] != two[name]} == {"finetune"}


def test_the_dry_run_scales_with_the_work_and_writes_nothing(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(recipe.parent.rglob("*"))
    assert main(["run", str(DEMO), "--dry-run"]) == 0
    text = capsys.readouterr().out
    for word in ("import ", "prepare ", "pretrain ", "finetune ", "report ", "tokens", "rows", "shards", "GiB", "time "):
        assert word in text
    assert sorted(recipe.parent.rglob("*")) == before
    settings = (["pretrain.precision=fp32", f"pretrain.iterations.knowledge_masking={n}"] for n in (1200, 12000))
    one, two = (estimate(load_recipe(DEMO, s)) for s in settings)
    assert two.trained_tokens - one.trained_tokens == 10800 * 768
    assert two.seconds > one.seconds + 500
    assert slowness(Model(hidden_size=512), 6000, 0.15) > 3


def toy_steps(fail: list[BaseException]) -> list[Step]:
    def ok(context: StepContext) -> Manifest:
        assert context.run is not None
        (context.folder / "card.md").write_text("card")
        entry = atomic_write(context.folder / "out.txt", b"x")
        return write_manifest(context.folder, Manifest(context.name, context.settings, context.parent_hashes, (entry,), {}))

    def may_fail(context: StepContext) -> Manifest:
        if fail:
            raise fail.pop()
        return ok(context)

    return [Step("prepare", {"lr": 0.1}, (), ok), Step("report", {}, ("prepare",), may_fail)]


def test_every_step_is_one_mlflow_run_below_the_workflow_s_with_its_true_status(recipe: Path, empty_store: Path) -> None:
    loaded = load_recipe(recipe)
    (recipe.parent / "runs").mkdir()
    shutil.copy(empty_store, recipe.parent / "runs/mlflow.db")

    def runs() -> dict[str, str]:
        with sqlite3.connect(recipe.parent / "runs/mlflow.db") as db:
            rows = db.execute("select name, status from runs").fetchall()
        db.close()
        assert len(rows) == len(dict(rows)), "a run stands there twice"
        return dict(rows)

    def go(fail: list[BaseException], say: Callable[[str], None] = print) -> None:
        run_recipe(loaded, say, steps=toy_steps(fail))

    with pytest.raises(RuntimeError):
        go([RuntimeError("broken")])
    assert runs() == {"mine": "FAILED", "mine-prepare": "FINISHED", "mine-report": "FAILED"}
    with pytest.raises(KeyboardInterrupt):
        go([KeyboardInterrupt()])
    assert runs() == {"mine": "KILLED", "mine-prepare": "FINISHED", "mine-report": "KILLED"}
    go([])
    assert runs() == {"mine": "FINISHED", "mine-prepare": "FINISHED", "mine-report": "FINISHED"}
    with sqlite3.connect(recipe.parent / "runs/mlflow.db") as db:
        ids = dict(db.execute("select name, run_uuid from runs").fetchall())
        parents = dict(db.execute("select run_uuid, value from tags where key = 'mlflow.parentRunId'").fetchall())
        params = db.execute("select value from params where run_uuid = ? and key = 'lr'", (ids["mine-prepare"],)).fetchall()
    db.close()
    assert parents == {ids["mine-prepare"]: ids["mine"], ids["mine-report"]: ids["mine"]}
    assert params == [("0.1",)]
    said: list[str] = []
    go([], said.append)
    assert said == ["prepare: up to date", "report: up to date"]


def test_the_help_of_prepare_explains_every_reader(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["prepare", "--help"])
    shown = capsys.readouterr().out
    for name in ("text", "parquet", "html"):
        assert f"\n  {name}: " in shown
    assert "    documents: what is a document:" in shown
