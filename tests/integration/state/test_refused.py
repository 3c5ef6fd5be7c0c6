"""R2: the machine refuses at every call. A clean error or success, no traceback, and the store still opens."""

from __future__ import annotations

import errno
from contextlib import nullcontext
from pathlib import Path

import pytest
from storelab.calls import Calls, Instead, do, fail, short_write, watched
from storelab.story import OPERATIONS, Story, replaced
from storelab.trials import CLEAN, FAILED, complaints, copied, course_of, in_child

from safetune.state.ledger import Ledger
from safetune.state.store import Store

_FAULTS: dict[str, Instead] = {
    "EIO": fail(errno.EIO),
    "ENOSPC": fail(errno.ENOSPC),
    "EINTR": fail(errno.EINTR),
    "short write": short_write,
}


def _refuse(
    template: Path, place: Path, name: str, fault: Instead, *, every: int = 1, onward: bool = False
) -> list[str]:
    """Let every n-th call of an operation fail, or all calls from there on; return all complaints."""
    course = course_of(template, place / "course", OPERATIONS[name])
    root, desk = copied(template, place / "count")
    with watched(do, all_opens=True) as calls:
        OPERATIONS[name](Story(Store.open(root), desk))
    found = []
    for at in range(0, len(calls.names), every):
        root, desk = copied(template, place / "trial")
        around = watched(fault, at, onward=onward, all_opens=True)
        trial = in_child(root, desk, OPERATIONS[name], around)
        where = f"call {at} ({calls.names[at]})"
        if trial.status not in (CLEAN, FAILED):
            found.append(f"{where}: ended with {trial.status}: {trial.said}")
        if trial.status == FAILED and not trial.said:
            found.append(f"{where}: failed without a word")
        if trial.status == CLEAN and trial.acknowledged != len(course.added):
            found.append(f"{where}: success, but not everything was acknowledged")
        found += [f"{where}: {what}" for what in complaints(root, desk, course, trial)]
    return found


@pytest.mark.parametrize("fault", _FAULTS)
@pytest.mark.parametrize("name", ["rollback", "record", "adopt"])
def test_an_error_at_any_call_is_said_and_nothing_is_lost(template: Path, place: Path, name: str, fault: str) -> None:
    assert _refuse(template, place, name, _FAULTS[fault]) == []


@pytest.mark.parametrize("name", ["rollback", "adopt"])
def test_a_disk_that_stays_full_is_said_and_nothing_is_lost(template: Path, place: Path, name: str) -> None:
    assert _refuse(template, place, name, fail(errno.ENOSPC), every=2, onward=True) == []


@pytest.mark.slow
@pytest.mark.parametrize("onward", [False, True], ids=["once", "onward"])
@pytest.mark.parametrize("fault", _FAULTS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_error_at_any_call_of_every_operation(
    template: Path, place: Path, name: str, fault: str, onward: bool
) -> None:
    assert _refuse(template, place, name, _FAULTS[fault], onward=onward) == []


def test_a_full_disk_says_so_with_what_to_do_next(template: Path, place: Path) -> None:
    root, desk = copied(template, place / "trial")
    trial = in_child(root, desk, OPERATIONS["record"], watched(fail(errno.ENOSPC), 1, onward=True))
    assert trial.status == FAILED
    assert "the disk is full" in trial.said


def test_nothing_more_is_written_after_a_flush_that_failed(template: Path, place: Path) -> None:
    root, desk = copied(template, place / "trial")
    before = (root / "ledger.jsonl").read_bytes()

    def again(story: Story) -> None:
        for _ in range(2):
            try:
                story.record()
            except Exception as error:
                last = error
        raise last

    flush = 3  # lock, ledger opened, line written, flushed
    trial = in_child(root, desk, again, watched(fail(errno.EIO), flush))
    assert "earlier write could not be made safe" in trial.said
    assert (root / "ledger.jsonl").read_bytes() == before


def _acknowledges_anyway(self: Ledger, line: bytes, before: int) -> None:
    """The planted bug: an error of the disk is swallowed."""
    try:
        _write_line(self, line, before)
    except OSError:
        return


_write_line = Ledger._write_line


def test_the_trials_see_an_error_that_is_swallowed(template: Path, place: Path) -> None:
    with replaced(Ledger, _write_line=_acknowledges_anyway):
        found = _refuse(template, place, "record", fail(errno.EIO))
    assert found


def test_the_trials_see_a_traceback(template: Path, place: Path) -> None:
    def broken(_story: Story) -> None:
        raise OSError(errno.EIO, "unexpected")

    root, desk = copied(template, place / "trial")
    trial = in_child(root, desk, broken, nullcontext(Calls()))
    assert trial.status not in (CLEAN, FAILED)
    assert "Traceback" in trial.said
