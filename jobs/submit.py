"""`ernie submit RECIPE`: run a recipe as a job of a Ray cluster; `ernie status | logs | stop RUN` (the only user of Ray's job client).

The job's id is `ernie-RUN-N`, N counting the submissions of a run: while one of them waits or works, another is refused.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ernie_core.errors import OutputError, RecipeError, ResourceError
from pipelines.portable import check_portable, whole_recipe
from pipelines.recipe import load_recipe
from pipelines.workflow import STEP_NAMES

PACKAGES = ("ernie_core", "corpus_prep", "pipelines", "jobs")
"""Folders that a job carries; everything else that it needs is installed on the cluster."""
LOCAL_ADDRESS = "http://127.0.0.1:8265"
"""Where `ray dashboard cluster.yaml` brings a cluster's job server."""
GRACE_S = 120
"""Seconds from SIGTERM to SIGKILL when a job is stopped: time for a last checkpoint."""
HEAD_START_S = 60
_AT_WORK = frozenset({"PENDING", "RUNNING"})


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--address", metavar="URL", help=f"the cluster's job server (default: RAY_API_SERVER_ADDRESS, or {LOCAL_ADDRESS})")


def add_submit_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `ernie submit`."""
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="a YAML file; its paths must be absolute, on storage that every node sees")
    _add_address(parser)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="change one setting; repeat for more")
    parser.add_argument("--until", choices=STEP_NAMES, metavar="STEP", help=f"stop after this step: {', '.join(STEP_NAMES)}")
    parser.add_argument("--new-run", action="store_true", help="move folders made with other settings aside (STEP.old-N) instead of refusing")
    parser.add_argument("--follow", action="store_true", help="print the job's log until it ends, and exit with its exit code")


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `ernie status` and `ernie stop`."""
    parser.add_argument("run", metavar="RUN", help="the run's name")
    _add_address(parser)


def add_logs_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `ernie logs`."""
    add_run_arguments(parser)
    parser.add_argument("--follow", action="store_true", help="go on until the job ends, and exit with its exit code")


def submit(args: argparse.Namespace) -> int:
    """Submit a recipe; return 0, or with --follow the job's exit code.

    Raises:
        RecipeError: E-RELATIVE-PATH; what the recipe has to say.
        OutputError: E-SUBMITTED, a submission of this run waits or works.
        ResourceError: E-CLUSTER, E-TOKEN.
    """
    recipe = load_recipe(args.recipe, args.overrides)
    check_portable(recipe)
    client = _client(args.address)
    before = _submissions(client, recipe.name)
    if busy := [job for job in before if str(job.status) in _AT_WORK]:
        raise _busy(recipe.name, str(busy[-1].submission_id))
    job = f"ernie-{recipe.name}-{_number(before[-1]) + 1 if before else 1}"
    entry = ["python", "-m", "jobs.run", "recipe.yaml", *(["--until", args.until] if args.until else []), *(["--new-run"] if args.new_run else [])]
    with tempfile.TemporaryDirectory(prefix="ernie-submit-") as folder:
        _stage(Path(folder), whole_recipe(recipe))
        environment = {"working_dir": folder, "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(GRACE_S), "RAY_USAGE_STATS_ENABLED": "0"}}
        request = {
            "entrypoint": " ".join(entry),
            "submission_id": job,
            "runtime_env": environment,
            "metadata": {"run": recipe.name, "root": recipe.root},
        }
        _send(client, request, recipe.name)
    print(f"submitted {job}; its files: {recipe.root}/{recipe.name}", flush=True)
    if args.follow:
        return _follow(client, job)
    print(f"ernie logs {recipe.name} --follow · ernie status {recipe.name} · ernie stop {recipe.name}")
    return 0


def _send(client: Any, request: dict[str, Any], run: str) -> None:
    """Submit a job; a head that has just begun, whose job agent is not up yet, is asked again for `HEAD_START_S`."""
    end = time.monotonic() + HEAD_START_S
    while True:
        try:
            client.submit_job(**request)
        except RuntimeError as e:
            if "already exists" in str(e):
                raise _busy(run, request["submission_id"]) from e
            if "No available agent" not in str(e) or time.monotonic() > end:
                raise _no_cluster("the cluster's job server does not take the job", e) from e
            time.sleep(1)
        else:
            return


def status(args: argparse.Namespace) -> int:
    """Print a line for each submission of a run; return 0."""
    for job in _found(_client(args.address), args.run):
        ended = f", ended {_clock(job.end_time)}" if job.end_time else ""
        code = f", exit code {job.driver_exit_code}" if job.driver_exit_code is not None else ""
        print(f"{job.submission_id}: {str(job.status).lower()}, begun {_clock(job.start_time)}{ended}{code}")
    return 0


def logs(args: argparse.Namespace) -> int:
    """Print the log of a run's newest submission; return 0, or with --follow the job's exit code."""
    client = _client(args.address)
    job = str(_found(client, args.run)[-1].submission_id)
    if args.follow:
        return _follow(client, job)
    print(client.get_job_logs(job), end="")
    return 0


def stop(args: argparse.Namespace) -> int:
    """Stop a run's newest submission as SIGTERM does, wait until it has ended, and return 0."""
    client = _client(args.address)
    job = str(_found(client, args.run)[-1].submission_id)
    if str(client.get_job_status(job)) not in _AT_WORK:
        print(f"{job} has ended already: {str(client.get_job_status(job)).lower()}")
        return 0
    client.stop_job(job)
    print(f"{job} is told to stop; it has {GRACE_S} s for a last checkpoint", flush=True)
    while str(client.get_job_status(job)) in _AT_WORK:
        time.sleep(0.5)
    print(f"{job}: {str(client.get_job_status(job)).lower()}; submit it again to go on")
    return 0


def _client(address: str | None) -> Any:
    """Return Ray's job client, with token authentication unless the environment says otherwise."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if os.environ["RAY_AUTH_MODE"] == "token":
        _check_token()
    # Ray lets its variable win over the argument.
    address = address or os.environ.get("RAY_API_SERVER_ADDRESS") or LOCAL_ADDRESS
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    from ray.exceptions import AuthenticationError  # Ray reads RAY_AUTH_MODE when it is imported
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except AuthenticationError as e:
        raise ResourceError(
            "E-TOKEN", "the cluster does not take this token", where=address, found=str(e).splitlines()[0],
            fix="copy the cluster's ~/.ray/auth_token here, mode 0600",
        ) from e  # fmt: skip
    except Exception as e:
        raise _no_cluster("no job server answers", e) from e


def _check_token() -> None:
    """Refuse a missing token, and one that others can read (reliability S2)."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if not path.exists():
        raise ResourceError(
            "E-TOKEN", "there is no token for the cluster", where=str(path),
            fix="copy the cluster's, or make one with `ray get-auth-token --generate` before `ray up` (RAY_AUTH_MODE=disabled: a cluster without tokens)",
        )  # fmt: skip
    if path.stat().st_mode & 0o077:
        found = oct(path.stat().st_mode & 0o777)
        raise ResourceError(
            "E-TOKEN", "others can read the cluster's token", where=str(path), expected="mode 0600", found=found, fix=f"chmod 600 {path}"
        )


def _no_cluster(what: str, error: Exception) -> ResourceError:
    return ResourceError(
        "E-CLUSTER", what, where=os.environ["RAY_API_SERVER_ADDRESS"], found=(str(error).splitlines() or [type(error).__name__])[0],
        fix="start the cluster (ray up cluster.yaml), let its job server through (ray dashboard cluster.yaml), or give --address",
    )  # fmt: skip


def _busy(run: str, job: str) -> OutputError:
    return OutputError("E-SUBMITTED", f"{run} is submitted already", found=job, fix=f"ernie logs {run} --follow, or ernie stop {run}")


def _submissions(client: Any, run: str) -> list[Any]:
    """Return the jobs that were submitted for a run, the oldest first."""
    jobs = [job for job in client.list_jobs() if job.submission_id and job.submission_id.rpartition("-")[0] == f"ernie-{run}"]
    return sorted(jobs, key=_number)


def _number(job: Any) -> int:
    return int(job.submission_id.rpartition("-")[2])


def _found(client: Any, run: str) -> list[Any]:
    if jobs := _submissions(client, run):
        return jobs
    others = sorted({job.metadata["run"] for job in client.list_jobs() if "run" in (job.metadata or {})})
    raise RecipeError("E-ARGUMENT", f"the cluster knows no run {run}", found=", ".join(others) or "no runs", fix="ernie submit RECIPE")


def _stage(folder: Path, recipe: str) -> None:
    """Fill the folder that the job carries: our packages, about 2 MB, and the recipe with its bases, overrides and environment variables worked in."""
    here = Path(__file__).resolve().parents[1]
    for package in PACKAGES:
        shutil.copytree(here / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "docs"))
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")


def _follow(client: Any, job: str) -> int:
    """Print a job's log until it ends, and return its exit code; Ctrl-C leaves the job at work."""

    async def tail() -> None:
        """Print what comes."""
        async for lines in client.tail_job_logs(job):
            print(lines, end="", flush=True)

    try:
        asyncio.run(tail())
        while str(client.get_job_status(job)) in _AT_WORK:
            time.sleep(0.5)
        info = client.get_job_info(job)
    except KeyboardInterrupt:
        print(f"\n{job} goes on", file=sys.stderr)
        return 130
    except (RuntimeError, OSError) as e:  # the head is gone, or the way to it
        raise _no_cluster(f"lost the job server while following {job}", e) from e
    print(f"{job}: {str(info.status).lower()}")
    if str(info.status) == "STOPPED":
        return 75
    return int(info.driver_exit_code or 0) if info.driver_exit_code is not None else 1


def _clock(milliseconds: int | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime((milliseconds or 0) / 1000))
