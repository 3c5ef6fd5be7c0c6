"""Resume only from a training state that is complete: a manifest of digests is written last, and checked first.

transformers picks `checkpoint-N` by its name, complete or not, and goes on silently with other weights when optimizer
or random state is missing (transformers#35782). So an incomplete folder is removed before transformers looks.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetune.core.digest import canonical
from safetune.state.atomic import write_atomic
from safetune.state.files import sha256_file

_MANIFEST = "COMPLETE.json"


def seal(folder: Path, step: int) -> None:
    """Write the manifest of a training state after everything else in it."""
    files = {str(f.relative_to(folder)): sha256_file(f) for f in sorted(folder.rglob("*")) if f.is_file()}
    write_atomic(folder / _MANIFEST, canonical({"step": step, "files": files}))


def newest_complete(state: Path) -> Path | None:
    """Return the newest complete training state under `state`, and remove the ones that are not complete."""
    found = []
    for folder in state.glob("checkpoint-*"):
        step = _complete_step(folder)
        if step is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            found.append((step, folder))
    return max(found)[1] if found else None


def _complete_step(folder: Path) -> int | None:
    try:
        manifest = json.loads((folder / _MANIFEST).read_bytes())
        files = manifest["files"]
        present = {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()} - {_MANIFEST}
        if present != set(files) or any(sha256_file(folder / name) != sha for name, sha in files.items()):
            return None
        return int(manifest["step"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
