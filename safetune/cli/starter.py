"""The playbook that `init` writes, with its example rows: the starter that comes with the package."""

from __future__ import annotations

import os
from pathlib import Path

from safetune.core.errors import UsageError
from safetune.playbook.shared import shipped_configs
from safetune.state.atomic import machine_errors

_PLAYBOOK = "playbook.yaml"


def write_starter(folder: Path) -> tuple[Path, ...]:
    """Write the starter into `folder`, made when there is none; return what was written, the playbook last.

    Raises:
        UsageError: when any of the files exists, or `folder` is a file; nothing is written then.
        MachineError: when the machine refuses.
    """
    contents = {folder / name: content for name, content in _contents().items()}
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", hint="safetune init FOLDER")
    for path in contents:
        if os.path.lexists(path):
            raise UsageError(f"{path} exists; nothing was written", hint="safetune init ANOTHER_FOLDER")
    for path, content in contents.items():
        _write_new(path, content)
    return tuple(contents)


def _write_new(path: Path, content: bytes) -> None:
    """Write a file that must not exist, also when somebody else makes it at this moment."""
    with machine_errors(f"write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            raise UsageError(f"{path} exists; it was not touched", hint="safetune init ANOTHER_FOLDER") from None
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)


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
