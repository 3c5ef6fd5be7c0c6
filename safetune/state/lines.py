"""Lines of a file that are read again when they are wanted, so that memory does not grow with what they hold."""

from __future__ import annotations

import json
import os
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import IO, Any, NoReturn, TypeVar, overload

from safetune.core.errors import IntegrityError, SafetuneError, UsageError
from safetune.state.atomic import machine_errors, write_all
from safetune.state.files import open_regular

T = TypeVar("T")
_CHUNK = 64 * 1024
_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
LINE_BYTES = 256 * 1024 * 1024  # as much as a results file of another tool may have, which may be one line


def json_line(line: str | bytes) -> Any:
    """Return what a line of JSON says: what `json.loads` says of it, in half of the time for a usual line.

    Raises:
        ValueError: for what is no JSON.
        RecursionError: for what is nested too deeply.
    """
    try:
        text = line if isinstance(line, str) else line.decode()
        found, end = _scan(text, 0)
    except (ValueError, StopIteration):
        return json.loads(line)  # it knows spaces and other encodings, and says what is wrong
    return found if text[end:] in ("", "\n") else json.loads(line)


class LineFile:
    """A file that is read by place and, where it is a temporary one, grows; closed when nobody holds it any more."""

    __slots__ = ("_descriptor", "_stored", "_stream", "_unwritten", "_written")

    def __init__(self, stream: IO[bytes], stored: Path | None = None) -> None:
        """Take over a stream; `stored` is the path of a file that safetune itself wrote."""
        self._stream, self._descriptor, self._stored = stream, stream.fileno(), stored
        self._unwritten = bytearray()
        self._written = 0

    def __del__(self) -> None:
        self._stream.close()

    @classmethod
    def stored(cls, path: Path) -> LineFile:
        """Return a file that is only read.

        Raises:
            IntegrityError: when it is not a regular file.
            OSError: when it cannot be opened.
        """
        return cls(open_regular(path), path)

    @classmethod
    def temporary(cls, folder: Path | None = None) -> LineFile:
        """Return an empty file without a name, in `folder` or where the machine keeps such files.

        Raises:
            MachineError: when the machine refuses.
        """
        with machine_errors("make a temporary file"):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            return cls(tempfile.TemporaryFile(dir=folder, buffering=0))

    def lines(self) -> Iterator[bytes]:
        """Yield every line from the first on, with its line end; only the last one may have none.

        Raises:
            MachineError: when the machine refuses.
            UsageError: when a line is longer than `LINE_BYTES`; in a stored file it is an IntegrityError.
        """
        place, size = 0, 0
        pieces: list[bytes] = []  # of the line that has not ended yet
        while chunk := self.read(place, _CHUNK):
            place += len(chunk)
            first, *others = chunk.split(b"\n")
            pieces.append(first)
            size += len(first)
            if size > LINE_BYTES:
                raise self._too_long()
            if others:
                yield b"".join((*pieces, b"\n"))
                for line in others[:-1]:
                    yield line + b"\n"
                pieces, size = others[-1:], len(others[-1])
        if size:
            yield b"".join(pieces)

    def _too_long(self) -> SafetuneError:
        path, most = self._stored or self._stream.name, f"is longer than {LINE_BYTES // 2**20} MiB"
        name = Path(path).name if isinstance(path, str | Path) else "a temporary file"
        if self._stored:
            return IntegrityError(f"a line of {name} {most}", hint="safetune verify")
        return UsageError(f"a line of {name} {most}", hint="write one row to each line")

    def read(self, place: int, size: int) -> bytes:
        """Return up to `size` bytes from `place` on.

        Raises:
            MachineError: when the machine refuses.
        """
        if self._unwritten:
            self._flush()
        try:  # not a `with`: this is done for every single item
            return os.pread(self._descriptor, size, place)
        except OSError as error:
            with machine_errors("read a file of an evaluation"):
                raise error

    def append(self, line: bytes) -> int:
        """Add a line, and its end, to a temporary file; return its place.

        Raises:
            MachineError: when the machine refuses.
        """
        place = self._written + len(self._unwritten)
        self._unwritten += line
        self._unwritten += b"\n"
        if len(self._unwritten) >= _CHUNK:
            self._flush()
        return place

    def _flush(self) -> None:
        with machine_errors("write a temporary file"):
            write_all(self._descriptor, bytes(self._unwritten))
        self._written += len(self._unwritten)
        self._unwritten.clear()


class Lines(Sequence[T]):
    """Some lines of a file, each decoded whenever it is read; equal to any sequence of equal things.

    A line that is no longer the one that was noted is an IntegrityError.
    """

    __slots__ = ("_ahead", "_begin", "_coming", "_decode", "_file", "_held", "_next", "_places", "_sizes", "_sums")

    def __init__(self, file: LineFile, decode: Callable[[bytes], T]) -> None:
        self._file, self._decode = file, decode
        self._begin, self._ahead, self._next = 0, b"", -1  # what was read ahead, and which line would be the next
        self._places, self._sizes, self._sums = array("Q"), array("I"), array("q")
        self._coming: list[bytes] = []  # lines that are still to be written, and their bytes
        self._held = 0

    def note(self, place: int, line: bytes) -> None:
        """Take in a line of the file."""
        self._places.append(place)
        self._sizes.append(len(line))
        self._sums.append(hash(line))

    def append(self, line: bytes) -> None:
        """Write one more line to the (temporary) file, and take it in.

        Raises:
            MachineError: when the machine refuses.
        """
        self._coming.append(line)
        self._held += len(line)
        if self._held >= _CHUNK:
            self._settle()

    def note_run(self, place: int, lines: Sequence[bytes]) -> None:
        """Take in lines of the file that stand one after the other, from `place` on."""
        sizes = list(map(len, lines))
        self._sizes.extend(sizes)
        self._sums.extend(map(hash, lines))
        self._places.extend(accumulate((size + 1 for size in sizes[:-1]), initial=place))

    def _settle(self) -> None:
        """Write what was appended; it is done before anything is read."""
        coming, self._coming, self._held = self._coming, [], 0
        self.note_run(self._file.append(b"\n".join(coming)), coming)

    def raw(self) -> Iterator[bytes]:
        """Yield the lines as they are, without line ends."""
        if self._coming:
            self._settle()
        begin, end, chunk = 0, 0, b""
        for place, size, known in zip(self._places, self._sizes, self._sums, strict=True):
            if not begin <= place <= place + size <= end:
                begin, chunk = place, self._file.read(place, max(size, _CHUNK))
                end = begin + len(chunk)
            line = chunk[place - begin : place - begin + size]
            yield line if hash(line) == known else _changed()

    def __len__(self) -> int:
        return len(self._places) + len(self._coming)

    def __iter__(self) -> Iterator[T]:
        return map(self._decode, self.raw())

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[T]: ...
    def __getitem__(self, at: int | slice) -> T | Sequence[T]:
        if isinstance(at, slice):
            return tuple(self[n] for n in range(*at.indices(len(self))))
        if self._coming:
            self._settle()
        line = self._read(self._places[at], self._sizes[at], follows=at == self._next)
        self._next = at + 1
        return self._decode(line if hash(line) == self._sums[at] else _changed())

    def _read(self, place: int, size: int, *, follows: bool) -> bytes:
        """Return a part of the file; where lines are asked for one after the other, many are read at once."""
        begin = place - self._begin
        if not (follows and 0 <= begin <= begin + size <= len(self._ahead)):
            if not follows:
                return self._file.read(place, size)
            begin, self._begin, self._ahead = 0, place, self._file.read(place, max(size, _CHUNK))
        return self._ahead[begin : begin + size]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


def _changed() -> NoReturn:
    raise IntegrityError("a file of this evaluation was changed while it was read", hint="safetune verify")
