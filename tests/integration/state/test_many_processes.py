"""R5: several processes on one store. Every acknowledged line is there once, in order, and nobody waits for ever."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest
from storelab.calls import do, watched
from storelab.story import CHANNEL, Story, replaced
from storelab.trials import copied

from safetune.core.errors import SafetuneError
from safetune.core.events import started
from safetune.engine.verify import verify
from safetune.state import lock, objects
from safetune.state.store import Store


def _together(count: int, work: Callable[[int], None], seconds: float = 300) -> list[int]:
    """Do `work` in forked processes at the same time and return their exit statuses."""
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with watched(do, 1 << 60):  # no flushes: the kernel's page cache is what the processes share
                    work(number)
                status = 0
            except SafetuneError:
                status = 3
            finally:
                os._exit(status)
        children.append(child)
    return [_end(child, time.monotonic() + seconds) for child in children]


def _end(child: int, deadline: float) -> int:
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -1


def _record_many(root: Path, times: int) -> Callable[[int], None]:
    """Return work that records `times` runs, in a store that is opened again now and then."""

    def work(number: int) -> None:
        store = Store.open(root)
        for n in range(times):
            if n % 10 == 9:
                store = Store.open(root)
            store.commit(started(f"p{number}-{n}", "playbook", "d" * 64, "e" * 64))

    return work


def _crowd(template: Path, place: Path, processes: int, times: int) -> tuple[list[int], list[str]]:
    """Let a crowd record runs; return the exit statuses and what is wrong with the store afterwards."""
    root, _ = copied(template, place / "crowd")
    before = len(Store.open(root).events())
    statuses = _together(processes, _record_many(root, times))
    try:
        events = Store.open(root).events()[before:]
    except SafetuneError as error:
        return statuses, [error.message]
    named = Counter(event.text("run") for event in events)
    wanted = {f"p{p}-{n}" for p in range(processes) for n in range(times)}
    found = [f"{name} is there {named[name]} times" for name in sorted(wanted) if named[name] != 1]
    for p in range(processes):
        mine = [int(e.text("run").split("-")[1]) for e in events if e.text("run").startswith(f"p{p}-")]
        found += [f"process {p} is out of order"] if mine != sorted(mine) else []
    return statuses, found + [f.what for f in verify(root).findings]


def test_four_processes_lose_no_line(template: Path, place: Path) -> None:
    assert _crowd(template, place, 4, 25) == ([0] * 4, [])


@pytest.mark.slow
def test_eight_processes_with_two_hundred_operations_each_lose_no_line(template: Path, place: Path) -> None:
    assert _crowd(template, place, 8, 200) == ([0] * 8, [])


def test_the_crowd_sees_a_store_without_a_lock(template: Path, place: Path) -> None:
    """The planted bug: the lock locks nothing."""

    def seen(number: int) -> bool:
        statuses, found = _crowd(template, _new(place / f"{number}"), 4, 25)
        return bool(found or any(statuses))

    with replaced(fcntl, flock=lambda descriptor, how: None):
        assert any(seen(n) for n in range(20))  # a race: it is not lost every time, so it is run until it is


def test_a_store_that_several_processes_make_at_once_is_one_store(place: Path) -> None:
    def make_and_record(number: int) -> None:
        Store.create(place / "store").commit(started(f"r{number}", "playbook", "d" * 64, "e" * 64))

    assert _together(6, make_and_record) == [0] * 6
    assert {e.text("run") for e in Store.open(place / "store").events()} == {f"r{n}" for n in range(6)}
    assert verify(place / "store").findings == ()


def test_the_same_content_adopted_by_several_processes_at_once_is_one_object(template: Path, place: Path) -> None:
    root, desk = copied(template, place / "trial")
    there = set((root / "objects").iterdir())

    def adopt(number: int) -> None:
        Story(Store.open(root), desk).adopt("fourth")

    assert _together(6, adopt) == [0] * 6
    assert len(set((root / "objects").iterdir()) - there) == 1
    assert verify(root).findings == ()
    assert list((root / "tmp").iterdir()) == []


def _adopting_while_others_open(template: Path, place: Path) -> list[int]:
    """Adopt objects in two processes, while two others open the store and record, which sweeps leftovers."""
    root, desk = copied(template, place / "trial")
    for number in range(2):
        for n in range(20):
            Story(Store.open(root), desk).candidate(f"{number}-{n}")

    def work(number: int) -> None:
        story = Story(Store.open(root), desk)
        for n in range(20):
            if number < 2:
                story.adopt(f"{number}-{n}")
            else:
                Store.open(root).commit(started(f"{number}-{n}", "playbook", "d" * 64, "e" * 64))

    return _together(4, work)


def test_an_object_that_a_living_process_fills_is_never_swept(template: Path, place: Path) -> None:
    assert _adopting_while_others_open(template, place) == [0] * 4


def test_the_sweep_trial_sees_a_sweep_that_does_not_look(template: Path, place: Path) -> None:
    """The planted bug: whoever fills an object does not say so."""

    @contextmanager
    def silent(folder: Path):  # type: ignore[no-untyped-def]
        yield

    with replaced(objects, filling=silent):
        # A race: it is not lost every time, so it is run until it is.
        assert any(any(_adopting_while_others_open(template, _new(place / f"{n}"))) for n in range(20))


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_what_a_dead_process_half_filled_is_swept(template: Path, place: Path) -> None:
    root, _ = copied(template, place / "trial")
    (root / "tmp" / "adopt-0").mkdir()
    (root / "tmp" / "adopt-0" / "half.json").write_text("{")
    with lock.filling(root / "tmp"):
        Store.open(root)
        assert (root / "tmp" / "adopt-0").exists()
    Store.open(root)
    assert not (root / "tmp" / "adopt-0").exists()


def test_a_pointer_follows_whoever_moved_the_channel_last(template: Path, place: Path) -> None:
    root, desk = copied(template, place / "trial")

    def promote(number: int) -> None:
        for attempt in range(20):
            try:
                Story(Store.open(root), desk).promote(f"p{number}-{attempt}")
                return
            except SafetuneError:
                continue  # somebody else moved the channel between reading and promoting
        raise AssertionError

    assert _together(3, promote) == [0] * 3
    store = Store.open(root)
    assert (root / "refs" / CHANNEL).read_text().strip() == store.standing().channels[CHANNEL].current
    assert verify(root).findings == ()
