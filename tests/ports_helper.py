"""Who listens where (reliability S3): sockets of processes that tests started, from /proc, by kind of program and kind of address."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

KINDS = {
    "gcs_server": "head's tables (GCS)", "raylet/raylet": "raylet", "DashboardAgent": "node's agent", "RuntimeEnvAgent": "runtime-env agent",
    "dashboard/dashboard.py": "dashboard", "ray.util.client.server": "Ray Client", "mlflow": "MLflow", "uvicorn": "MLflow",
    "ray::": "worker", "default_worker.py": "worker", "jobs.run": "worker", "jobs.cli": "worker",
}  # fmt: skip
"""Part of a command line -> kind of program, the first that fits; others are named by their command line."""

METRICS = "metrics of the dashboard and of the autoscaler"
_METRICS_PORTS = {44217, 44227}
"""Ray's (ray/autoscaler/_private/constants.py, ray/dashboard/consts.py, 2.60): it has no switch for these servers."""


def listening(sessions: Iterable[int]) -> dict[str, set[str]]:
    """Return kind of program -> {"loopback", "node", "all"}, the addresses on which processes of those sessions take TCP connections."""
    sockets, wanted, found = _sockets(), set(sessions), dict[str, set[str]]()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) not in wanted:
                continue
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            held = [os.readlink(path) for path in (folder / "fd").iterdir()]
        except OSError:  # it has ended
            continue
        kind = next((name for part, name in KINDS.items() if part in command), command)
        for inode in re.findall(r"socket:\[(\d+)\]", " ".join(held)):
            if inode in sockets:
                where, port = sockets[inode]
                found.setdefault(METRICS if port in _METRICS_PORTS else kind, set()).add(where)
    return found


def _sockets() -> dict[str, tuple[str, int]]:
    """Return inode of a listening socket -> kind of its address, and port."""
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":  # LISTEN
                address, port = fields[1].split(":")
                found[fields[9]] = _address(address), int(port, 16)
    return found


def _address(text: str) -> str:
    """Return the kind of an address as the kernel writes it, each four bytes in the machine's order.

    Example: ``_address("0100007F")`` -> ``"loopback"``.
    """
    if not text.strip("0"):
        return "all"
    is_loopback = (
        text[-8:].endswith("7F") if len(text) == 8 or (text.startswith("0" * 16) and text[16:24] == "FFFF0000") else text == "0" * 24 + "01000000"
    )
    return "loopback" if is_loopback else "node"
