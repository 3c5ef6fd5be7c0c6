"""The object store: immutable folders named by the digest of their manifest. Nothing that can run code gets in."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from safetune.core.digest import JSON, canonical, sha256_hex, short
from safetune.core.errors import IntegrityError
from safetune.state.atomic import fsync_folder, machine_errors
from safetune.state.files import check_relative, open_regular, sha256_regular

MANIFEST = "MANIFEST.json"
_FORMAT = "safetune-object/1"
# safetensors, JSON and text: formats that cannot carry code that runs on loading.
_ALLOWED = (".safetensors", ".json", ".jsonl", ".txt", ".jinja", ".model")


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
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise IntegrityError(f"{digest!r} is not an object digest")
        return self._root / digest

    def adopt(self, folder: Path) -> str:
        """Take the files of `folder` into the store and return their digest; the same content is stored once.

        Files are moved where `folder` lies on the same file system, else copied; each is flushed before its name.

        Raises:
            IntegrityError: for a link, a pickle, an archive, or any other kind that is not allowed.
            MachineError: when the machine refuses; the store is then unchanged.
        """
        names = _names(folder)
        filling = self._tmp / f"adopt-{uuid.uuid4().hex}"
        with machine_errors("store the object"):
            filling.mkdir(parents=True)
            rows: list[JSON] = [self._take(folder, filling, name) for name in names]
            manifest = canonical({"format": _FORMAT, "files": rows})
            digest = sha256_hex(manifest)
            if self.path(digest).exists():
                shutil.rmtree(filling)
                self.verify(digest)
                return digest
            _write_synced(filling / MANIFEST, manifest)
            for path in sorted({filling, *(f.parent for f in filling.rglob("*"))}, reverse=True):
                fsync_folder(path)
            filling.rename(self.path(digest))
            fsync_folder(self._root)
        return digest

    def _take(self, folder: Path, filling: Path, name: str) -> Mapping[str, JSON]:
        """Copy one file, flushed to disk, and return its manifest row, hashed from the copy."""
        target = filling / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with open_regular(folder / name) as source, target.open("xb") as copy:
            shutil.copyfileobj(source, copy, 1024 * 1024)
            copy.flush()
            os.fsync(copy.fileno())
        target.chmod(0o444)
        return {"path": name, "size": target.stat().st_size, "sha256": sha256_regular(target)}

    def manifest(self, digest: str) -> Mapping[str, tuple[int, str]]:
        """Return (size, sha256) per file of an object, the manifest itself checked against the name.

        Raises:
            IntegrityError: when the object is missing or its manifest is another one.
        """
        path = self.path(digest) / MANIFEST
        try:
            with open_regular(path) as stream:
                data = stream.read()
        except OSError as error:
            raise _damage(digest, f"is missing ({error.strerror})") from error
        if sha256_hex(data) != digest:
            raise _damage(digest, "has a manifest that was changed")
        try:
            rows = json.loads(data)["files"]
            return {check_relative(r["path"]): (int(r["size"]), str(r["sha256"])) for r in rows}
        except (ValueError, KeyError, TypeError) as error:
            raise _damage(digest, f"has a manifest that cannot be read: {error}") from error

    def verify(self, digest: str) -> int:
        """Hash every file of an object and return the number of bytes that were checked.

        Raises:
            IntegrityError: naming the first file that is missing, extra or changed.
        """
        folder, files, total = self.path(digest), self.manifest(digest), 0
        present = {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir() or p.is_symlink()}
        for extra in sorted(present - set(files) - {MANIFEST}):
            raise _damage(digest, f"holds a file that does not belong to it: {extra}")
        for name, (size, expected) in files.items():
            try:
                found = sha256_regular(folder / name)
            except OSError as error:
                raise _damage(digest, f"lacks {name} ({error.strerror})") from error
            if found != expected:
                raise _damage(digest, f"has a changed {name}: sha256 {short(found)}, expected {short(expected)}")
            total += size
        return total


def _damage(digest: str, what: str) -> IntegrityError:
    return IntegrityError(
        f"object {short(digest)} {what}", hint="restore it from a backup; `safetune verify` lists all damage"
    )


def _names(folder: Path) -> list[str]:
    """Return the relative names of all files of a folder that may be stored.

    Raises:
        IntegrityError: for anything that may not.
    """
    names = []
    for path in sorted(folder.rglob("*")):
        name = check_relative(path.relative_to(folder).as_posix())
        if path.is_symlink():
            raise IntegrityError(f"{name} is a symbolic link; links are never stored")
        if path.is_dir():
            continue
        if path.suffix.lower() not in _ALLOWED or path.name == MANIFEST:
            raise IntegrityError(
                f"{name} may not be stored: only {', '.join(_ALLOWED)} are", hint="save weights as safetensors"
            )
        names.append(name)
    if not names:
        raise IntegrityError(f"{folder.name} holds no files")
    return names


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    path.chmod(0o444)
