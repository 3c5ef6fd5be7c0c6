"""The playbook that `init` writes, with its example rows: the starter that comes with the package."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from safetune.core.errors import UsageError
from safetune.playbook.shared import shipped_configs
from safetune.state.atomic import machine_errors, write_new

_PLAYBOOK = "playbook.yaml"


def write_starter(folder: Path) -> tuple[Path, ...]:
    """Write the starter into `folder`, made when there is none; return what was written, the playbook last.

    Raises:
        UsageError: when any of the files exists, or `folder` is a file; nothing is written then.
        MachineError: when the machine refuses; what was written before is taken back.
    """
    contents = {folder / name: content for name, content in _contents().items()}
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", hint="safetune init FOLDER")
    for path in contents:
        if os.path.lexists(path):
            raise UsageError(f"{path} exists; nothing was written", hint="safetune init ANOTHER_FOLDER")
    with ExitStack() as undo:
        _write_all(contents, undo)
        undo.pop_all()
    return tuple(contents)


def _write_all(contents: Mapping[Path, bytes], undo: ExitStack) -> None:
    """Write everything under temporary names, then give the real ones; `undo` learns how to take each step back."""
    temporary = {path: path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp") for path in contents}
    for path, content in contents.items():
        with machine_errors(f"write {path}"):
            _make_folder(path.parent, undo)
            undo.callback(temporary[path].unlink, missing_ok=True)
            write_new(temporary[path], content)
    for path in contents:
        with machine_errors(f"write {path}"):
            _reserve(path)
            undo.callback(path.unlink, missing_ok=True)
            temporary[path].replace(path)


def _make_folder(folder: Path, undo: ExitStack) -> None:
    for missing in reversed([f for f in (folder, *folder.parents) if not f.exists()]):
        missing.mkdir(exist_ok=True)
        undo.callback(_remove_empty, missing)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # somebody else may have put something there
        folder.rmdir()


def _reserve(path: Path) -> None:
    """Make an empty file that must not exist, also when somebody else makes it at this moment."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
    except FileExistsError:
        raise UsageError(f"{path} exists; nothing was written", hint="safetune init ANOTHER_FOLDER") from None


def _contents() -> dict[str, bytes]:
    """Return what to write, by name; the playbook last, so that it never stands there without its rows."""
    configs = shipped_configs()
    try:
        rows = {f"starter/{path.name}": path.read_bytes() for path in sorted((configs / "starter").iterdir())}
        return {**rows, _PLAYBOOK: (configs / "starter.yaml").read_bytes()}
    except OSError as error:
        raise UsageError(
            f"the starter cannot be read: {error.strerror}: {error.filename}", hint="install safetune again"
        ) from error
