"""What reading gives: a row in one of the shapes of `core.rows`, or the reason why there is none; and strict JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from json import JSONDecodeError
from typing import Any, NamedTuple

from safetune.core.digest import JSON, canonical

MAX_DEPTH = 64  # levels of nesting in one row; what reads rows later walks them by recursion
_LONGEST_WHY = 300
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


class Row(NamedTuple):
    """A row. `line` is its line in `file` (from 1; of a Parquet file the number of the row).

    `at` is its place in the whole source, counted through all files of it, which is what `start_line` means; in a
    single file it equals `line`. `id` is the id that a row of a derived mixture already has, empty otherwise.
    """

    line: int
    content: Mapping[str, JSON]
    file: str = ""
    at: int = 0
    id: str = ""


class BadRow(NamedTuple):
    """A row that cannot be used. `why` holds no text of the row."""

    line: int
    why: str
    file: str = ""
    at: int = 0

    @property
    def message(self) -> str:
        """The whole message, with file and line."""
        return f"{self.file}:{self.line}: {self.why}" if self.file else f"line {self.line}: {self.why}"


class Strange(Exception):
    """A row cannot be used; the message says why."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Strange("a key stands twice in one object")
    return found


def _no_number(name: str) -> Any:
    raise Strange(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise Strange("a number is too large")
    return number


_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_no_number, parse_float=_finite
).scan_once  # type: ignore[attr-defined]


def strict_json(line: bytes) -> Any:
    """Return what a line of JSON says, much as `json.loads` does, but with one meaning only.

    Raises:
        Strange: for broken UTF-8, a byte order mark, a NUL byte, a key that stands twice, NaN and infinities, half a
            surrogate pair, more than `MAX_DEPTH` levels, and what is no JSON at all.
    """
    try:
        text = line.decode()
        found, end = _scan(text, 0)
        if end != len(text) and text[end:].strip(" \t\r\n"):
            raise StopIteration(end)
    except (ValueError, StopIteration, RecursionError) as error:
        found = _again(line, error)
    if line.count(b"{") + line.count(b"[") > MAX_DEPTH and _depth(found) > MAX_DEPTH:
        raise Strange(f"nested more than {MAX_DEPTH} levels deep")
    if _HALF.search(line) is not None:
        _check_pairs(found)
    return found


def _again(line: bytes, error: Exception) -> Any:
    """Return what a line with spaces around its value says, or say what is wrong with a line that could not be read."""
    text = _text(line)
    if isinstance(error, RecursionError):
        raise Strange(f"nested more than {MAX_DEPTH} levels deep")
    bare = text.strip(" \t\r\n")
    if not bare:
        raise Strange("an empty line where a row should be")
    begin = text.index(bare)
    try:
        found, end = _scan(bare, 0)
    except StopIteration as stop:
        raise Strange(f"not JSON: a value is expected at column {begin + int(stop.value) + 1}") from None
    except JSONDecodeError as wrong:
        raise Strange(f"not JSON: {wrong.msg.lower().removesuffix(' at')} at column {begin + wrong.pos + 1}") from None
    except RecursionError:
        raise Strange(f"nested more than {MAX_DEPTH} levels deep") from None
    except ValueError:  # an integer of more digits than Python converts
        raise Strange("a number is too large") from None
    if end != len(bare):
        raise Strange(f"not JSON: more text after the row, from column {begin + end + 1} on")
    return found


def _text(line: bytes) -> str:
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Strange("this is UTF-16; a row is UTF-8")
    if line.startswith(b"\xef\xbb\xbf"):
        raise Strange("begins with a byte order mark; save the file as UTF-8 without one")
    if (at := line.find(b"\0")) >= 0:
        raise Strange(f"holds a NUL byte at byte {at + 1}")
    return utf8(line)


def utf8(line: bytes) -> str:
    """Return the text of a line.

    Raises:
        Strange: when it is not UTF-8, with the place.
    """
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise Strange(f"not UTF-8 from byte {error.start + 1} of the line on") from None


def _depth(found: object) -> int:
    """Return how deeply a value is nested; level by level, so that no depth is too much."""
    level, depth = [found], 0
    while level:
        depth += 1
        inner: list[object] = []
        for value in level:
            if isinstance(value, dict):
                inner.extend(value.values())
            elif isinstance(value, list | tuple):
                inner.extend(value)
        level = [value for value in inner if isinstance(value, dict | list | tuple)]
    return depth


def _check_pairs(found: Any) -> None:
    try:
        canonical(found)
    except UnicodeEncodeError:
        raise Strange("holds half of a surrogate pair, which no UTF-8 text can hold") from None


def check_value(value: object) -> None:
    """Check that a value of a table is one that JSON can hold.

    Raises:
        Strange: when it is not.
    """
    if _depth(value) > MAX_DEPTH:
        raise Strange(f"nested more than {MAX_DEPTH} levels deep")
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            waiting.extend(found.values())
        elif isinstance(found, list):
            waiting.extend(found)
        elif isinstance(found, float) and not math.isfinite(found):
            raise Strange("holds a number that is not finite")
        elif not (found is None or isinstance(found, str | bool | int | float)):
            raise Strange(f"holds a value of the type {type(found).__name__}, which is no JSON")


def brief(why: str) -> str:
    """Return a reason as one line, at a length that fits; names of columns may be of any kind."""
    why = " ".join(why.split())
    return why if len(why) <= _LONGEST_WHY else f"{why[:_LONGEST_WHY]}..."
