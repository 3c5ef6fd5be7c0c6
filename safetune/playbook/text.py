"""A YAML file as text: read with limits, and able to point at a place in itself."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from safetune.core.diagnostics import Diagnostic

# A playbook of 40 stages has about 30 KB; whoever needs more should split it with `extends`.
MAX_BYTES = 256 * 1024

_EXCERPT = 160
_BEFORE_CARET = 60

# What YAML 1.1 calls not printable, and lone surrogates; a file with one of them is binary or hostile.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Text:
    """The text of one file. `shown` is the path as a person knows it, `folder` the absolute folder it lies in."""

    shown: str
    folder: Path
    content: str
    lines: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a text: line and column from 1."""

    text: Text = field(repr=False)
    line: int
    column: int

    @property
    def where(self) -> str:
        """Return `file:line`."""
        return f"{self.text.shown}:{self.line}"

    def diagnostic(self, code: str, message: str, hint: str = "") -> Diagnostic:
        """Return a mistake at this place, with its line as the excerpt."""
        lines = self.text.lines
        line = lines[self.line - 1] if 0 < self.line <= len(lines) else ""
        cut = max(0, self.column - 1 - _BEFORE_CARET) if len(line) > _EXCERPT else 0
        excerpt, caret = line[cut : cut + _EXCERPT], self.column - cut
        return Diagnostic(self.text.shown, self.line, self.column, code, message, excerpt, hint, caret)


class Unreadable(Exception):
    """A file that cannot be read as a playbook; the last diagnostic says why, others were found before it."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        super().__init__(diagnostics[-1].message)
        self.diagnostics = diagnostics


def show(path: Path) -> str:
    """Return an absolute path relative to the working folder when it lies inside, else as it is."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def unprintable(text: str) -> str:
    """Return the first character that may not appear in a playbook, as U+XXXX, or an empty string."""
    found = _UNPRINTABLE.search(text)
    return f"U+{ord(found.group()):04X}" if found else ""


def read_text(path: Path, shown: str = "") -> Text:
    """Read a UTF-8 text file.

    Raises:
        Unreadable: when it is missing, no plain file, too large, not UTF-8, or has characters that are not text.
    """
    shown = shown or show(path)
    return decode(read_bytes(path, shown), path, shown)


def decode(data: bytes, path: Path, shown: str) -> Text:
    """Return the text of the bytes of a file.

    Raises:
        Unreadable: when they are not UTF-8, or have characters that are not text.
    """
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", "replace")
        text = Text(shown, path.parent, "", tuple(_BREAK.split(before)))
        message = f"the file is not UTF-8: byte 0x{data[error.start]:02X} cannot be read"
        raise Unreadable(_at(text, before, "SP103", message, "save it as UTF-8")) from None
    text = Text(shown, path.parent, content, tuple(_BREAK.split(content)))
    found = _UNPRINTABLE.search(content)
    if found:
        name = f"U+{ord(found.group()):04X}"
        message = f"the file holds the character {name}, which is not text"
        raise Unreadable(_at(text, content[: found.start()], "SP103", message, "remove it"))
    return text


def _at(text: Text, before: str, code: str, message: str, hint: str) -> Diagnostic:
    lines = _BREAK.split(before)
    return Place(text, len(lines), len(lines[-1]) + 1).diagnostic(code, message, hint)


def read_bytes(path: Path, shown: str) -> bytes:
    """Read a plain file, at most the limit, without waiting for a pipe or a device.

    Raises:
        Unreadable: when it is missing, no plain file, or too large.
    """
    try:
        # A pipe without a writer would block an ordinary open for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        hint = "check the path; `safetune init` writes a playbook to start from"
        raise Unreadable(Diagnostic(shown, 1, 1, "SP101", f"the file cannot be read: {reason}", hint=hint)) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            message, hint = "this is not a plain file", "name the YAML file itself"
            raise Unreadable(Diagnostic(shown, 1, 1, "SP101", message, hint=hint))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Unreadable(Diagnostic(shown, 1, 1, "SP101", f"the file cannot be read: {error.strerror}")) from None
    finally:
        os.close(descriptor)
    if len(data) > MAX_BYTES:
        message = f"the file is larger than {MAX_BYTES // 1024} KiB"
        hint = "split it: shared parts go into files that `extends` names"
        raise Unreadable(Diagnostic(shown, 1, 1, "SP102", message, hint=hint))
    return data
