"""The data files of a folder, by relative path; nothing outside it, whatever links say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from safetune.core.errors import IntegrityError, UsageError, reason_of
from safetune.engine.data.tables import SUFFIXES
from safetune.state.files import check_relative

_MOST = 100_000


def data_files(folder: Path, whose: str, within: Path | None = None) -> Mapping[str, Path]:
    """Return the .jsonl, .csv and .parquet files of a folder by relative path, sorted by it.

    What begins with a dot is passed over. A linked file is taken when it lies inside `within` (the folder itself when
    left out); folders that are links are refused, so that no file is read twice.

    Raises:
        UsageError: when there is no such folder, or no data file in it.
        IntegrityError: for a link that leads out of it, or a name that is no plain path.
    """
    root = (within or folder).resolve()
    found: dict[str, Path] = {}
    for where, folders, names in os.walk(folder, onerror=lambda error: _cannot(error, folder, whose)):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if (Path(where) / name).is_symlink():
                raise IntegrityError(f"{whose}: {_relative(folder, Path(where) / name)} is a link to another folder")
        for name in names:
            if name.startswith(".") or PurePosixPath(name).suffix not in SUFFIXES:
                continue
            path = Path(where) / name
            relative = check_relative(_relative(folder, path))
            found[relative] = _inside(path, root, f"{whose}: {relative}")
            if len(found) > _MOST:
                raise UsageError(f"{whose}: {folder.name} has more than {_MOST} data files")
    if not found:
        raise UsageError(
            f"{whose}: {folder.name} holds no data file", hint=f"what is read there: {', '.join(sorted(SUFFIXES))}"
        )
    return {name: found[name] for name in sorted(found)}


def _relative(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _inside(path: Path, root: Path, what: str) -> Path:
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(root):
        raise IntegrityError(f"{what} is a link that leads out of the folder")
    return real


def _cannot(error: OSError, folder: Path, whose: str) -> None:
    raise UsageError(
        f"{whose}: {folder.name} cannot be read: {reason_of(error)}", hint="check the `uri` of the source"
    ) from error
