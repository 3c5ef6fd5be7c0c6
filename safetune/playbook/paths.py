"""Paths as a playbook writes them: relative to the file that names them, never an address."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from safetune.core.diagnostics import Diagnostic
from safetune.playbook.nodes import Node
from safetune.playbook.strict_yaml import quote

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def resolve(node: Node) -> Path:
    """Return the absolute path that a text value means; symbolic links are left alone."""
    try:
        written = Path(node.text).expanduser()
    except (RuntimeError, ValueError):  # `~name` of nobody
        written = Path(node.text)
    return Path(os.path.normpath(node.place.text.folder / written))


def is_file(path: Path) -> bool:
    """Say whether a path is a plain file; a path that the system refuses is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Say whether a path is a folder; a path that the system refuses is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def address_problem(node: Node) -> Diagnostic | None:
    """Refuse a text that names a protocol: nothing is fetched because a playbook says so."""
    if not _SCHEME.match(node.text):
        return None
    hint = "fetch the file yourself, then name it by its path and pin its sha256"
    return node.place.diagnostic("SP312", f"{quote(node.text)} is an address, not a path", hint)


def file_problem(node: Node, what: str) -> Diagnostic | None:
    """Say why a text names no file that can be read, or return None."""
    wrong = address_problem(node)
    if wrong is not None or is_file(resolve(node)):
        return wrong
    hint = f"looked for {resolve(node)}; paths are relative to {node.place.text.shown}"
    return node.place.diagnostic("SP305", f"{what} {quote(node.text)} does not exist", hint)


def within_file(node: Node) -> tuple[Path, str]:
    """Return the path that a text means, and which out of a `dvc.yaml` it names after a `#`; mostly none."""
    before, mark, out = node.text.partition("#")
    if mark and Path(before).name == "dvc.yaml":
        return resolve(replace(node, value=before)), out
    return resolve(node), ""
