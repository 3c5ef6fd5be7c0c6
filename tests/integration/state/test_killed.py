"""R1: killed at every call that changes the disk. Nothing acknowledged is lost, and the next command goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest
from storelab.calls import Calls, Instead, die, die_half_written, do, watched
from storelab.story import OPERATIONS, Story, replaced
from storelab.trials import CLEAN, KILLED, Trial, complaints, copied, course_of, in_child

from safetune.core.events import Draft
from safetune.state.atomic import write_atomic
from safetune.state.chain import Chain, scan
from safetune.state.ledger import Ledger
from safetune.state.store import Store


def _calls(template: Path, place: Path, name: str) -> list[str]:
    """Return the calls of an operation that nothing disturbs."""
    root, desk = copied(template, place / "count")
    with watched(do) as calls:
        OPERATIONS[name](Story(Store.open(root), desk))
    return calls.names


def _kill_everywhere(template: Path, place: Path, name: str, how: Instead) -> tuple[int, list[str]]:
    """Kill an operation at each of its calls; return how many died and all complaints."""
    course = course_of(template, place / "course", OPERATIONS[name])
    killed, found = 0, []
    for at in range(len(_calls(template, place, name))):
        root, desk = copied(template, place / "trial")
        trial = in_child(root, desk, OPERATIONS[name], watched(how, at))
        killed += trial.status == KILLED
        found += [f"call {at}: {what}" for what in complaints(root, desk, course, trial)]
    return killed, found


@pytest.mark.parametrize("how", [die, die_half_written], ids=["before", "half way"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_kill_at_any_call_leaves_the_standing_before_or_after(
    template: Path, place: Path, name: str, how: Instead
) -> None:
    killed, found = _kill_everywhere(template, place, name, how)
    assert found == []
    assert killed == len(_calls(template, place, name)) > 5


def test_the_operations_do_what_they_say_when_nothing_happens(template: Path, place: Path) -> None:
    for name, operation in OPERATIONS.items():
        course = course_of(template, place / "course", operation)
        root, desk = copied(template, place / "trial")
        trial = in_child(root, desk, operation, nullcontext(Calls()))
        assert (trial.status, trial.acknowledged) == (CLEAN, len(course.added)), name
        assert complaints(root, desk, course, trial) == []


def _head_before_line(self: Ledger, draft: Draft, chain: Chain) -> Chain:
    """The planted bug: the head is written before the line that it speaks of."""
    longer = self_line(self, draft, chain)
    self._write_head(longer.head)
    self._write_line(longer.data[len(chain.data) :], len(chain.data))
    return longer


def self_line(ledger: Ledger, draft: Draft, chain: Chain) -> Chain:
    """Return the chain with one more line, made by the real ledger in a folder of its own."""
    folder = ledger.path.parent / "work" / "planted"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    other = Ledger(folder)
    other.path.write_bytes(chain.data)
    longer = _append(other, draft, chain)
    return scan(longer.data)


_append = Ledger.append


def test_the_trials_see_a_head_that_is_written_before_its_line(template: Path, place: Path) -> None:
    with replaced(Ledger, append=_head_before_line):
        _, found = _kill_everywhere(template, place, "rollback", die)
    assert any("cut short" in what for what in found)


def test_the_trials_see_an_acknowledgement_that_comes_before_the_line(template: Path, place: Path) -> None:
    def early(story: Story) -> None:
        story._acknowledge()
        OPERATIONS["record"](story)

    course = course_of(template, place / "course", OPERATIONS["record"])
    root, desk = copied(template, place / "trial")
    trial = in_child(root, desk, early, watched(die, 0))
    assert any("acknowledged" in what for what in complaints(root, desk, course, trial))


def test_the_trials_see_a_pointer_that_is_not_derived_again(template: Path, place: Path) -> None:
    course = course_of(template, place / "course", OPERATIONS["record"])
    root, desk = copied(template, place / "trial")
    trial = in_child(root, desk, OPERATIONS["record"], nullcontext(Calls()))
    with replaced(Store, _tidy=lambda self: None):
        write_atomic(root / "refs" / "stable", b"0" * 64 + b"\n")
        found = complaints(root, desk, course, trial)
    assert any("refs/stable" in what for what in found)


_PROGRAM = """
import sys
from pathlib import Path
from storelab.story import OPERATIONS, Story
from safetune.state.store import Store

root, desk, name, acknowledged = sys.argv[1:]
with open(acknowledged, "ab", buffering=0) as stream:
    OPERATIONS[name](Story(Store.open(Path(root)), Path(desk), lambda: stream.write(b".") and None))
"""
_SYSTEM_CALLS = ("openat", "write", "fsync", "ftruncate", "mkdir", "rename", "unlink", "unlinkat", "rmdir", "flock")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("name", OPERATIONS)
def test_sigkill_at_every_system_call_of_the_store(template: Path, place: Path, name: str) -> None:
    """The same with the kernel's own calls: strace delivers SIGKILL at the j-th call of each name."""
    course = course_of(template, place / "course", OPERATIONS[name])
    trace = place / "trace"
    copied(template, place / "trial")
    assert _strace(place, name, ["-y", "-o", str(trace), "-e", f"trace={','.join(_SYSTEM_CALLS)}"]) == CLEAN
    wanted = _calls_on(place / "trial", trace.read_text())
    killed, found = 0, []
    for call, when in wanted:
        root, desk = copied(template, place / "trial")
        (place / "acknowledged").unlink(missing_ok=True)
        status = _strace(place, name, ["-o", "/dev/null", "-e", f"inject={call}:signal=SIGKILL:when={when}"])
        killed += status == -signal.SIGKILL
        trial = Trial(status, len((place / "acknowledged").read_bytes()), "")
        found += [f"{call} {when}: {what}" for what in complaints(root, desk, course, trial)]
    assert found == []
    assert killed == len(wanted) > 10


def _calls_on(folder: Path, trace: str) -> list[tuple[str, int]]:
    """Return (name, how manieth of that name) of each call that has to do with `folder`."""
    seen: Counter[str] = Counter()
    found = []
    for line in trace.splitlines():
        call = line.partition("(")[0]
        seen[call] += 1
        if str(folder) in line:
            found.append((call, seen[call]))
    return found


def _strace(place: Path, name: str, options: list[str]) -> int:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PYTHONHASHSEED": "0"}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    command = ["strace", "-qq", *options, sys.executable, "-c", _PROGRAM, str(place / "trial" / "store")]
    command += [str(place / "trial" / "desk"), name, str(place / "acknowledged")]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode
