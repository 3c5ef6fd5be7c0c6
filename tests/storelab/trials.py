"""One trial: an operation in a child process that is cut short, and what the store must then be like."""

from __future__ import annotations

import os
import shutil
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from safetune.core.digest import canonical
from safetune.core.errors import SafetuneError
from safetune.core.events import Event
from safetune.engine.verify import verify
from safetune.state.store import Store
from storelab.story import Story

CLEAN, FAILED, TRACEBACK, KILLED = 0, 3, 4, 137


@dataclass(frozen=True, slots=True)
class Trial:
    """How a child ended: its exit status, how often it acknowledged, and what it said."""

    status: int
    acknowledged: int
    said: str


def in_child(
    root: Path, desk: Path, operation: Callable[[Story], object], around: AbstractContextManager[object]
) -> Trial:
    """Open the store in a forked child, do `operation` with `around` in force, and return how it ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = TRACEBACK
        try:
            os.close(reader)
            status = _child(root, desk, operation, around, writer)
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        said = stream.read()
    _, ended = os.waitpid(child, 0)
    acknowledged, _, words = said.partition(b":")
    return Trial(os.waitstatus_to_exitcode(ended), acknowledged.count(b"."), words.decode())


def _child(
    root: Path,
    desk: Path,
    operation: Callable[[Story], object],
    around: AbstractContextManager[object],
    writer: int,
) -> int:
    tell = os.write  # the real one: what is told must not count as a call of the store

    def acknowledge() -> None:
        tell(writer, b".")

    try:
        with around:
            operation(Story(Store.open(root), desk, acknowledge))
    except SafetuneError as error:
        tell(writer, f":{error.message}".encode())
        return FAILED
    except BaseException:
        tell(writer, f":{traceback.format_exc()}".encode())
        return TRACEBACK
    return CLEAN


@dataclass(frozen=True, slots=True)
class Course:
    """What one operation does when nothing goes wrong: the events before it, and those that it adds."""

    before: tuple[Event, ...]
    added: tuple[Event, ...]


def course_of(template: Path, place: Path, operation: Callable[[Story], object]) -> Course:
    """Do an operation on a copy of a store and return what it recorded."""
    root, desk = copied(template, place)
    store = Store.open(root)
    before = store.events()
    operation(Story(store, desk))
    return Course(before, store.events()[len(before) :])


def copied(template: Path, place: Path) -> tuple[Path, Path]:
    """Copy a store and its desk to `place` and return both."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(template, place)
    return place / "store", place / "desk"


def complaints(root: Path, desk: Path, course: Course, trial: Trial) -> list[str]:
    """Return everything that is wrong with a store after a trial, as sentences; a good store gives none.

    It holds what `wrong_content` asks for, and work can go on.
    """
    found = wrong_content(root, course, trial.acknowledged)
    try:
        Story(Store.open(root), desk).promote("afterwards")
        found += [f"verify after more work: {f.where}: {f.what}" for f in verify(root).findings]
    except SafetuneError as error:
        found.append(f"work cannot go on: {error.message}")
    return found


def wrong_content(root: Path, course: Course, acknowledged: int) -> list[str]:
    """Return what is wrong with the content of a store, as sentences.

    It opens within 2 seconds; what it holds is what was there and the first few of what was to come, no less than was
    acknowledged; its pointers follow; and `verify` finds nothing.
    """
    found: list[str] = []
    begun = time.monotonic()
    try:
        store = Store.open(root)
    except SafetuneError as error:
        return [f"the store does not open: {error.message}"]
    if time.monotonic() - begun > 2:
        found.append("recovery took more than 2 seconds")
    now, expected = [_what(e) for e in store.events()], [_what(e) for e in (*course.before, *course.added)]
    if now != expected[: len(now)]:
        found.append("the ledger holds something else than was to be recorded")
    if len(now) < len(course.before) + acknowledged:
        found.append(f"{len(now)} lines are left of {len(course.before)} and {acknowledged} acknowledged ones")
    report = verify(root)
    found += [f"verify: {f.where}: {f.what}" for f in report.findings]
    found += [f"left behind: {n.where}" for n in report.notes if "interrupted" in n.what]
    return found


def _what(event: Event) -> bytes:
    """What an event says, without when and by whom."""
    return canonical({"kind": event.kind, "data": event.data})
