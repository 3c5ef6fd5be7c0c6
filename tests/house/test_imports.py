"""Who may import whom: the contracts hold, they break when they should, and the command line loads no ML library."""

from __future__ import annotations

import ast
import importlib.util
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from safetune import plugins
from safetune.core.errors import UsageError

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGE = _ROOT / "safetune"
_CONTRACTS = tomllib.loads((_ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

# Rooms whose code runs in the child process; nothing else may import an ML library.
WORKER_SIDE = frozenset(
    {"worker", "builtin.trainers", "builtin.techniques", "builtin.monitors", "builtin.evaluators", "builtin.screens"}
)
ML_LIBRARIES = frozenset({"torch", "transformers", "trl", "peft", "accelerate", "datasets", "numpy", "gguf"})
# What the core needs of the standard library: nothing here reads a file, a clock, the environment or chance.
CORE_IMPORTS = frozenset(
    {
        "__future__",
        "array",
        "collections",
        "dataclasses",
        "difflib",
        "enum",
        "functools",
        "hashlib",
        "json",
        "math",
        "operator",
    }
    | {"re", "statistics", "types", "typing", "unicodedata"}
)


def _lint(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    return subprocess.run(command, cwd=root, env={"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and its contracts, to plant imports in."""
    root = tmp_path_factory.mktemp("copy")
    shutil.copytree(_PACKAGE, root / "safetune", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(_ROOT / "pyproject.toml", root / "pyproject.toml")
    return root


def test_the_contracts_hold(copied: Path) -> None:
    found = _lint(copied)
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-1000:]
    assert f"{len(_CONTRACTS)} kept, 0 broken" in found.stdout


PLANTED = {
    "torch in the engine": ("engine/run.py", "import torch", "Only the worker side"),
    "transformers in the command line": ("cli/main.py", "import transformers.models", "Only the worker side"),
    "numpy in a judge": ("builtin/judges/numeric.py", "from numpy import array", "Only the worker side"),
    "datasets inside a function": ("state/store.py", "def load():\n    import datasets", "Only the worker side"),
    "yaml in the core": ("core/plan.py", "import yaml", "The core knows only"),
    "sideways from the engine": ("engine/settle.py", "from safetune.report import text", "Rooms import downwards"),
    "sideways from the report": ("report/text.py", "import safetune.engine.run", "Rooms import downwards"),
    "upwards from the state": ("state/lock.py", "from safetune.engine import jobs", "Rooms import downwards"),
    "upwards from the core": ("core/gate.py", "from safetune.protocols import Judge", "Rooms import downwards"),
    "the worker from the engine": ("engine/jobs.py", "from safetune.worker import rows", "Rooms import downwards"),
}


@pytest.mark.parametrize(("file", "line", "contract"), PLANTED.values(), ids=PLANTED.keys())
def test_a_forbidden_import_breaks_its_contract(copied: Path, file: str, line: str, contract: str) -> None:
    path = copied / "safetune" / file
    before = path.read_text()
    path.write_text(f"{before}\n{line}\n")
    try:
        found = _lint(copied)
    finally:
        path.write_text(before)
    assert found.returncode == 1, found.stderr[-1000:]
    broken = [text for text in found.stdout.splitlines() if text.endswith("BROKEN")]
    assert [text for text in broken if text.startswith(contract)], found.stdout[-3000:]


def _packages() -> set[str]:
    """Return every room, and every folder of our own plugins, by dotted name without `safetune`."""
    inner = {f"builtin.{p.name}" for p in (_PACKAGE / "builtin").iterdir() if (p / "__init__.py").exists()}
    outer = {p.stem for p in _PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    return inner | outer - {"builtin", "__init__", "__main__"}


def test_no_room_is_forgotten_by_the_contracts() -> None:
    layers = {name.strip() for row in _CONTRACTS[0]["layers"] for name in row.split("|")}
    rooms = {name.partition(".")[0] for name in _packages()}
    assert {f"safetune.{room}" for room in rooms} == layers
    guarded = {name.removeprefix("safetune.") for name in _CONTRACTS[1]["source_modules"]}
    assert _packages() - guarded - WORKER_SIDE == set()
    assert set(_CONTRACTS[1]["forbidden_modules"]) >= ML_LIBRARIES


@pytest.mark.parametrize("path", sorted((_PACKAGE / "core").glob("*.py")), ids=lambda path: path.stem)
def test_the_core_is_pure(path: Path) -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    foreign = {name for name in imported if name.partition(".")[0] not in CORE_IMPORTS | {"safetune"}}
    assert foreign == set()
    assert {n for n in imported if n.startswith("safetune.") and not n.startswith("safetune.core")} == set()


def _loaded_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint('\\n'.join(sorted(sys.modules)), file=sys.stderr)"
    found = subprocess.run([sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    modules = {name.partition(".")[0] for name in found.stderr.splitlines()}
    assert "safetune" in modules
    return modules


@pytest.mark.parametrize(
    "statement",
    [
        "import safetune.cli.main",
        "from safetune.cli.main import main; assert main(['--help']) == 0",
        "from safetune.cli.main import main; assert main(['plan', '--help']) == 0",
        "import safetune.engine.run, safetune.engine.evaluate, safetune.engine.planning, safetune.report.gate",
    ],
    ids=["the entry point", "--help", "plan --help", "the engine and its reports"],
)
def test_the_conductor_loads_no_ml_library(statement: str) -> None:
    loaded = _loaded_by(statement)
    assert loaded & (ML_LIBRARIES | {"safetensors", "scipy", "pandas", "tokenizers", "huggingface_hub"}) == set()


@pytest.mark.parametrize("library", ["yaml", "jsonschema", "rich"])
def test_help_loads_nothing_that_it_does_not_need(library: str) -> None:
    assert library not in _loaded_by("import safetune.cli.main")


def _made(kind: str, name: str) -> tuple[object, str]:
    """Return a plugin, or why there is none without options: a judge that asks a model needs that model."""
    try:
        return plugins.load(kind, name), ""
    except UsageError as error:
        return None, error.message


_TABLE = [(kind, name, target) for kind, entries in plugins._BUILTIN.items() for name, target in entries.items()]


@pytest.mark.parametrize(("kind", "name", "target"), _TABLE, ids=[f"{kind} {name}" for kind, name, _ in _TABLE])
def test_every_plugin_of_the_table_exists(kind: str, name: str, target: str) -> None:
    module, _, attribute = target.partition(":")
    room = module.removeprefix("safetune.").rpartition(".")[0]
    if room not in WORKER_SIDE:
        assert getattr(getattr(import_module(module), attribute), "name", name) == name
        made, why = _made(kind, name)
        assert getattr(made, "name", name if kind == "detector" else None) == name or name in why
        return
    # The worker's side is looked at as text: importing it would load the ML library.
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    classes = [n.name for n in ast.walk(ast.parse(Path(spec.origin).read_text())) if isinstance(n, ast.ClassDef)]
    assert attribute in classes
