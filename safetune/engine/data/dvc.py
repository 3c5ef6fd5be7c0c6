"""Files that DVC pins: `rows.jsonl.dvc`, and outs of `dvc.yaml` by its `dvc.lock`. Nothing of DVC is needed or run.

An out has an md5, as DVC defines it: of a file that of its bytes (before DVC 3 of a text file that with Unix line
ends), of a folder that of the JSON list of its files, followed by `.dir`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

import yaml

from safetune.core.errors import IntegrityError, SafetuneError, UsageError, reason_of
from safetune.state.files import check_relative, open_regular

PIPELINE, LOCK, SUFFIX = "dvc.yaml", "dvc.lock", ".dvc"
_MAX_BYTES, _MAX_DEPTH = 1024 * 1024, 64
_BLOCK = 2**20  # as DVC reads: a line end that lies across two blocks is not mended there either
_HEAD = 512
_TEXT = bytes(range(32, 127)) + b"\n\r\t\f\b"
_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
_MOST_BINARY = 0.30
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class DvcPin:
    """What DVC says of one out: where its data lies, the md5 (with `.dir` for a folder) and the bytes, -1 if unsaid.

    `dos2unix` is true for an md5 of before DVC 3. `said_by` is the file that says so.
    """

    data: Path
    md5: str
    size: int
    dos2unix: bool
    said_by: str


def is_dvc(path: str) -> bool:
    """Say whether a path names what DVC pins."""
    return path.endswith(SUFFIX) or PurePosixPath(path.partition("#")[0]).name == PIPELINE


def dvc_pin(path: str, whose: str) -> DvcPin:
    """Return what `FILE.dvc`, or `dvc.yaml#STAGE` or `dvc.yaml#OUT` by its lock file, pins.

    Raises:
        UsageError: when a file is missing, cannot be read, or pins no single out below its folder.
    """
    place, _, wanted = path.partition("#")
    if place.endswith(SUFFIX):
        said = _read(Path(place), whose)
        outs = said.get("outs")
        if not isinstance(outs, list) or len(outs) != 1:
            raise UsageError(f"{whose}: {Path(place).name} does not have exactly one out")
        return _pin(Path(place), (said, outs[0]), whose)
    return _locked(Path(place), wanted, whose)


def _locked(pipeline: Path, wanted: str, whose: str) -> DvcPin:
    """Return the pin of the out, or of the only out of the stage, that is called `wanted`."""
    if not wanted:
        raise UsageError(
            f"{whose}: which out of {PIPELINE} is meant?", hint=f"write {PIPELINE}#STAGE or {PIPELINE}#OUT"
        )
    stages = _mapping(_read(pipeline, whose).get("stages"))
    locked = _mapping(_read(pipeline.with_name(LOCK), whose).get("stages"))
    found = []
    for name, stage in locked.items():
        written = _mapping(stages.get(str(name).partition("@")[0]))
        if not written:
            continue  # the lock remembers a stage that is gone
        outs = [out for out in _list(_mapping(stage).get("outs")) if isinstance(out, Mapping)]
        wdir = str(written.get("wdir", ""))
        found += [
            (written, out)
            for out in outs
            if wanted in (name, str(out.get("path")), str(PurePosixPath(wdir) / str(out.get("path"))))
        ]
    if len(found) != 1:
        what = "no" if not found else f"{len(found)} outs, not one,"
        raise UsageError(
            f"{whose}: {LOCK} beside {PIPELINE} has {what} out for {wanted[:100]!r}"
            if not found
            else f"{whose}: {wanted[:100]!r} stands for {len(found)} outs of {LOCK}",
            hint="name the path of one out; run `dvc repro` when the lock file is old",
        )
    return _pin(pipeline, found[0], whose)


def _pin(place: Path, said: tuple[Mapping[str, Any], Any], whose: str) -> DvcPin:
    about, out = said[0], _mapping(said[1])
    shown = LOCK if place.name == PIPELINE else place.name
    md5, size = out.get("md5"), out.get("size", -1)
    if not isinstance(md5, str) or not _MD5.fullmatch(md5):
        raise UsageError(f"{whose}: {shown} pins no md5", hint="other checksums (etag, cloud versions) are not read")
    if type(size) is not int or out.get("hash", "md5") != "md5":
        raise UsageError(f"{whose}: {shown} cannot be understood: size or hash")
    relative = str(PurePosixPath(str(about.get("wdir") or ".")) / str(out.get("path") or ""))
    try:
        check_relative(relative)
        if "://" in str(out.get("path")):
            raise IntegrityError("an address")
    except SafetuneError:
        raise UsageError(
            f"{whose}: {shown} names {relative[:100]!r}; only a path below its own folder is read"
        ) from None
    return DvcPin(place.parent / relative, md5, size, "hash" not in out, shown)


def _read(path: Path, whose: str) -> Mapping[str, Any]:
    """Return what a YAML file of DVC says."""
    try:
        with open_regular(path) as stream:
            data = stream.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise UsageError(f"{whose}: {path.name} has more than {_MAX_BYTES} bytes")
        _check_yaml(data)
        found = yaml.load(data, Loader=_LOADER)
    except (OSError, UnicodeDecodeError, RecursionError, ValueError) as error:
        why = (
            reason_of(error)
            if isinstance(error, OSError)
            else "only plain YAML, without aliases and directives, is read"
        )
        raise UsageError(f"{whose}: {path.name} cannot be read: {why}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise UsageError(f"{whose}: {path.name}{line}: not YAML") from error
    if not isinstance(found, Mapping):
        raise UsageError(f"{whose}: {path.name} is no file of DVC")
    return cast("Mapping[str, Any]", found)


def _check_yaml(data: bytes) -> None:
    """Refuse, from the events of the parser alone, what makes the loader recurse, multiply or take for ever."""
    if b"\n%" in data or data.startswith(b"%"):
        raise ValueError("directives")
    depth = 0
    for event in yaml.parse(data, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH or isinstance(event, yaml.AliasEvent):
            raise ValueError("too deep, or an alias")


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def check_pin(pin: DvcPin, whose: str) -> None:
    """Compare the data with what DVC pins.

    Raises:
        UsageError: when the data is not there.
        IntegrityError: when it is other data.
    """
    whole = pin.md5.endswith(".dir")
    if not pin.data.exists() or pin.data.is_dir() != whole:
        raise UsageError(
            f"{whose}: {pin.data.name}, which {pin.said_by} pins, is not there", hint="get it with `dvc pull`"
        )
    try:
        md5, size = folder_md5(pin.data, dos2unix=pin.dos2unix) if whole else file_md5(pin.data, dos2unix=pin.dos2unix)
    except OSError as error:
        raise UsageError(f"{whose}: {pin.data.name} cannot be read: {reason_of(error)}") from error
    if md5 != pin.md5 or (pin.size not in (-1, size) and not pin.dos2unix):
        raise IntegrityError(
            f"{whose}: {pin.data.name} has md5 {md5} and {size} bytes, {pin.said_by} pins {pin.md5} and {pin.size}",
            hint="`dvc checkout` brings the pinned data back, `dvc commit` pins the new",
        )


def file_md5(path: Path, *, dos2unix: bool = False) -> tuple[str, int]:
    """Return the md5 of a file as DVC defines it, and its bytes.

    Raises:
        OSError: when it cannot be read.
        IntegrityError: when it is a link or no regular file.
    """
    found, size = hashlib.md5(usedforsecurity=False), 0
    with open_regular(path) as stream:
        while block := stream.read(_BLOCK):
            size += len(block)
            found.update(block.replace(b"\r\n", b"\n") if dos2unix and _is_text(block[:_HEAD]) else block)
    return found.hexdigest(), size


def _is_text(head: bytes) -> bool:
    return b"\0" not in head and len(head.translate(None, _TEXT)) / len(head) <= _MOST_BINARY


def folder_md5(folder: Path, *, dos2unix: bool = False) -> tuple[str, int]:
    """Return the md5 of a folder as DVC defines it, with `.dir`, and the bytes of all its files.

    Raises:
        OSError: when a file cannot be read.
        IntegrityError: when one is a link or no regular file.
    """
    sums, size = [], 0
    for relative in sorted(_files(folder)):
        md5, of_file = file_md5(folder / relative, dos2unix=dos2unix)
        sums.append({"md5": md5, "relpath": relative})
        size += of_file
    listing = json.dumps(sums, sort_keys=True).encode()
    return f"{hashlib.md5(listing, usedforsecurity=False).hexdigest()}.dir", size


def _files(folder: Path) -> Iterator[str]:
    for where, folders, names in os.walk(folder):
        for name in (*names, *(name for name in folders if (Path(where) / name).is_symlink())):
            yield (Path(where) / name).relative_to(folder).as_posix()
