"""A hub dataset at a pinned revision, taken from the local cache only: nothing is fetched here.

The cache of huggingface_hub keeps `datasets--ORG--NAME/snapshots/REVISION/`, whose files are links into
`datasets--ORG--NAME/blobs/`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetune.core.errors import UsageError
from safetune.engine.data.folders import data_files

PREFIX = "hub:"
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,95})"
_URI = re.compile(rf"hub:({_PART}/{_PART})((?:/[^/\\]+)*)")
_REVISION = re.compile(r"[0-9a-f]{40}")
# In the order in which huggingface_hub asks them.
_ROOTS = (
    ("HF_HUB_CACHE", ""),
    ("HUGGINGFACE_HUB_CACHE", ""),
    ("HF_HOME", "hub"),
    ("XDG_CACHE_HOME", "huggingface/hub"),
)


def cache_folder() -> Path:
    """Return the folder of the hub cache."""
    for variable, below in _ROOTS:
        if value := os.environ.get(variable):
            return Path(value).expanduser() / below
    return Path.home() / ".cache" / "huggingface" / "hub"


def hub_files(uri: str, revision: str, whose: str) -> Mapping[str, Path]:
    """Return the data files of `hub:ORG/NAME[/PATH]` at a revision; PATH is a folder or a file of the dataset.

    Raises:
        UsageError: when uri or revision is none, or it is not in the cache, saying what to fetch.
        IntegrityError: for a file that lies elsewhere.
    """
    name, below = split(uri, whose)
    if not _REVISION.fullmatch(revision):
        raise UsageError(
            f"{whose}: a hub dataset needs `revision`, 40 hex digits",
            hint="the commit of the dataset; a branch or tag can change",
        )
    home = cache_folder() / f"datasets--{name.replace('/', '--')}"
    snapshot = home / "snapshots" / revision
    wanted = snapshot / below if below else snapshot
    if not wanted.exists():
        fetch = f"hf download {name} --repo-type dataset --revision {revision}"
        missing = f"{name} at {revision[:12]}" if not snapshot.is_dir() else f"{below} of {name}"
        raise UsageError(f"{whose}: {missing} is not in the hub cache", hint=f"fetch it once: {fetch}")
    if wanted.is_dir():
        inner = data_files(wanted, whose, within=home)
        return {f"{below}/{file}" if below else file: path for file, path in inner.items()}
    every = data_files(snapshot, whose, within=home)
    if below not in every:
        raise UsageError(f"{whose}: {below} of {name} is no data file")
    return {below: every[below]}


def split(uri: str, whose: str) -> tuple[str, str]:
    """Return (ORG/NAME, path inside it or nothing) of a hub uri.

    Raises:
        UsageError: when it is none.
    """
    match = _URI.fullmatch(uri)
    if match is None or any(part in ("", ".", "..") for part in match[2].split("/")[1:]):
        raise UsageError(f"{whose}: {uri[:100]!r} is no hub dataset", hint="write hub:ORG/NAME or hub:ORG/NAME/PATH")
    return match[1], match[2].lstrip("/")
