"""The object store: immutable folders named by the digest of their manifest. Nothing that can run code gets in."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path

from safetune.core.digest import JSON, canonical, sha256_hex, short
from safetune.core.errors import IntegrityError
from safetune.state.atomic import fsync_folder, machine_errors, write_all, write_new
from safetune.state.files import check_relative, open_regular, sha256_regular
from safetune.state.lock import filling

MANIFEST = "MANIFEST.json"
FILLING = "adopt-"
_FORMAT = "safetune-object/1"
_BUFFER = 1024 * 1024
_MAX_MANIFEST = 16 * 1024 * 1024
_READ_ONLY = 0o444
# safetensors, JSON and text: formats that cannot carry code that runs on loading.
_ALLOWED = (".safetensors", ".json", ".jsonl", ".txt", ".jinja", ".model")
# What a pickle or an archive begins with, whatever it is called: zip, gzip, xz, bzip2, zstandard, pickle 2 to 5.
_DISGUISES = (
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"\xfd7zXZ",
    b"BZh",
    b"\x28\xb5\x2f\xfd",
    *(bytes((0x80, n)) for n in range(2, 6)),
)
_MAX_HEADER = 100 * 1024 * 1024


class ObjectStore:
    """Objects of one store, under `root`; new ones are filled in `tmp`, on the same file system, and renamed."""

    def __init__(self, root: Path, tmp: Path) -> None:
        self._root = root
        self._tmp = tmp

    def path(self, digest: str) -> Path:
        """Return the folder of an object, whether it exists or not.

        Raises:
            IntegrityError: when `digest` is not a digest.
        """
        if not is_digest(digest):
            raise IntegrityError(f"{digest!r} is not an object digest")
        return self._root / digest

    def adopt(self, folder: Path) -> str:
        """Copy the files of `folder` into the store and return their digest; the same content is stored once.

        Each file is hashed from the bytes that are written, flushed, and only then named; the folder is left as it was.
        No lock is needed: several processes may adopt at once, the same content too.

        Raises:
            IntegrityError: for a link, a pickle, an archive, or any other kind that is not allowed.
            MachineError: when the machine refuses; the store is then unchanged.
        """
        with machine_errors("store the object"):
            names = _names(folder)
            self._tmp.mkdir(exist_ok=True)
            with filling(self._tmp):
                place = self._tmp / f"{FILLING}{uuid.uuid4().hex}"
                try:
                    return self._fill(folder, names, place)
                finally:
                    shutil.rmtree(place, ignore_errors=True)

    def _fill(self, folder: Path, names: list[str], place: Path) -> str:
        place.mkdir()
        manifest = canonical({"format": _FORMAT, "files": [_take(folder, place, name) for name in names]})
        digest = sha256_hex(manifest)
        if not self.path(digest).exists():
            write_new(place / MANIFEST, manifest, mode=_READ_ONLY)
            for path in sorted({place, *(f.parent for f in place.rglob("*"))}, reverse=True):
                fsync_folder(path)
            if self._name(place, digest):
                return digest
        # Somebody else stored the same bytes, and may have been stopped before their name was safe.
        fsync_folder(self._root)
        self.verify(digest)
        return digest

    def _name(self, place: Path, digest: str) -> bool:
        """Give a filled folder its name; return False when another process was faster."""
        try:
            place.rename(self.path(digest))
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return False
        fsync_folder(self._root)
        return True

    def manifest(self, digest: str) -> Mapping[str, tuple[int, str]]:
        """Return (size, sha256) per file of an object, the manifest itself checked against the name.

        Raises:
            IntegrityError: when the object is missing or its manifest is another one.
        """
        folder = self.path(digest)
        if folder.is_symlink():
            raise _damage(digest, "is a symbolic link")
        try:
            with open_regular(folder / MANIFEST) as stream:
                data = stream.read(_MAX_MANIFEST)
        except OSError as error:
            raise _damage(digest, f"is missing ({error.strerror})") from error
        if sha256_hex(data) != digest:
            raise _damage(digest, "has a manifest that was changed")
        try:
            found = json.loads(data)
            if found["format"] != _FORMAT:
                raise ValueError(f"its format is {found['format']!r}")
            return {check_relative(r["path"]): (int(r["size"]), str(r["sha256"])) for r in found["files"]}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _damage(digest, f"has a manifest that cannot be read: {error}") from error

    def verify(self, digest: str) -> int:
        """Hash every file of an object and return the number of bytes that were checked.

        Raises:
            IntegrityError: naming the first file that is missing, extra or changed.
        """
        files, folder, total = self.manifest(digest), self.path(digest), 0
        try:
            present = set(_files(folder))
        except OSError as error:
            raise _damage(digest, f"cannot be listed ({error.strerror})") from error
        for extra in sorted(present - set(files) - {MANIFEST}):
            raise _damage(digest, f"holds a file that does not belong to it: {extra!r}")
        for name, (size, expected) in files.items():
            try:
                found = sha256_regular(folder / name)
            except OSError as error:
                raise _damage(digest, f"lacks {name} ({error.strerror})") from error
            if found != expected:
                raise _damage(digest, f"has a changed {name}: sha256 {short(found)}, expected {short(expected)}")
            total += size
        return total

    def names(self) -> tuple[str, ...]:
        """Return what lies in the objects folder, sorted; entries that are not objects too.

        Raises:
            OSError: when it cannot be listed.
        """
        return tuple(sorted(path.name for path in self._root.iterdir()))


def is_digest(text: str) -> bool:
    """Whether `text` is the form of a sha256: 64 lower-case hex digits."""
    return len(text) == 64 and not set(text) - set("0123456789abcdef")


def _damage(digest: str, what: str) -> IntegrityError:
    return IntegrityError(
        f"object {short(digest)} {what}", hint="restore it from a backup; `safetune verify` lists all damage"
    )


def _files(folder: Path) -> list[str]:
    """Return the relative names of everything in a folder that is not a folder; links are named, never followed.

    Raises:
        OSError: when a part of it cannot be read.
    """
    found = []
    for where, folders, files in os.walk(folder, onerror=_raise):
        links = [name for name in folders if (Path(where) / name).is_symlink()]
        found += [(Path(where) / name).relative_to(folder).as_posix() for name in (*files, *links)]
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def _names(folder: Path) -> list[str]:
    """Return the relative names of all files of a folder that may be stored.

    Raises:
        IntegrityError: for anything that may not.
        OSError: when it cannot be read.
    """
    if folder.is_symlink():
        raise IntegrityError(f"{folder.name} is a symbolic link; links are never stored")
    names = [check_relative(name) for name in _files(folder)]
    for name in names:
        path = folder / name
        if path.is_symlink():
            raise IntegrityError(f"{name} is a symbolic link; links are never stored")
        if path.suffix.lower() not in _ALLOWED or path.name == MANIFEST:
            raise IntegrityError(
                f"{name} may not be stored: only {', '.join(_ALLOWED)} are", hint="save weights as safetensors"
            )
    if not names:
        raise IntegrityError(f"{folder.name} holds no files")
    return names


def _take(folder: Path, place: Path, name: str) -> Mapping[str, JSON]:
    """Copy one file, flushed to disk, and return its manifest row, hashed from the bytes that were written."""
    target = place / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with open_regular(folder / name) as source:
        _refuse_disguise(name, source)
        # Made read-only at once, so that no later change of its mode is needed; bits are a courtesy, digests decide.
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _READ_ONLY)
        try:
            size, sha256 = _copy(source, descriptor)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return {"path": name, "size": size, "sha256": sha256}


def _copy(source: BufferedReader, descriptor: int) -> tuple[int, str]:
    size, hashed, buffer = 0, hashlib.sha256(), memoryview(bytearray(_BUFFER))
    while count := source.readinto(buffer):
        hashed.update(buffer[:count])
        write_all(descriptor, buffer[:count])
        size += count
    return size, hashed.hexdigest()


def _refuse_disguise(name: str, source: BufferedReader) -> None:
    """Refuse a pickle or an archive that wears an allowed name.

    A safetensors file begins with the length of its JSON header (8 bytes, little-endian) and that header.
    """
    start = source.read(16)
    source.seek(0)
    if name.lower().endswith(".safetensors"):
        length, size = int.from_bytes(start[:8], "little"), os.fstat(source.fileno()).st_size
        if len(start) < 10 or start[8:9] != b"{" or not 2 <= length <= min(_MAX_HEADER, size - 8):
            raise IntegrityError(f"{name} is not a safetensors file", hint="save weights as safetensors")
    elif start.startswith(_DISGUISES):
        raise IntegrityError(f"{name} is an archive or a pickle under another name", hint="save weights as safetensors")
