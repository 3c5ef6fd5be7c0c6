"""The store: making, opening, committing, and the pointers that follow."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from storelab.calls import fail, watched
from storelab.damage import content
from storelab.story import CHANNEL, OPERATIONS, Story, replaced

from safetune.core.errors import IntegrityError, MachineError, RunError, UsageError
from safetune.core.events import Draft, evaluated, promoted, started, trained
from safetune.core.standing import RuleViolation
from safetune.state.lock import FileLock
from safetune.state.store import Store, is_channel


def _started(name: str = "r1") -> Draft:
    return started(name, "playbook", "d" * 64, "e" * 64)


# -- making and opening -----------------------------------------------------------------------------------------------


def test_a_new_store_is_empty_and_hidden_from_git(store: Store) -> None:
    assert (store.events(), store.standing().channels, store.recovered) == ((), {}, "")
    assert (store.root / ".gitignore").read_text() == "*\n"
    assert Store.create(store.root).events() == ()


def test_making_a_store_again_keeps_what_it_holds(store: Store) -> None:
    store.commit(_started())
    assert len(Store.create(store.root).events()) == 1


def test_there_is_no_store(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "nothing" / "deeper"):
        with pytest.raises(UsageError, match="there is no store") as caught:
            Store.open(path)
        assert caught.value.hint


def test_a_file_is_no_place_for_a_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        Store.create(tmp_path / "file")
    with pytest.raises(UsageError, match="is a file"):
        Store.open(tmp_path / "file")
    with pytest.raises(MachineError):
        Store.create(tmp_path / "file" / "store")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match=r"holds other things \(thesis\.tex\)"):
        Store.create(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_gitignore_that_was_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("mine\n")
    Store.create(tmp_path)
    assert (tmp_path / ".gitignore").read_text() == "mine\n"


@pytest.mark.parametrize("data", [b"safetune-store/3\n", b"", b"\xff\xfe", b"safetune-store/2"])
def test_another_format_is_refused_and_kept(store: Store, data: bytes) -> None:
    (store.root / "format").write_bytes(data)
    for action in (Store.open, Store.create):
        with pytest.raises(UsageError, match="has format"):
            action(store.root)
    assert (store.root / "format").read_bytes() == data


def test_a_store_of_an_earlier_format_is_refused_in_one_sentence_and_kept(store: Store) -> None:
    (store.root / "format").write_bytes(b"safetune-store/1\n")
    for action in (Store.open, Store.create):
        with pytest.raises(UsageError, match="was made by an earlier safetune") as caught:
            action(store.root)
        assert "begin a new one: --store DIR" in caught.value.hint
    assert (store.root / "format").read_bytes() == b"safetune-store/1\n"


def test_making_that_was_interrupted_anywhere_can_be_done_again(tmp_path: Path) -> None:
    class Stop(BaseException):
        pass

    def stop(*_: object) -> None:
        raise Stop

    for call in range(100):
        root = tmp_path / f"store-{call}"
        try:
            with watched(stop, call):
                Store.create(root)
        except Stop:
            Store.create(root).commit(_started())
            assert len(Store.open(root).events()) == 1
        else:
            break
    assert 10 < call < 99


def test_a_read_does_not_write(story: Story) -> None:
    root = story.store.root
    before = content(root), {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    with watched(fail(errno.EROFS), 0, onward=True):  # nothing that could write is called at all
        assert Store.open(root).standing() == story.store.standing()
    assert (content(root), {p: p.stat().st_mtime_ns for p in root.rglob("*")}) == before


def test_a_read_only_store_is_read_in_spite_of_leftovers(story: Story) -> None:
    root = story.store.root
    (root / "tmp" / "adopt-0").mkdir()
    (root / "refs" / CHANNEL).write_text("wrong\n")
    with watched(fail(errno.EROFS), 0, onward=True):
        assert Store.open(root).standing() == story.store.standing()
    with watched(fail(errno.EROFS), 0, onward=True), pytest.raises(MachineError, match="read-only"):
        Store.open(root).commit(_started())


def test_a_busy_store_is_read_in_spite_of_leftovers(story: Story) -> None:
    (story.store.tmp / "adopt-0").mkdir()
    with story.store._lock():
        assert Store.open(story.store.root).standing() == story.store.standing()


def test_the_store_of_a_full_disk_is_read_and_says_why_it_takes_nothing(story: Story) -> None:
    root, before = story.store.root, content(story.store.root)
    with watched(fail(errno.ENOSPC), 1, onward=True):
        store = Store.open(root)
        with pytest.raises(MachineError, match="the disk is full"):
            store.commit(_started())
    assert content(root) == before


# -- pointers ---------------------------------------------------------------------------------------------------------


def _ref(store: Store, name: str = CHANNEL) -> str:
    return (store.root / "refs" / name).read_text().strip()


def test_the_pointer_follows_promotion_and_rollback(story: Story) -> None:
    first, second = (c for _, c in story.store.standing().channels[CHANNEL].history)
    assert _ref(story.store) == second
    story.roll_back()
    assert _ref(story.store) == first


@pytest.mark.parametrize("wrong", ["", "0" * 64, "0" * 64 + "\n", "\ud800"])
def test_a_wrong_pointer_is_derived_again(story: Story, wrong: str) -> None:
    right = _ref(story.store)
    (story.store.root / "refs" / CHANNEL).write_bytes(wrong.encode(errors="surrogatepass"))
    Store.open(story.store.root)
    assert _ref(story.store) == right


def test_missing_pointers_are_derived_again_and_unknown_ones_removed(story: Story) -> None:
    right = _ref(story.store)
    (story.store.root / "refs" / CHANNEL).rename(story.store.root / "refs" / "canary")
    Store.open(story.store.root)
    assert _ref(story.store) == right
    assert not (story.store.root / "refs" / "canary").exists()
    (story.store.root / "refs" / CHANNEL).unlink()
    (story.store.root / "refs").rmdir()
    Store.open(story.store.root)
    assert _ref(story.store) == right


def test_a_pointer_that_cannot_be_written_does_not_undo_the_commit(story: Story) -> None:
    path = story.store.root / "refs" / CHANNEL
    path.unlink()
    path.mkdir()
    target = story.roll_back()
    path.rmdir()
    Store.open(story.store.root)
    assert _ref(story.store) == target


@pytest.mark.parametrize("name", [".", "..", "../outside", "a/b", ".hidden", "a\nb", "x" * 200])
def test_a_channel_is_never_a_path(story: Story, name: str) -> None:
    assert not is_channel(name)
    checkpoint, line = story.gate("third")
    before = content(story.store.root)
    with pytest.raises(UsageError, match="cannot be the name of a channel"):
        story.store.commit(promoted(name, checkpoint, "", line, "key-third"))
    assert content(story.store.root) == before


@pytest.mark.parametrize("name", ["stable", "canary-2", "eu_west.1", "größe"])
def test_a_channel_may_be_called(name: str) -> None:
    assert is_channel(name)
    assert not is_channel("")


# -- committing -------------------------------------------------------------------------------------------------------


def test_a_commit_returns_its_line_and_others_see_it(store: Store) -> None:
    other = Store.open(store.root)
    assert store.commit(_started("r1")) == 1
    assert other.events() == ()
    assert other.commit(_started("r2"), _started("r3")) == 3
    assert [e.text("run") for e in other.events()] == ["r1", "r2", "r3"]
    assert store.commit() == 3
    assert store.standing() == other.standing() == Store.open(store.root).standing()


def test_of_several_events_none_is_written_when_one_breaks_a_rule(story: Story) -> None:
    before, events = content(story.store.root), story.store.events()
    with pytest.raises(RuleViolation):
        story.store.commit(_started(), promoted(CHANNEL, "0" * 64, "", 1, ""))
    assert content(story.store.root) == before
    assert story.store.events() == events
    assert story.store.commit(_started()) == len(events) + 1


def test_artefact_before_event(story: Story) -> None:
    """Rule 2: what a line names is in the store before the line is."""
    before = content(story.store.root)
    for draft in (trained(("key", "s", "t"), "0" * 64, "", {}), evaluated("0" * 64, "", "1" * 64, ["suite"])):
        with pytest.raises(IntegrityError, match="is missing"):
            story.store.commit(draft)
    assert content(story.store.root) == before


def test_a_channel_does_not_move_back_to_a_checkpoint_that_is_gone(story: Story) -> None:
    first = story.store.standing().channels[CHANNEL].history[0][1]
    story.store.objects.path(first).rename(story.store.root / "work" / "gone")
    with pytest.raises(IntegrityError, match="is missing"):
        story.roll_back()
    assert story.store.standing().channels[CHANNEL].current != first


def test_a_ledger_that_was_replaced_meanwhile_is_noticed(story: Story) -> None:
    kept = {p: p.read_bytes() for p in (story.store.ledger.path, story.store.ledger.head_path)}
    story.record()
    for path, data in kept.items():
        path.write_bytes(data)
    with pytest.raises(IntegrityError, match="replaced while this process was using it"):
        story.record()
    assert story.store.ledger.path.read_bytes() == kept[story.store.ledger.path]


def _impatient(self: Store, seconds: float = 0) -> FileLock:
    return FileLock(self.root / "lock", 0.05, "this store")


def test_a_busy_store_says_so(story: Story) -> None:
    other = Store.open(story.store.root)
    busy = pytest.raises(RunError, match="another safetune is working on this store")
    with replaced(Store, _lock=_impatient), story.store._lock(), busy:
        other.commit(_started())


def test_what_a_crash_left_is_said_once(story: Story) -> None:
    with story.store.ledger.path.open("ab") as stream:
        stream.write(b'{"torn')
    assert "set aside" in Store.open(story.store.root).recovered
    assert Store.open(story.store.root).recovered == ""


def test_temporary_files_are_swept_and_nothing_else(story: Story) -> None:
    root = story.store.root
    before = content(root)
    for name in ("tmp/adopt-0/half.json", ".ledger.head.0.tmp", "refs/.stable.0.tmp", "tmp/.torn-0.0.tmp"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("")
    Store.open(root)
    assert content(root) == before


def test_a_line_that_was_set_aside_is_kept(story: Story) -> None:
    kept = story.store.tmp / "torn-0"
    kept.write_text("{")
    (story.store.tmp / "adopt-0").mkdir()
    Store.open(story.store.root)
    assert [p.name for p in story.store.tmp.iterdir()] == ["torn-0"]


def test_every_operation_of_the_story_can_be_done(story: Story) -> None:
    for operation in OPERATIONS.values():
        operation(story)
    assert Store.open(story.store.root).standing() == story.store.standing()
    assert list(story.store.tmp.iterdir()) == []
