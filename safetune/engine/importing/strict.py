"""Read bytes and JSON that somebody else wrote: within limits, UTF-8 only, one clear message with file and line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetune.core.errors import IntegrityError, UsageError
from safetune.state.files import open_regular

# The largest file and the largest line that are read. A sample of Inspect with all its events is some 10 kB; these
# bounds are far above what a gate needs, and keep a hostile file from filling the memory.
FILE_BYTES = 256 * 1024 * 1024
LINE_BYTES = 16 * 1024 * 1024

_RELEASE = re.compile(r"[0-9A-Za-z.+_-]{1,60}")
_AGAIN = "the file was cut off or changed; run the tool again"


def read_bytes(path: Path) -> bytes:
    """Return the content of a regular file.

    Raises:
        UsageError: when it cannot be read, is no regular file, is empty or too large.
    """
    try:
        with open_regular(path) as stream:
            data = stream.read(FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint="check the file name") from error
    except IntegrityError as error:
        raise UsageError(error.message, hint="name the results file itself") from error
    if len(data) > FILE_BYTES:
        raise UsageError(f"{path.name} is larger than {FILE_BYTES // 2**20} MiB", hint="split the run into suites")
    if not data.strip():
        raise UsageError(f"{path.name} is empty", hint=_AGAIN)
    return data


def parse(data: bytes, where: str) -> Mapping[str, object]:
    """Return the object that JSON text holds; NaN and infinities are kept, for the caller must see them.

    Raises:
        UsageError: naming `where`, when it is not UTF-8, not JSON, not an object, nested too deep, or has half a
            surrogate pair.
    """
    try:
        value = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{where}: not UTF-8", hint=_AGAIN) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not JSON", hint=_AGAIN) from error
    if not isinstance(value, dict):
        raise UsageError(f"{where}: not an object", hint=_AGAIN)
    return value


def rows(data: bytes, file: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield (`file:line`, row) for every line of a JSONL file that is not blank.

    Raises:
        UsageError: naming file and line of the first line that cannot be used.
    """
    for number, line in enumerate(data.split(b"\n"), 1):
        if len(line) > LINE_BYTES:
            raise UsageError(f"{file}:{number}: the line is longer than {LINE_BYTES // 2**20} MiB")
        if line.strip():
            yield f"{file}:{number}", parse(line, f"{file}:{number}")


def mapping(row: Mapping[str, object], name: str, where: str) -> Mapping[str, object]:
    """Return the object in a field; a field that is missing or null is an empty one.

    Raises:
        UsageError: when it is something else.
    """
    value = row.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"{where}: `{name}` is not an object")
    return value


def sequence(row: Mapping[str, object], name: str, where: str) -> list[object]:
    """Return the list in a field; a field that is missing or null is an empty one.

    Raises:
        UsageError: when it is something else.
    """
    value = row.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise UsageError(f"{where}: `{name}` is not a list")
    return value


def text(row: Mapping[str, object], name: str, where: str) -> str:
    """Return the text in a field, which must be there.

    Raises:
        UsageError: when it is not text, or is text that UTF-8 cannot hold.
    """
    value = row.get(name)
    if not isinstance(value, str):
        raise UsageError(f"{where}: `{name}` is not text")
    return encodable(value, where)


def encodable(value: str, where: str) -> str:
    """Return `value`, which UTF-8 can hold.

    Raises:
        UsageError: when it has half a surrogate pair.
    """
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{where}: its text has half a surrogate pair") from error
    return value


def identifier(value: object, where: str) -> str:
    """Return an id as text: text or a whole number, at most 200 printable characters.

    Raises:
        UsageError: when it is neither, for then two samples cannot be told apart.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable():
        return encodable(value, where)
    raise UsageError(f"{where}: the id of a sample is no short text and no whole number")


def release(value: object) -> str:
    """Return the version of a tool as it names it, or `unknown`: what is no short word of letters, digits, . + - _."""
    return value if isinstance(value, str) and _RELEASE.fullmatch(value) else "unknown"


def whole(row: Mapping[str, object], name: str, where: str) -> int:
    """Return the whole number, 0 or more, in a field that must be there.

    Raises:
        UsageError: when it is something else.
    """
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UsageError(f"{where}: `{name}` is not a whole number")
    return value


def number(value: object) -> float | None:
    """Return a finite number as a float; None for anything else. True and False are 1 and 0."""
    if not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def cell(row: Mapping[str, object], name: str, where: str) -> str:
    """Return a column that a person named, as text; empty when no column was named.

    Raises:
        UsageError: when the row has no such column, or it holds no text, number or truth value.
    """
    if not name:
        return ""
    value = row.get(name)
    if not isinstance(value, str | int | float):
        known = ", ".join(sorted(str(k) for k in row)) or "none"
        raise UsageError(f'{where}: no column "{name}" with a text or a number', hint=f"the row has: {known}")
    return encodable(str(value), where)
