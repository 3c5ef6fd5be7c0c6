"""Public files in the data root: looked for in one folder, and read only when they are the pinned ones."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from safetune.core.digest import sha256_hex, short
from safetune.core.errors import IntegrityError, UsageError

_CHUNK = 64 * 1024
DATA_ROOT_VARIABLE = "SAFETUNE_DATA_ROOT"


def locate_public(location: str, source: str, whose: str) -> Path:
    """Return the path of a public file; `source` says where it can be had, `whose` who needs it.

    Raises:
        UsageError: when it is not below the data root, saying where it was looked for.
    """
    inside = PurePosixPath(location)
    if inside.is_absolute() or ".." in inside.parts or not inside.parts:
        raise UsageError(f"{whose}: {location!r} is not a path inside the data root")
    root = os.environ.get(DATA_ROOT_VARIABLE, "")
    path = Path(root) / location
    if not root or not path.is_file():
        where = f"it is not under {root}" if root else f"{DATA_ROOT_VARIABLE} is not set"
        raise UsageError(
            f"{whose}: public file {location} is not here: {where}",
            hint=f"get it from {source} and set {DATA_ROOT_VARIABLE} to the folder that holds it",
        )
    return path


def pinned_lines(path: Path, sha256: str, whose: str) -> Iterator[str]:
    """Yield the lines of a file like that of `read_pinned`, without line ends: only a line feed ends a line.

    The file is hashed before its first line is given, and again on the way, so that the caller gets nothing of
    another file and no memory is needed for all of it.

    Raises:
        UsageError: when it cannot be read, or is not UTF-8.
        IntegrityError: when it is another file.
    """
    try:
        with path.open("rb") as stream:
            before, seen = hashlib.file_digest(stream, "sha256").hexdigest(), hashlib.sha256()
            _check_pinned(path, before, sha256, whose)
            stream.seek(0)
            encoding = "utf-8-sig"
            while lines := stream.readlines(_CHUNK):  # whole lines, and little more than that
                block = b"".join(lines)
                seen.update(block)
                yield from block.removesuffix(b"\n").decode(encoding).split("\n")
                encoding = "utf-8"
            _check_pinned(path, seen.hexdigest(), before, whose)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{whose}: cannot read {path.name}: {error}") from error


def _check_pinned(path: Path, found: str, sha256: str, whose: str) -> None:
    if sha256 and found != sha256:
        raise IntegrityError(
            f"{whose}: {path.name} has sha256 {short(found)}, pinned is {short(sha256)}",
            hint="restore the pinned file, or pin the new one in the suite definition",
        )


def read_pinned(path: Path, sha256: str, whose: str) -> str:
    """Return the text of a file whose bytes have the given SHA-256; an empty one pins nothing.

    Raises:
        UsageError: when it cannot be read, or is not UTF-8.
        IntegrityError: when it is another file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{whose}: cannot read {path.name}: {error}") from error
    _check_pinned(path, sha256_hex(data), sha256, whose)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{whose}: cannot read {path.name}: {error}") from error
