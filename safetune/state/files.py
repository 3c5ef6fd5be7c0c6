"""Open and hash files without following links to places nobody meant."""

from __future__ import annotations

import hashlib
import os
import stat
import unicodedata
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from safetune.core.errors import IntegrityError


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; a symbolic link, folder or device is refused on the open descriptor.

    Raises:
        IntegrityError: when it is not a regular file.
        OSError: when it cannot be opened at all.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IntegrityError(f"{path} is not a regular file")
    return os.fdopen(descriptor, "rb")


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits.

    Raises:
        OSError: when it cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_regular(path: Path) -> str:
    """Like `sha256_file`, for files inside the store, where a link is damage."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_relative(name: str) -> str:
    """Return `name` when it is a plain relative POSIX path in NFC form; it may not climb or hide.

    Raises:
        IntegrityError: for anything else.
    """
    path = PurePosixPath(name)
    plain = name and not path.is_absolute() and ".." not in path.parts and "\\" not in name and "\0" not in name
    if not plain or str(path) != name or unicodedata.normalize("NFC", name) != name:
        raise IntegrityError(f"{name!r} is not a plain relative path")
    return name
