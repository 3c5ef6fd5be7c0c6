"""R3: the power goes, and what was not flushed is lost or kept piece by piece. What was acknowledged is still there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from storelab.calls import watched
from storelab.powerloss import ACKNOWLEDGED, WORST, Disk, Luck, Recorder, Step, chance
from storelab.story import Story, replaced
from storelab.trials import Course, copied, wrong_content

from safetune.core.errors import SafetuneError
from safetune.state.ledger import Ledger
from safetune.state.objects import ObjectStore
from safetune.state.store import Store


@dataclass(frozen=True, slots=True)
class Recording:
    """A disk as it was, what was asked of it, and what the ledger was to hold in the end."""

    before: Path
    steps: tuple[Step, ...]
    course: Course


def _record(before: Path, place: Path, story: Callable[[Path, Path, Recorder], None]) -> Recording:
    """Record a story that begins on a copy of the disk `before`."""
    root, desk = copied(before, place / "course")
    old = Store.open(root).events() if (root / "format").exists() else ()
    recorder = Recorder(place / "course")
    with watched(recorder, all_opens=True):
        story(root, desk, recorder)
    new = Store.open(root).events()
    return Recording(before, tuple(recorder.steps), Course(old, new[len(old) :]))


def _work(root: Path, desk: Path, recorder: Recorder) -> None:
    story = Story(Store.open(root), desk, recorder.acknowledge)
    story.record()
    story.promote("third")
    story.roll_back()
    story.record("r2")


def _creation(root: Path, desk: Path, recorder: Recorder) -> None:
    story = Story(Store.create(root), desk, recorder.acknowledge)
    recorder.acknowledge()
    story.record()
    story.record("r2")


class _Stop(BaseException):
    """A process that dies here, while the machine goes on."""


def _dying(self: Ledger, descriptor: int) -> None:
    raise _Stop


def _recovery(root: Path, desk: Path, recorder: Recorder) -> None:
    """A process dies between line and flush; the next one finds the line in the page cache and tells of it."""
    with replaced(Ledger, _flush=_dying), pytest.raises(_Stop):
        Story(Store.open(root), desk).record()
    store = Store.open(root)
    assert store.recovered
    recorder.acknowledge()
    Story(store, desk, recorder.acknowledge).record("r2")


def _dying_after_rename(self: ObjectStore, place: Path, digest: str) -> bool:
    place.rename(self.path(digest))
    raise _Stop


def _adoption(root: Path, desk: Path, recorder: Recorder) -> None:
    """A process dies between the name of an object and its flush; the next one finds the object and relies on it."""
    with replaced(ObjectStore, _name=_dying_after_rename), pytest.raises(_Stop):
        Story(Store.open(root), desk).promote("third")
    Story(Store.open(root), desk, recorder.acknowledge).promote("third")


@pytest.fixture(scope="module")
def work(template: Path, memory: Path) -> Recording:
    """Recorded: a run, a promotion, a rollback."""
    return _record(template, memory / "work", _work)


@pytest.fixture(scope="module")
def creation(memory: Path) -> Recording:
    """Recorded: a store is made, and its first lines."""
    (memory / "nothing" / "desk").mkdir(parents=True)
    return _record(memory / "nothing", memory / "creation", _creation)


@pytest.fixture(scope="module")
def recovery(template: Path, memory: Path) -> Recording:
    """Recorded: a crash before a flush, and the recovery from it."""
    return _record(template, memory / "recovery", _recovery)


@pytest.fixture(scope="module")
def adoption(template: Path, memory: Path) -> Recording:
    """Recorded: a crash before the flush of an object's name, and a promotion of that object."""
    return _record(template, memory / "adoption", _adoption)


def _losses(recording: Recording, place: Path, lucks: Callable[[int], Iterable[Luck]]) -> Iterator[str]:
    """Lose the power after each call, with each luck; yield what is wrong then."""
    disk, acknowledged = Disk(recording.before), 0
    created = (recording.before / "store" / "format").exists()
    lines = -1 if not created else 0
    for number, step in enumerate(recording.steps):
        disk.play(step)
        if step.name == ACKNOWLEDGED:
            acknowledged += 1
        for luck in lucks(number):
            shutil.rmtree(place, ignore_errors=True)
            disk.after_power_loss(luck, place)
            root = place / "store"
            try:
                if not created and acknowledged == 0:
                    Store.create(root)  # it may be there or not; making it again must do
                found = wrong_content(root, recording.course, max(0, acknowledged + lines))
            except SafetuneError as error:
                found = [error.message]
            yield from (f"after call {number} ({step.name} {step.path}): {what}" for what in found)


def _worst(_number: int) -> Iterable[Luck]:
    return WORST.values()


@pytest.mark.parametrize("name", ["work", "creation", "recovery", pytest.param("adoption", marks=pytest.mark.slow)])
def test_the_worst_losses_after_every_call_lose_nothing_acknowledged(
    name: str, place: Path, request: pytest.FixtureRequest
) -> None:
    recording: Recording = request.getfixturevalue(name)
    assert list(_losses(recording, place / "image", _worst)) == []


def test_random_losses_lose_nothing_acknowledged(work: Recording, place: Path) -> None:
    assert list(_losses(work, place / "image", lambda number: [chance(number)])) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["work", "creation", "recovery"])
def test_many_random_losses_lose_nothing_acknowledged(name: str, place: Path, request: pytest.FixtureRequest) -> None:
    recording: Recording = request.getfixturevalue(name)
    each = 5000 // len(recording.steps) + 1
    lucks = lambda number: [chance(number * each + n) for n in range(each)]  # noqa: E731
    assert list(_losses(recording, place / "image", lucks)) == []


def _flushed(step: Step) -> str:
    """Return what kind of thing a flush makes safe."""
    if step.name != "fsync":
        return ""
    if step.path in (".", "store"):
        return "store folder" if step.path == "store" else "parent folder"
    path = step.path.removeprefix("store/")
    if path.startswith("tmp/adopt-"):
        inside = path.split("/")[2:]
        if not inside or inside == ["extra"]:
            return "filled folder"
        return "manifest" if inside == ["MANIFEST.json"] else "object file"
    return path.lstrip(".").rsplit(".", 2)[0] if path.endswith(".tmp") else path


# .gitignore is a courtesy, and a torn line that is set aside was never acknowledged.
_NEEDED = [
    *(("work", what) for what in ("ledger.jsonl", "ledger.head", "store folder", "object file", "manifest")),
    *(("work", what) for what in ("filled folder", "objects")),
    *(("creation", what) for what in ("ledger.jsonl", "ledger.head", "format", "store folder", "parent folder")),
    *(("recovery", what) for what in ("ledger.jsonl", "ledger.head")),
    ("adoption", "objects"),
]


@pytest.mark.parametrize(("name", "what"), _NEEDED)
def test_each_flush_is_needed(name: str, what: str, place: Path, request: pytest.FixtureRequest) -> None:
    """The planted bug: one kind of flush is left out. The losses above must see it."""
    recording: Recording = request.getfixturevalue(name)
    steps = tuple(step for step in recording.steps if _flushed(step) != what)
    assert len(steps) < len(recording.steps)
    cut = Recording(recording.before, steps, recording.course)
    assert next(_losses(cut, place / "image", _worst), "")


def test_every_flush_of_the_recordings_is_one_of_those(
    work: Recording, creation: Recording, recovery: Recording
) -> None:
    known = {what for _, what in _NEEDED} | {"", "gitignore"}
    for recording in (work, creation, recovery):
        assert {_flushed(step) for step in recording.steps} <= known
