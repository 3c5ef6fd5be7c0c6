"""dvc doing the same work: nothing to do over three stages and one large output, and a checkout of another version."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench_measure import Case

_DVC = "dvc==3.67.1"
_STAGES = """stages:
  one:
    cmd: python3 make.py one 65536
    deps: [make.py]
    outs: [one]
  two:
    cmd: python3 make.py two 65536
    deps: [make.py, one]
    outs: [two]
  three:
    cmd: python3 make.py three {size}
    deps: [make.py, two]
    params: [version]
    outs: [three]
"""
_MAKE = """import os, sys
name, size = sys.argv[1], int(sys.argv[2])
with open(name, "wb") as stream:
    for start in range(0, size, 1048576):
        stream.write(os.urandom(min(1048576, size - start)))
"""


def install(folder: Path) -> Path:
    """Return the dvc program of a virtual environment of its own, made when it is not there yet.

    Raises:
        CalledProcessError: when it cannot be installed.
    """
    program = folder / "bin" / "dvc"
    if program.exists():
        return program
    uv = os.environ.get("UV") or shutil.which("uv")
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder, *(["--without-pip"] if uv else [])], check=True)
    python = str(folder / "bin" / "python")
    pip = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, _DVC], check=True)
    return program


def cases(dvc: Path, folder: Path, size: int) -> tuple[Case, ...]:
    """Make a dvc project whose large output has two versions, and return what to measure in it."""
    environment = {"DVC_NO_ANALYTICS": "1", "PATH": f"{dvc.parent}:{os.environ['PATH']}"}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    def do(*command: str) -> None:
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **environment})

    do("git", "init", "--quiet")
    do(str(dvc), "init", "--quiet")
    do(str(dvc), "config", "core.analytics", "false")
    (folder / "dvc.yaml").write_text(_STAGES.format(size=size))
    (folder / "make.py").write_text(_MAKE)
    locks = []
    for version in (1, 2):
        (folder / "params.yaml").write_text(f"version: {version}\n")
        do(str(dvc), "repro", "--quiet")
        locks.append(((folder / "params.yaml").read_bytes(), (folder / "dvc.lock").read_bytes()))
    return (
        Case(
            "`dvc repro`, nothing to do",
            (str(dvc), "repro"),
            folder,
            reset=_put(folder, locks[1], dvc),
            environment=environment,
        ),
        Case(
            "`dvc checkout` of another version",
            (str(dvc), "checkout"),
            folder,
            reset=_swap(folder, locks),
            environment=environment,
        ),
    )


def _put(folder: Path, lock: tuple[bytes, bytes], dvc: Path) -> Callable[[], None]:
    """Return what brings the project to the version of `lock`, outputs included."""

    def reset() -> None:
        if (folder / "dvc.lock").read_bytes() != lock[1]:
            (folder / "params.yaml").write_bytes(lock[0])
            (folder / "dvc.lock").write_bytes(lock[1])
            subprocess.run([str(dvc), "checkout", "--quiet"], cwd=folder, check=True)

    return reset


def _swap(folder: Path, locks: list[tuple[bytes, bytes]]) -> Callable[[], None]:
    """Return what puts the lock file of the other version in place, so that a checkout has something to do."""

    def reset() -> None:
        other = locks[0] if (folder / "dvc.lock").read_bytes() == locks[1][1] else locks[1]
        (folder / "params.yaml").write_bytes(other[0])
        (folder / "dvc.lock").write_bytes(other[1])

    return reset
