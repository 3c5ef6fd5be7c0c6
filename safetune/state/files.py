"""Open and hash files without following links to places nobody meant."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import unicodedata
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path, PurePosixPath

from safetune.core.digest import digest
from safetune.core.errors import IntegrityError


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading; a symbolic link, folder or device is refused on the open descriptor.

    Raises:
        IntegrityError: when it is not a regular file.
        OSError: when it cannot be opened at all.
    """
    # O_NONBLOCK: opening a named pipe must not wait for somebody to write into it.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise IntegrityError(f"{path} is a symbolic link") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IntegrityError(f"{path} is not a regular file")
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path) -> bytes:
    """Return the content of a regular file inside the store, where a link is damage.

    Raises:
        IntegrityError: when it is not a regular file.
        OSError: when it cannot be read.
    """
    with open_regular(path) as stream:
        return stream.read()


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
    # Printable leaves out control characters and bytes that are no UTF-8; a name is shown to people and hashed as text.
    plain = path.parts and not path.is_absolute() and ".." not in path.parts and "\\" not in name and name.isprintable()
    if not plain or str(path) != name or unicodedata.normalize("NFC", name) != name:
        raise IntegrityError(f"{name!r} is not a plain relative path")
    return name


def sha256_listing(sums: Mapping[str, str]) -> str:
    """Return the digest of a folder: that of its relative paths, sorted, each with the SHA-256 of its file."""
    return digest([[name, sums[name]] for name in sorted(sums)])
