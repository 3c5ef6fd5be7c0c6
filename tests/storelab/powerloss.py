"""A disk that forgets: record what a program asks of the kernel, then build what a power loss could have left.

The model is harsher than the usual file systems. The data of a file is safe after a flush of that file, a name after a
flush of its folder. Everything else may be lost or kept, each piece for itself. A rename happens wholly or not at all.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ACKNOWLEDGED = "acknowledged"


@dataclass(frozen=True, slots=True)
class Step:
    """One recorded call: its name, the path it is about, and what else it needs."""

    name: str
    path: str = ""
    other: str = ""
    number: int = 0
    data: bytes = b""


class Recorder:
    """Stands in for `os` calls (see `calls.watched`), does them, and writes down those below `root`."""

    def __init__(self, root: Path) -> None:
        self.steps: list[Step] = []
        self._root = str(root)
        self._open: dict[int, tuple[str, int]] = {}

    def acknowledge(self) -> None:
        """Write down that a caller was told of success."""
        self.steps.append(Step(ACKNOWLEDGED))

    def __call__(self, name: str, real: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name == "open":
            return self._opened(real, args, kwargs)
        if name in ("write", "fsync", "ftruncate"):
            return self._on_descriptor(name, real, args)
        path = self._path(args[0], kwargs)
        result = real(*args, **kwargs)
        other = self._path(args[1], kwargs) if name in ("rename", "replace") else ""
        self._note(Step("rename" if name == "replace" else name, path, other))
        return result

    def _opened(self, real: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        path, flags = self._path(args[0], kwargs), args[1]
        new = bool(flags & os.O_CREAT) and not os.path.lexists(path)
        descriptor = real(*args, **kwargs)
        at = os.fstat(descriptor).st_size if flags & os.O_APPEND else 0
        self._open[descriptor] = (path, at)
        if new:
            self._note(Step("create", path))
        return descriptor

    def _on_descriptor(self, name: str, real: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        path, at = self._open.get(args[0], ("", 0))
        if name == "fsync":
            self._note(Step("fsync", path))
            return None
        result = real(*args)
        if name == "write":
            self._note(Step("write", path, number=at, data=bytes(args[1])[:result]))
            self._open[args[0]] = (path, at + result)
        else:
            self._note(Step("ftruncate", path, number=args[1]))
        return result

    def _path(self, given: Any, kwargs: dict[str, Any]) -> str:
        folder = kwargs.get("dir_fd")
        path = os.fspath(given)
        return f"{self._open[folder][0]}/{path}" if folder is not None else path

    def _note(self, step: Step) -> None:
        inside = [p for p in (step.path, step.other) if p]
        if inside and all(p == self._root or p.startswith(self._root + "/") for p in inside):
            short = [os.path.relpath(p, self._root) for p in inside]
            other = short[1] if len(short) > 1 else ""
            self.steps.append(Step(step.name, short[0], other, step.number, step.data))


@dataclass(slots=True, eq=False)
class File:
    """Content that is safe, and changes that are not."""

    safe: bytes = b""
    changes: list[Step] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Folder:
    """Names as programs see them, and those that are safe."""

    now: dict[str, File | Folder] = field(default_factory=dict)
    safe: dict[str, File | Folder] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Naming:
    """A change of names that is not safe yet: `node` gets the name `to` (a folder and a name), and loses `gone`."""

    node: File | Folder
    to: tuple[Folder, str] | None
    gone: tuple[Folder, str] | None


@dataclass(frozen=True, slots=True)
class Luck:
    """What survives: `names` and `changes` say for each piece whether it does, `rest` what a lost write leaves."""

    names: Callable[[], bool]
    changes: Callable[[], bool]
    rest: Callable[[bytes], bytes]


def _luck(names: bool, changes: bool, rest: Callable[[bytes], bytes] = lambda data: b"") -> Luck:
    return Luck(lambda: names, lambda: changes, rest)


EVERYTHING = _luck(True, True)
WORST: dict[str, Luck] = {
    "nothing": _luck(False, False),
    "names": _luck(True, False),
    "names, zeros for data": _luck(True, False, lambda data: bytes(len(data))),
    "names, half of the data": _luck(True, False, lambda data: data[: len(data) // 2]),
    "data": _luck(False, True),
    "everything": EVERYTHING,
}


def chance(seed: int) -> Luck:
    """Return luck that is different for each piece."""
    rng = random.Random(seed)
    coin: Callable[[], bool] = lambda: rng.random() < 0.5  # noqa: E731
    return Luck(coin, coin, lambda data: data[: rng.randint(0, len(data))])


class Disk:
    """What is on a disk, and what of it would survive a power loss."""

    def __init__(self, folder: Path) -> None:
        self._root = _read(folder)
        self._pending: list[Naming] = []

    def play(self, step: Step) -> None:
        """Do one recorded call."""
        if step.name in ("create", "mkdir"):
            self._name(File() if step.name == "create" else Folder(), step.path, "")
        elif step.name in ("unlink", "rmdir"):
            folder, name = self._find(step.path)
            self._name(folder.now[name], "", step.path)
        elif step.name == "rename":
            folder, name = self._find(step.path)
            self._name(folder.now[name], step.other, step.path)
        elif step.name == "fsync":
            self._flush(self._node(step.path))
        elif step.name in ("write", "ftruncate"):
            node = self._node(step.path)
            assert isinstance(node, File)
            node.changes.append(step)

    def after_power_loss(self, luck: Luck, place: Path) -> None:
        """Write what is left to `place`, which is not there yet."""
        names: dict[Folder, dict[str, File | Folder]] = {}
        for naming in self._pending:
            if luck.names():
                _apply(naming, lambda folder: names.setdefault(folder, dict(folder.safe)))
        _write(self._root, place, names, luck)

    def _find(self, path: str) -> tuple[Folder, str]:
        folder = self._root
        *above, name = path.split("/")
        for part in above:
            found = folder.now[part]
            assert isinstance(found, Folder)
            folder = found
        return folder, name

    def _node(self, path: str) -> File | Folder:
        folder, name = self._find(path)
        return self._root if path == "." else folder.now[name]

    def _name(self, node: File | Folder, to: str, gone: str) -> None:
        naming = Naming(node, self._find(to) if to else None, self._find(gone) if gone else None)
        _apply(naming, lambda folder: folder.now)
        self._pending.append(naming)

    def _flush(self, node: File | Folder) -> None:
        if isinstance(node, File):
            node.safe, node.changes = _content(node, EVERYTHING), []
            return
        safe = [n for n in self._pending if any(place and place[0] is node for place in (n.to, n.gone))]
        for naming in safe:
            _apply(naming, lambda folder: folder.safe)
        # A name that was given up before it was safe is never seen again.
        left = {(n.gone, n.node) for n in safe}
        self._pending = [n for n in self._pending if n not in safe and (n.to, n.node) not in left]


def _apply(naming: Naming, names: Callable[[Folder], dict[str, File | Folder]]) -> None:
    if naming.gone and names(naming.gone[0]).get(naming.gone[1]) is naming.node:
        del names(naming.gone[0])[naming.gone[1]]
    if naming.to:
        names(naming.to[0])[naming.to[1]] = naming.node


def _content(file: File, luck: Luck) -> bytes:
    content = bytearray(file.safe)
    for step in file.changes:
        kept = luck.changes()
        if step.name == "ftruncate" and kept:
            content = content[: step.number]
        elif step.name == "write":
            data = step.data if kept else luck.rest(step.data)
            if data:
                content += bytes(max(0, step.number - len(content)))
                content[step.number : step.number + len(data)] = data
    return bytes(content)


def _read(path: Path) -> Folder:
    folder = Folder()
    for child in path.iterdir():
        folder.now[child.name] = _read(child) if child.is_dir() else File(child.read_bytes())
    folder.safe = dict(folder.now)
    return folder


def _write(node: File | Folder, place: Path, names: dict[Folder, dict[str, File | Folder]], luck: Luck) -> None:
    if isinstance(node, File):
        place.write_bytes(_content(node, luck))
        return
    place.mkdir()
    for name, child in names.get(node, node.safe).items():
        _write(child, place / name, names, luck)
