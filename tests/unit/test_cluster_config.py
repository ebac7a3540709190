"""cluster.yaml: valid by Ray's own schema, equal to the lock, and closed to strangers."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from jsonschema.exceptions import ValidationError
from mlflow.cli import server
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8")))


def locked(name: str) -> str:
    match = re.search(rf"^{name}==(\S+)$", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
    assert match is not None
    return match[1]


def test_rays_schema_takes_it(config: dict[str, Any]) -> None:
    validate_config(prepare_config(copy.deepcopy(config)))
    with pytest.raises(ValidationError, match="idle_timeout"):
        validate_config(prepare_config(config | {"idle_timeout": 5}))


def test_images_have_the_locks_ray_and_our_python(config: dict[str, Any]) -> None:
    images = [config["docker"]["image"], *(t["docker"]["worker_image"] for t in config["available_node_types"].values() if "docker" in t)]
    assert len(images) == 3
    assert {re.match(r"rayproject/ray:([\d.]+)-py(\d+)", image).groups() for image in images} == {(locked("ray"), "311")}  # type: ignore[union-attr]
    assert "pip install --quiet --no-compile -r /home/ray/requirements.lock" in config["setup_commands"]
    assert "/home/ray/requirements.lock" in config["file_mounts"]


def test_the_head_does_no_work_and_all_else_comes_from_nothing(config: dict[str, Any]) -> None:
    types = config["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0, "GPU": 0}
    assert [types[name]["min_workers"] for name in ("cpu", "gpu_spot", "gpu_on_demand")] == [0, 0, 0]
    assert types["gpu_spot"]["priority"] > types["gpu_on_demand"]["priority"]
    assert types["gpu_spot"]["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert "InstanceMarketOptions" not in types["gpu_on_demand"]["node_config"]
    assert {k: v for k, v in types["gpu_spot"].items() if k in ("resources", "docker")} == {
        k: v for k, v in types["gpu_on_demand"].items() if k in ("resources", "docker")
    }
    assert config["idle_timeout_minutes"] > 0


def test_every_ray_start_wants_the_token_and_nothing_listens_to_the_world(config: dict[str, Any]) -> None:
    starts = [c for c in (*config["head_start_ray_commands"], *config["worker_start_ray_commands"]) if "ray start" in c]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)
    text = (ROOT / "cluster.yaml").read_text(encoding="utf-8")
    assert "0.0.0.0" not in text
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "/home/ray/.ray/auth_token" in config["file_mounts"]


def test_mlflow_takes_the_servers_flags_and_keeps_its_host_checks(config: dict[str, Any]) -> None:
    command = next(c for c in config["head_start_ray_commands"] if "mlflow server" in c)
    shown = CliRunner().invoke(server, ["--help"]).output
    flags = re.findall(r"(--[a-z-]+)", command.split("mlflow server", 2)[2])
    assert flags == ["--host", "--port", "--allowed-hosts", "--cors-allowed-origins", "--backend-store-uri", "--artifacts-destination"]
    assert [flag for flag in flags if flag not in shown] == []
    assert "--host 127.0.0.1" in command
    assert "--disable-security-middleware" not in command
