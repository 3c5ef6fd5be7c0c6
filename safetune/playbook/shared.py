"""Shared parts: suites and policies that playbooks refer to by name.

They lie in a folder called `configs`: first the nearest one upwards from the playbook, then the one that ships with
safetune.
"""

from __future__ import annotations

import re
from pathlib import Path

from safetune.playbook.paths import is_file, is_folder

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*(?:/[a-z0-9][a-z0-9._-]*)*\Z")
_PACKAGE = Path(__file__).resolve().parents[1]


def shipped_configs() -> Path:
    """Return the folder of shared parts that ships with safetune: inside the wheel, or at the root of a checkout."""
    inside = _PACKAGE / "shipped" / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


def config_folders(folder: Path) -> tuple[Path, ...]:
    """Return the folders in which shared parts are looked for, for a playbook that lies in `folder`."""
    nearest = next((f / "configs" for f in (folder, *folder.parents) if is_folder(f / "configs")), None)
    shipped = shipped_configs()
    return (shipped,) if nearest in (None, shipped) else (nearest, shipped)


def find_part(name: str, folder: Path) -> Path | None:
    """Return the file of the shared part `name`, such as `suites/harmless`, or None."""
    if not _NAME.match(name):
        return None
    candidates = (configs / f"{name}.yaml" for configs in config_folders(folder))
    return next((path for path in candidates if is_file(path)), None)


def part_names(kind: str, folder: Path) -> tuple[str, ...]:
    """Return the names of all shared parts of a kind (`suites`, `policies`), sorted."""
    found = {path.stem for configs in config_folders(folder) for path in _files(configs / kind)}
    return tuple(sorted(found))


def _files(folder: Path) -> tuple[Path, ...]:
    try:
        return tuple(folder.glob("*.yaml"))
    except OSError:
        return ()
