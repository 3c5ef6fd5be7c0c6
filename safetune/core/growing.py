"""Mappings that only `fold` sees while they grow; copying them for each line would make long ledgers slow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

_Value = TypeVar("_Value")


class Growing(dict[str, _Value]):
    """A mapping that may be changed in place, because nobody else holds it."""


def put(mapping: Mapping[str, _Value], key: str, value: _Value) -> Mapping[str, _Value]:
    """Return a mapping with one more or another value; a growing one is changed, any other copied."""
    if isinstance(mapping, Growing):
        mapping[key] = value
        return mapping
    return {**mapping, key: value}
