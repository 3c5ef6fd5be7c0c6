"""Start-up is lean: what is not needed is not imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import pytest

_ML = {"torch", "transformers", "trl", "peft", "accelerate", "datasets", "numpy", "gguf"}
_SLOW = {"rich", "pydantic", "multiprocessing", "asyncio"}
_SHOW = """
import sys
from safetune.cli.main import main
code = main(sys.argv[1:])
print("MODULES", *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
sys.exit(code)
"""


class Desk(Protocol):
    root: Path

    def recorded(self, name: str, refusals: int, items: int = 40) -> str: ...
    def promote_two(self) -> tuple[str, str]: ...
    def write(self, **changes: Any) -> None: ...


def _modules(root: Path, *arguments: str) -> set[str]:
    """Run a command and return the top-level packages that it imported."""
    command = [sys.executable, "-c", _SHOW, *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.rpartition("MODULES ")[2].split())


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("plan", "--help")])
def test_help_imports_no_yaml_no_schema_no_engine(desk: Desk, arguments: tuple[str, ...]) -> None:
    found = _modules(desk.root, *arguments)
    assert found.isdisjoint(_ML | _SLOW | {"yaml", "jsonschema"})
    command = [sys.executable, "-c", _SHOW.replace('.partition(".")[0]', ""), *arguments]
    done = subprocess.run(command, cwd=desk.root, capture_output=True, text=True, timeout=120)
    names = set(done.stderr.rpartition("MODULES ")[2].split())
    assert "safetune.cli.app" in names
    assert not any(name.startswith(("safetune.engine", "safetune.state", "safetune.playbook")) for name in names)


def test_no_command_imports_an_ml_package_or_pydantic(desk: Desk) -> None:
    desk.promote_two()
    recorded = desk.recorded("responses.jsonl", 0)
    for arguments in (
        ("plan", "playbook.yaml", "-o", "plan.json"),
        ("evaluate", "playbook.yaml", "--recorded", recorded, "--gate"),
        ("status",),
        ("log",),
        ("verify",),
        ("rollback", "--dry-run"),
        ("doctor",),
        ("schema",),
    ):
        assert _modules(desk.root, *arguments).isdisjoint(_ML | _SLOW), arguments
