"""jobs/kuberay/: valid by KubeRay's fields and by Ray's own reading of them, equal to the lock, closed to strangers."""

from __future__ import annotations

import copy
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft202012Validator, ValidationError, validate
from mlflow.cli import server
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from jobs.cli import build_parser
from pipelines.recipe import load_recipe
from tests.kuberay_schema import CLAIM, RAY_CLUSTER, RAY_JOB

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "jobs" / "kuberay"


def read(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")))


@pytest.fixture
def cluster() -> dict[str, Any]:
    return read("raycluster.yaml")[0]


@pytest.fixture
def job() -> dict[str, Any]:
    return read("rayjob.yaml")[0]


def groups(cluster: dict[str, Any]) -> dict[str, dict[str, Any]]:
    spec = cluster["spec"]
    return {"head": spec["headGroupSpec"]} | {group["groupName"]: group for group in spec["workerGroupSpecs"]}


def pods(cluster: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: group["template"]["spec"] for name, group in groups(cluster).items()}


def test_kuberays_fields_and_no_others(cluster: dict[str, Any], job: dict[str, Any]) -> None:
    for schema in (RAY_CLUSTER, RAY_JOB, CLAIM):
        Draft202012Validator.check_schema(schema)
    validate(cluster, RAY_CLUSTER)
    validate(job, RAY_JOB)
    for claim in read("storage.yaml"):
        validate(claim, CLAIM)
    wrong = copy.deepcopy(cluster)
    wrong["spec"]["workerGroupSpecs"][1]["template"]["spec"]["toleration"] = []
    with pytest.raises(ValidationError, match="toleration"):
        validate(wrong, RAY_CLUSTER)
    with pytest.raises(ValidationError, match="idleTimeout"):
        validate(cluster | {"spec": cluster["spec"] | {"autoscalerOptions": {"idleTimeout": 5}}}, RAY_CLUSTER)
    with pytest.raises(ValidationError, match=r"ray\.io/v1"):
        validate(job | {"apiVersion": "ray.io/v1alpha1"}, RAY_JOB)


def test_both_files_have_the_same_cluster(cluster: dict[str, Any], job: dict[str, Any]) -> None:
    assert job["spec"]["rayClusterSpec"] == cluster["spec"]


def test_rays_autoscaler_reads_a_head_without_work_and_groups_from_nothing(cluster: dict[str, Any]) -> None:
    cluster["metadata"]["namespace"] = "default"
    config = _derive_autoscaling_config_from_ray_cr(cluster)
    types = config["available_node_types"]
    assert list(types) == ["headgroup", "cpu", "gpu", "gpu-on-demand"]
    assert (types["headgroup"]["resources"]["CPU"], types["headgroup"]["resources"]["GPU"], types["headgroup"]["max_workers"]) == (0, 0, 0)
    assert [types[name]["min_workers"] for name in ("cpu", "gpu", "gpu-on-demand")] == [0, 0, 0]
    assert [types[name]["max_workers"] for name in ("cpu", "gpu", "gpu-on-demand")] == [16, 8, 8]
    assert "GPU" not in types["cpu"]["resources"]
    assert types["gpu"]["resources"] == types["gpu-on-demand"]["resources"]
    assert types["gpu"]["resources"]["GPU"] == 1
    assert types["gpu"]["priority"] > types["gpu-on-demand"]["priority"]
    assert config["idle_timeout_minutes"] == yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))["idle_timeout_minutes"]


def test_spot_first_and_on_demand_where_there_is_none(cluster: dict[str, Any]) -> None:
    pod = pods(cluster)
    for name in ("cpu", "gpu"):
        affinity = pod[name]["affinity"]["nodeAffinity"]
        assert "spot" in [t["key"] for t in pod[name]["tolerations"]]
        assert list(affinity) == [
            "preferredDuringSchedulingIgnoredDuringExecution"
        ]  # preferred: a node on demand takes the pod where there is no spot node
    required = pod["gpu-on-demand"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required["nodeSelectorTerms"] == [{"matchExpressions": [{"key": "spot", "operator": "NotIn", "values": ["true"]}]}]
    assert [t["key"] for t in pod["gpu-on-demand"]["tolerations"]] == ["nvidia.com/gpu"]
    assert "nvidia.com/gpu" not in [t["key"] for t in pod["cpu"]["tolerations"]]
    assert all(pod[name]["terminationGracePeriodSeconds"] >= 120 for name in ("cpu", "gpu", "gpu-on-demand"))


def test_image_and_versions_are_the_locks(cluster: dict[str, Any]) -> None:
    locked = re.search(r"^ray==(\S+)$", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
    version = re.search(r'^version = "(\S+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert locked is not None
    assert version is not None
    docker = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    assert set(re.findall(r"rayproject/ray:([\d.]+)-py(\d+)", docker)) == {(locked[1], "311")}
    assert "pip install --quiet --no-cache-dir --no-compile -r requirements.lock" in docker
    assert cluster["spec"]["rayVersion"] == locked[1]
    images = {container["image"] for pod in pods(cluster).values() for container in pod["containers"]}
    assert images == {f"REGISTRY/ernie:{version[1]}", f"REGISTRY/ernie:{version[1]}-gpu"}
    assert all(f"-t {image} " in docker for image in images)


def test_volumes_are_claimed_and_seen_by_every_pod(cluster: dict[str, Any]) -> None:
    claims = {claim["metadata"]["name"]: claim["spec"]["accessModes"] for claim in read("storage.yaml")}
    assert claims == {"ernie-runs": ["ReadWriteMany"], "ernie-state": ["ReadWriteOnce"]}
    for name, pod in pods(cluster).items():
        there = {volume["name"]: volume for volume in pod["volumes"]}
        assert there["runs"]["persistentVolumeClaim"]["claimName"] == "ernie-runs", name
        for container in pod["containers"]:
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert set(mounts) <= set(there), name
            assert mounts["runs"] == "/mnt/ernie", name


def test_a_token_is_wanted_and_stands_in_no_file(cluster: dict[str, Any]) -> None:
    assert cluster["spec"]["authOptions"] == {"mode": "token", "secretName": "ernie-token"}
    text = "".join(path.read_text(encoding="utf-8") for path in FOLDER.iterdir())
    assert "--from-literal" not in text  # a token on a command line is seen by all
    assert "0.0.0.0" not in text
    assert "kind: Secret" not in text


def test_mlflow_takes_the_servers_flags_and_keeps_its_host_checks(cluster: dict[str, Any]) -> None:
    arguments = next(c for c in pods(cluster)["head"]["containers"] if c["name"] == "mlflow")["args"]
    launcher = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))["head_start_ray_commands"]
    same = shlex.split(next(c for c in launcher if "mlflow server" in c).rpartition("mlflow server")[2].partition(">")[0])
    assert arguments == same  # one way to start the server, on either kind of cluster
    shown = CliRunner().invoke(server, ["--help"]).output
    assert [flag for flag in arguments if flag.startswith("--") and flag not in shown] == []


def test_the_jobs_command_is_one_that_we_take(job: dict[str, Any]) -> None:
    command = shlex.split(job["spec"]["entrypoint"])
    args = build_parser().parse_args(command[1:])
    recipe = load_recipe(ROOT / "pipelines" / "recipes" / Path(args.recipe).name, args.overrides)
    assert (command[0], str(args.recipe.parent)) == ("ernie", "/home/ray/ernie/pipelines/recipes")
    assert (recipe.root, recipe.tracking.uri, recipe.gpus_on_demand) == ("/mnt/ernie/runs", "http://127.0.0.1:5000", True)
    assert yaml.safe_load(job["spec"]["runtimeEnvYAML"])["env_vars"] == {"RAY_JOB_STOP_WAIT_TIME_S": "120"}
