"""Fixtures shared by all tests, and the list of allowed skips."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MPLCONFIGDIR", tempfile.mkdtemp(prefix="mpl-"))

# Two shared cores: wall time per example says nothing about the code. Derandomised, so that a red run is red again.
settings.register_profile(
    "default", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.load_profile("default")

# Files that train, kill, prepare a corpus or segment much text: `make check` leaves them out, to end within a minute.
HEAVY = frozenset(
    [
        "test_audit",
        "test_checkpoint",
        "test_cli",
        "test_commands_s3",
        "test_faults_checkpoints",
        "test_faults_disk",
        "test_faults_kills",
        "test_faults_machine",
        "test_faults_text",
        "test_faults_training",
        "test_fill",
        "test_finetune",
        "test_golden_curves",
        "test_golden_stages",
        "test_import_rule",
        "test_long_resume",
        "test_long_rows",
        "test_machine_load",
        "test_lineage",
        "test_loop",
        "test_planted_signal",
        "test_prepare_boilerplate",
        "test_prepare_candidates",
        "test_prepare_entities",
        "test_prepare_flow",
        "test_prepare_near",
        "test_prepare_phrases",
        "test_prepare_s3",
        "test_prepare_selection",
        "test_prepare_stages",
        "test_prepare_unknown",
        "test_pretrain_ranks",
        "test_report",
        "test_segment",
        "test_shards_command",
        "test_tracking",
        "test_tracking_backlog",
        "test_work_s3",
        "test_trial_runs",
        "test_write_a_task",
    ]
)
ALLOWED_SKIPS = Path(__file__).parent / "allowed_skips.txt"
GOLDEN = Path(__file__).parent / "golden"
_forbidden_skips: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files instead of comparing with them")


def allowed_skips(text: str) -> frozenset[str]:
    """Return the reasons of `allowed_skips.txt`: comments and blank lines left out."""
    return frozenset(line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem in HEAVY:
            item.add_marker("heavy")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if reason not in allowed_skips(ALLOWED_SKIPS.read_text(encoding="utf-8")):
        _forbidden_skips.append(f"{report.nodeid}: {reason}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if os.environ.get("CI") and _forbidden_skips and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if os.environ.get("CI") and _forbidden_skips:
        terminalreporter.section("skips that are not in tests/allowed_skips.txt", red=True)
        for line in _forbidden_skips:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data, from ERNIE_TEST_DATA; the test is skipped where it is not set."""
    folder = os.environ.get("ERNIE_TEST_DATA")
    if not folder:
        pytest.skip("ERNIE_TEST_DATA not set")
    path = Path(folder)
    assert path.is_dir(), f"ERNIE_TEST_DATA names {path}, which is no folder"
    return path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of made-up text, see `prepare_helper`; not to be written to."""
    from prepare_helper import write_corpus

    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    return folder


@pytest.fixture(scope="session")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What preparing `corpus` without Ray and without faults leaves; not to be written to."""
    from prepare_helper import run_prepare

    out = tmp_path_factory.mktemp("whole")
    run_prepare(corpus, out)
    return out


@pytest.fixture(scope="module")
def runner() -> Iterator[Any]:
    """Starts preparations in other processes, see `prepare_helper.Runner`."""
    from prepare_helper import Runner

    started = Runner()
    yield started
    started.close()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow SQLite store with all its tables, which take seconds to make: copy it to ROOT/mlflow.db."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe of `ranks_helper`, prepared; files of tests with a recipe of their own have this name for it, too."""
    from ranks_helper import prepare

    with pytest.MonkeyPatch.context() as patch:
        return prepare(tmp_path_factory.mktemp("ranks"), patch)


@pytest.fixture(scope="module")
def unbroken(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder of an unbroken run of that recipe by one rank; files that look at other runs have this name for theirs, too."""
    from ranks_helper import Group, arguments

    folder = tmp_path_factory.mktemp("unbroken") / "pretrain"
    assert Group(arguments(recipe, folder), 1).end() == [0]
    return folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Any]:
    """A running S3 server, see `s3_helper`."""
    from s3_helper import running

    with running() as server:
        yield server


@pytest.fixture
def s3(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An S3 server without a bucket, named with its keys by the environment."""
    from corpus_prep import stores

    s3_server.empty()
    stores.remote.cache_clear()
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Both sides of a bench compute on two CPU threads."""
    from training_helper import computing_threads

    with computing_threads(2):
        yield


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, bytes], bool]:
    """Return `golden(name, actual)`: true where tests/golden/<name> is that, and says why where not; under --update-golden it writes the file."""

    def same(name: str, actual: bytes) -> bool:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(actual)
            return True
        assert path.exists(), f"{path} is missing: run pytest --update-golden and review it"
        expected = path.read_bytes()
        assert actual == expected, f"differs from {path}: if meant, run pytest --update-golden and say why in CHANGELOG.md"
        return True

    return same
