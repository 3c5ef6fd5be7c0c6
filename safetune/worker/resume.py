"""Resume only from a training state that is complete: a manifest of digests is written last, and checked first.

transformers picks `checkpoint-N` by its name, complete or not, and goes on silently with other weights when the
optimizer or the random state is missing. So an incomplete folder is removed before transformers looks.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetune.core.digest import JSON, canonical
from safetune.state.atomic import write_atomic
from safetune.state.files import sha256_file

MANIFEST = "COMPLETE.json"


def seal(folder: Path, step: int) -> None:
    """Write the manifest of a training state (sizes and SHA-256 of every file) after everything else in it."""
    files: dict[str, JSON] = {
        str(path.relative_to(folder)): {"size": path.stat().st_size, "sha256": sha256_file(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    write_atomic(folder / MANIFEST, canonical({"step": step, "files": files}))


def newest(state: Path) -> tuple[int, Path] | None:
    """Return step and folder of the newest sealed training state under `state`; call `remove_incomplete` first."""
    found = [(step, folder) for folder in state.glob("checkpoint-*") if (step := _step(folder)) is not None]
    return max(found, default=None)


def remove_incomplete(state: Path, *, verify: bool = False) -> None:
    """Remove training states without a manifest; with `verify` also those whose files are not what it says."""
    for folder in state.glob("checkpoint-*"):
        if _step(folder) is None or (verify and not _is_whole(folder)):
            shutil.rmtree(folder, ignore_errors=True)


def _step(folder: Path) -> int | None:
    """Return the step that a sealed state belongs to, or None without a readable manifest of that step."""
    try:
        step = int(json.loads((folder / MANIFEST).read_bytes())["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return step if folder.name == f"checkpoint-{step}" else None


def _is_whole(folder: Path) -> bool:
    """Say whether a state holds exactly the files of its manifest; sizes are compared before anything is hashed."""
    try:
        expected = json.loads((folder / MANIFEST).read_bytes())["files"]
        present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {MANIFEST}
        return present == set(expected) and all(
            (folder / name).stat().st_size == file["size"] and sha256_file(folder / name) == file["sha256"]
            for name, file in sorted(expected.items())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
