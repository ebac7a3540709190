"""The README's own-text example is run as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from finetune_helper import save_start
from prepare_helper import document

README = Path(__file__).parents[2] / "README.md"

pytestmark = pytest.mark.timeout(240)


def test_the_ten_lines_for_your_own_text_prepare_it(tmp_path: Path) -> None:
    text = README.read_text(encoding="utf-8")
    recipe = re.search(r"```yaml\n# mine\.yaml\n(.*?)```", text, re.DOTALL)
    assert recipe is not None
    assert len(recipe[1].splitlines()) <= 10
    (tmp_path / "mine.yaml").write_text(recipe[1], encoding="utf-8")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("\n\n".join(document(i) for i in range(60)) + "\n", encoding="utf-8")
    commands = re.findall(r"^    ernie (run mine\.yaml.*?)(?:\s+#.*)?$", text, re.MULTILINE)
    assert commands == ["run mine.yaml --dry-run", "run mine.yaml", "run mine.yaml --print-config"]
    shown = {command: run(command.split(), tmp_path) for command in commands if command != "run mine.yaml"}
    assert "prepare" in shown["run mine.yaml --dry-run"]
    assert "longest row, tokens" in shown["run mine.yaml --print-config"]
    small = [
        "--until",
        "pretrain",
        "--set",
        "workers=0",
        "--set",
        "pretrain.iterations={knowledge_masking: 4, next_sentence: 2, sentence_reordering: 2, token_document: 2}",
    ]
    assert "pretrain: starts" in run(["run", "mine.yaml", *small], tmp_path)
    assert (tmp_path / "runs" / "mine" / "pretrain" / "model" / "model.safetensors").exists()
    others = [
        shlex.split(command, comments=True) for command in re.findall(r"^    ernie ((?:shards|fill|export) .*runs/mine.*)$", text, re.MULTILINE)
    ]
    assert [command[0] for command in others] == ["shards", "fill", "export"]
    said = [run(command, tmp_path) for command in others]
    assert "knowledge_masking, train row 0" in said[0]
    assert said[1].startswith("哈尔滨是[MASK]龙江的省会\n")
    assert "AutoModel.from_pretrained" in said[2]
    assert (tmp_path / "mine_hf" / "tokenizer.json").exists()


def test_the_benchmark_commands_and_the_lines_for_your_own_data_run(tmp_path: Path) -> None:
    text = README.read_text(encoding="utf-8")
    commands = {
        c.split()[0]: shlex.split(c, comments=True) for c in re.findall(r"^    ernie ((?:finetune --suite zh|convert-glue) .*)$", text, re.MULTILINE)
    }
    save_start(tmp_path / "runs" / "mine", seed=1)
    rows = "".join(f"{i % 2}\t好坏天地{'玄黄'[i % 2]}\n" for i in range(12))
    for name, data in {"chinese_benchmarks/chnsenticorp": ("label\ttext_a\n" + rows), "glue_data/RTE": None}.items():
        (tmp_path / name).mkdir(parents=True)
        for subset in ("train", "dev", "test"):
            glue = "index\tsentence1\tsentence2" + ("\n0\ta\tb\n" if subset == "test" else "\tlabel\n0\ta\tb\tentailment\n")
            (tmp_path / name / f"{subset}.tsv").write_text(data or glue, encoding="utf-8")
    assert "RTE" in run(commands["convert-glue"], tmp_path)
    small = ["--set", "workers=0", "--seeds", "1", "--set", "finetune.benchmarks.chnsenticorp.learning_rates=[1e-3]"]
    said = run([*commands["finetune"], *small], tmp_path)
    assert "suite zh: written to runs/zh_of_mine.yaml" in said
    assert "lcqmc is left out" in said
    assert "chnsenticorp  accuracy  pretrained" in said
    assert (tmp_path / "runs" / "zh_of_mine" / "report" / "report.html").exists()
    recipe = re.search(r"```yaml\n# finetune_mine\.yaml\n(.*?)```", text, re.DOTALL)
    assert recipe is not None
    (tmp_path / "finetune_mine.yaml").write_text(recipe[1], encoding="utf-8")
    for subset in ("train", "dev"):
        (tmp_path / f"{subset}.csv").write_text(
            "review,stars\n" + "".join(f"好{'坏天'[i % 2]},{['bad', 'good'][i % 2]}\n" for i in range(12)), encoding="utf-8"
        )
    one = ["--set", "workers=0", "--set", "finetune.seeds=[1]", "--set", "finetune.benchmarks.stars.learning_rates=[1e-3]"]
    assert "stars      accuracy, dev  pretrained" in run(["run", "finetune_mine.yaml", *one], tmp_path)


GUARD = """
import ipaddress, os, socket
real = socket.socket.connect
def connect(self, address):
    host = address[0] if isinstance(address, tuple) else "127.0.0.1"
    if host not in ("localhost", "") and not ipaddress.ip_address(host).is_loopback:
        open(os.environ["CONNECTED"], "a").write(f"{address}\\n")
        raise OSError("no network in this test")
    return real(self, address)
def getaddrinfo(host, *rest, **more):
    if host not in (None, "", "localhost", "127.0.0.1", "::1", socket.gethostname()):
        open(os.environ["CONNECTED"], "a").write(f"looked up {host}\\n")
        raise OSError("no network in this test")
    return looked_up(host, *rest, **more)
looked_up, socket.socket.connect, socket.getaddrinfo = socket.getaddrinfo, connect, getaddrinfo
"""


def guarded(folder: Path) -> dict[str, str]:
    """Return an environment in which Python writes every use of the network to connected.txt; nothing in it switches telemetry off."""
    (folder / "guard").mkdir(exist_ok=True)
    (folder / "guard" / "sitecustomize.py").write_text(GUARD, encoding="utf-8")
    silencers = {"MLFLOW_DISABLE_TELEMETRY", "RAY_USAGE_STATS_ENABLED", "CI"}
    env = {name: value for name, value in os.environ.items() if name not in silencers}
    return env | {"PYTHONPATH": str(folder / "guard"), "CONNECTED": str(folder / "connected.txt")}


@pytest.mark.parametrize("code", ["socket.create_connection(('192.0.2.1', 80))", "socket.create_connection(('example.org', 80))"])
def test_the_guard_sees_a_connection(tmp_path: Path, code: str) -> None:
    assert subprocess.run([sys.executable, "-c", f"import socket; {code}"], env=guarded(tmp_path), capture_output=True, check=False).returncode == 1
    assert (tmp_path / "connected.txt").exists()


def run(arguments: list[str], folder: Path) -> str:
    """Run the command as a user does, and see that it asks nothing of the network."""
    connected, env = folder / "connected.txt", guarded(folder)
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert not connected.exists(), connected.read_text(encoding="utf-8")
    return done.stdout
