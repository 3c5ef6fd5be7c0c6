"""The members of an Inspect `.eval` file: a zip archive whose members are compressed with Zstandard, or deflated.

Only the names of the members that are wanted are looked at, nothing is ever written to disk, and no member and no
archive may unpack to more than a bound, whatever its own headers say.
"""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import IO

from safetune.core.errors import UsageError

MEMBERS = 100_000
MEMBER_BYTES = 64 * 1024 * 1024
TOTAL_BYTES = 1024 * 1024 * 1024

_ZSTANDARD = 93
_PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_TOO_LARGE = 3  # the exit code of safetune.worker.unpack_zstd
CONVERT = "let Inspect write it as JSON: inspect log convert FILE --to json --output-dir FOLDER"
_BROKEN = (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, NotImplementedError, RuntimeError)


class Archive:
    """The directory of an archive that is known to be harmless to read."""

    def __init__(self, data: bytes, file: str) -> None:
        """Look at the directory of the archive.

        Raises:
            UsageError: when it is no whole zip archive, or has a member with a dangerous name, size or compression.
        """
        self.file = file
        self._data = data
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            members = self._zip.infolist()
        except _BROKEN as error:
            raise UsageError(f"{file} is no whole zip archive", hint="the run was stopped; run it again") from error
        self._members = {m.filename: m for m in members}
        if len(members) > MEMBERS or len(self._members) != len(members):
            raise UsageError(f"{file} has too many members, or two of the same name", hint=CONVERT)
        for member in members:
            self._check(member)
        if sum(m.file_size for m in members) > TOTAL_BYTES:
            raise UsageError(f"{file} would unpack to more than {TOTAL_BYTES // 2**20} MiB")

    def _check(self, member: zipfile.ZipInfo) -> None:
        name = member.filename
        if not name.isprintable() or "\\" in name or name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise UsageError(f"{self.file} has a member with a path that leads out of it: {name[:80]!r}")
        if member.file_size > MEMBER_BYTES:
            raise UsageError(f"{self.file}: {name[:80]} would unpack to more than {MEMBER_BYTES // 2**20} MiB")
        if member.flag_bits & 0x1 or member.compress_type not in (*_PLAIN, _ZSTANDARD):
            raise UsageError(f"{self.file}: {name[:80]} is encrypted or compressed in an unknown way", hint=CONVERT)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all members, in the order of the archive."""
        return tuple(self._members)

    def contents(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield the names with their content, one at a time.

        Raises:
            UsageError: when a member is broken, or unpacks to more than it says.
        """
        chosen = [self._members[name] for name in names]
        packed = [m for m in chosen if m.compress_type == _ZSTANDARD and not hasattr(zipfile, "ZIP_ZSTANDARD")]
        for member in chosen:
            if member not in packed:
                yield member.filename, self._read(member)
        if packed:
            yield from self._unpack(packed)

    def _read(self, member: zipfile.ZipInfo) -> bytes:
        try:
            with self._zip.open(member) as stream:
                content = stream.read(MEMBER_BYTES + 1)
        except _BROKEN as error:
            raise self._broken(member.filename) from error
        return self._checked(member, content)

    def _checked(self, member: zipfile.ZipInfo, content: bytes) -> bytes:
        if len(content) != member.file_size or zlib.crc32(content) != member.CRC:
            raise self._broken(member.filename)
        return content

    def _broken(self, name: str) -> UsageError:
        return UsageError(f"{self.file}: {name[:80]} is broken", hint="the file was cut off or changed; run it again")

    def _unpack(self, members: Sequence[zipfile.ZipInfo]) -> Iterator[tuple[str, bytes]]:
        """Let a child process unpack, for the library that can is not for the command line."""
        blocks = [self._block(member) for member in members]
        limit = max(m.file_size for m in members)
        command = (sys.executable, "-m", "safetune.worker.unpack_zstd", str(limit))
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as child:
            try:
                _feed(_pipe(child.stdin), blocks)
                unpacked = _pipe(child.stdout)
                for member in members:
                    length = int.from_bytes(unpacked.read(8), "big")
                    content = unpacked.read(min(length, limit))
                    if not content and member.file_size:
                        raise self._stopped(child.wait(), member.filename)
                    yield member.filename, self._checked(member, content)
            finally:
                child.kill()

    def _stopped(self, code: int, name: str) -> UsageError:
        if code == _TOO_LARGE:
            return UsageError(f"{self.file}: {name[:80]} or a later member unpacks to more than it says")
        return UsageError(f"{self.file}: {name[:80]} could not be unpacked", hint=CONVERT)

    def _block(self, member: zipfile.ZipInfo) -> bytes:
        """Return the packed bytes of a member: behind its local header, whose two lengths are at byte 26."""
        at = member.header_offset
        header = self._data[at : at + 30]
        if header[:4] != b"PK\x03\x04" or len(header) != 30:
            raise self._broken(member.filename)
        start = at + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        packed = self._data[start : start + member.compress_size]
        if len(packed) != member.compress_size:
            raise self._broken(member.filename)
        return packed


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    """Return a pipe that was asked for."""
    if stream is None:
        raise OSError("the child process has no pipe")
    return stream


def _feed(stream: IO[bytes], blocks: Sequence[bytes]) -> None:
    """Write every block with its length in front; a child that ended early is found when its output is read."""
    try:
        with stream:
            for block in blocks:
                stream.write(len(block).to_bytes(8, "big") + block)
    except BrokenPipeError:
        pass
