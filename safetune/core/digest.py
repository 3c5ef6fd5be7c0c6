"""Digests of values: one canonical JSON form, so that equal values have equal digests on every machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from json.encoder import encode_basestring

JSON = None | bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"]


def canonical(value: JSON) -> bytes:
    """Return the canonical JSON bytes of `value`: sorted keys, no spaces, UTF-8, no NaN or infinity.

    The form follows the idea of RFC 8785; numbers are written as Python's `repr` writes them.

    Raises:
        ValueError: for NaN, an infinity, or text that UTF-8 cannot hold (half a surrogate pair).
        TypeError: for a value that is not JSON.
    """
    return _ENCODER.encode(value).encode("utf-8")


def _plain(value: object) -> object:
    """Turn read-only mappings and sequences into what `json` writes."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return list(value)
    raise TypeError(f"not a JSON value: {type(value).__name__}")


# Made once: `json.dumps` makes one for every call, and this is called for every item and prompt.
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain)


# A text as it stands in canonical JSON: where many rows have the same form, they are put together of these.
json_text: Callable[[str], str] = encode_basestring


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def digest(value: JSON) -> str:
    """Return the SHA-256 hex digest of the canonical JSON form of `value`."""
    return sha256_hex(canonical(value))


def short(full: str) -> str:
    """Return the first 12 digits of a digest: what a person reads; commands accept any unambiguous prefix."""
    return full[:12]
