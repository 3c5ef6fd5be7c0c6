"""A thin layer over the `os` calls that change a disk: counts them, and does something else at the n-th.

It sees what Python code asks of the kernel, which is enough here: the store writes through `os` alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from storelab.story import replaced

# Reading calls are left out: they change nothing, and a crash between two of them is a crash before the next change.
NAMES = ("open", "write", "fsync", "ftruncate", "mkdir", "rename", "replace", "unlink", "rmdir")
_CHANGING = os.O_WRONLY | os.O_RDWR | os.O_CREAT

Real = Callable[..., Any]
Instead = Callable[[str, Real, tuple[Any, ...], dict[str, Any]], Any]


class Calls:
    """How many calls were made, and their names."""

    def __init__(self) -> None:
        self.names: list[str] = []


@contextmanager
def watched(
    instead: Instead, at: int | None = None, *, onward: bool = False, all_opens: bool = False
) -> Iterator[Calls]:
    """Call `instead` in place of call number `at` (from 0; None: of every call), or of all calls from there `onward`.

    Flushes are counted and not done when one call is chosen: a process that dies or fails leaves the page cache alone,
    and without them thousands of trials take seconds. Opens count where they may write, all of them with `all_opens`.
    """
    calls = Calls()

    def layer(name: str, real: Real) -> Real:
        def call(*args: Any, **kwargs: Any) -> Any:
            if name == "open" and not all_opens and not (len(args) > 1 and args[1] & _CHANGING):
                return real(*args, **kwargs)
            calls.names.append(name)
            number = len(calls.names) - 1
            if at is None or number == at or (onward and number > at):
                return instead(name, real, args, kwargs)
            return None if name == "fsync" else real(*args, **kwargs)

        return call

    with replaced(os, **{name: layer(name, getattr(os, name)) for name in NAMES}):
        yield calls


def do(name: str, real: Real, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Let the call go to the kernel, except a flush."""
    return None if name == "fsync" else real(*args, **kwargs)


def die(_name: str, _real: Real, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
    """End the process at once, as SIGKILL does, before the call."""
    os._exit(137)


def die_half_written(name: str, real: Real, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """End the process half way through a write, and right after any other call."""
    try:
        if name == "write":
            real(args[0], bytes(args[1])[: max(1, len(args[1]) // 2)])
        else:
            do(name, real, args, kwargs)
    finally:
        os._exit(137)


def fail(number: int) -> Instead:
    """Return a call that fails with an error number."""

    def failing(_name: str, _real: Real, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
        raise OSError(number, os.strerror(number))

    return failing


def short_write(name: str, real: Real, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Take only a part of what is written; other calls are done."""
    if name == "write":
        return real(args[0], bytes(args[1])[: max(1, len(args[1]) // 3)])
    return do(name, real, args, kwargs)
