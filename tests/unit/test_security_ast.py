"""No code from data, no code from configuration: reliability.md S4 and S5, enforced on every file of the product."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNPICKLER = "corpus_prep/packages.py"  # reads one package's pickles with an Unpickler that allows no class at all
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "code", "codeop", "runpy"}
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "breakpoint",
    "os.system", "os.popen", "os.execv", "os.execvp", "os.spawnl", "subprocess.getoutput", "subprocess.getstatusoutput",
    "torch.load", "torch.jit.load", "torch.hub.load", "np.fromregex", "pd.read_pickle", "pandas.read_pickle", "yaml.load", "yaml.unsafe_load", "yaml.full_load",
}  # fmt: skip
# import_module with a name that is not written out: only where the name comes from scanning our own folders
DYNAMIC_IMPORT = {"ernie_core/registry.py"}


def violations(path: str, source: str) -> list[str]:
    out: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            bad = [name for name in names if name.split(".")[0] in FORBIDDEN_IMPORTS]
            out += [f"{path}:{node.lineno}: imports {name}" for name in bad if not (path == UNPICKLER and name == "pickle")]
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in FORBIDDEN_CALLS:
                out.append(f"{path}:{node.lineno}: calls {name}")
            if name.startswith("pickle.") and not name.startswith("pickle.Unpickler"):
                out.append(f"{path}:{node.lineno}: calls {name}")
            if name.endswith("import_module") and path not in DYNAMIC_IMPORT and not (node.args and isinstance(node.args[0], ast.Constant)):
                out.append(f"{path}:{node.lineno}: imports a module by a computed name")
            for keyword in node.keywords:
                value = keyword.value.value if isinstance(keyword.value, ast.Constant) else True
                if keyword.arg in {"shell", "allow_pickle", "trust_remote_code"} and value is not False:
                    out.append(f"{path}:{node.lineno}: {keyword.arg} is not False")
                if keyword.arg == "weights_only" and value is not True:
                    out.append(f"{path}:{node.lineno}: weights_only is not True")
    return out


def product_files() -> list[Path]:
    return [p for package in ("ernie_core", "corpus_prep", "pipelines", "jobs") for p in sorted((ROOT / package).rglob("*.py"))]


def test_the_product_runs_no_code_from_data_or_configuration() -> None:
    files = product_files()
    assert len(files) > 30
    assert [v for p in files for v in violations(str(p.relative_to(ROOT)), p.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import marshal",
        "from joblib import load",
        "eval('1')",
        "exec(text)",
        "compile(text, 'x', 'exec')",
        "__import__(name)",
        "os.system('ls')",
        "subprocess.run('ls', shell=True)",
        "subprocess.run('ls', shell=flag)",
        "torch.load(path, weights_only=True)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.Loader)",
        "importlib.import_module(recipe['class'])",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
    ],
)
def test_each_kind_of_violation_is_caught(source: str) -> None:
    assert violations("jobs/run.py", source)


def test_the_unpickler_s_file_may_not_call_the_plain_functions() -> None:
    assert violations(UNPICKLER, "import pickle\npickle.loads(x)")
    assert violations(UNPICKLER, "import pickle\nclass U(pickle.Unpickler): ...") == []
