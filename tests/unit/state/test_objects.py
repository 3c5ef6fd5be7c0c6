"""The object store: what gets in, what its name says, and what is noticed when it changes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from storelab.calls import fail, watched
from storelab.story import replaced

from safetune.core.errors import IntegrityError, MachineError
from safetune.state import objects as room
from safetune.state.files import open_regular
from safetune.state.objects import MANIFEST, ObjectStore, is_digest
from safetune.state.store import Store


def _safetensors(header: bytes = b"{}", data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that may be adopted."""
    path = tmp_path / "output"
    (path / "deep" / "er").mkdir(parents=True)
    (path / "config.json").write_text("{}")
    (path / "deep" / "er" / "größe.txt").write_text("deep")
    (path / "model.safetensors").write_bytes(_safetensors(data=bytes(3 * 1024 * 1024 + 7)))
    (path / "empty.txt").write_text("")
    return path


def test_an_object_is_named_by_its_manifest_and_holds_the_same_bytes(store: Store, folder: Path) -> None:
    digest = store.objects.adopt(folder)
    stored = store.objects.path(digest)
    assert hashlib.sha256((stored / MANIFEST).read_bytes()).hexdigest() == digest
    files = store.objects.manifest(digest)
    assert set(files) == {"config.json", "deep/er/größe.txt", "model.safetensors", "empty.txt"}
    for name, (size, sha256) in files.items():
        data = (folder / name).read_bytes()
        assert (stored / name).read_bytes() == data
        assert (size, sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert store.objects.verify(digest) == sum(size for size, _ in files.values())


def test_the_name_does_not_depend_on_store_time_or_order(store: Store, folder: Path, tmp_path: Path) -> None:
    first = store.objects.adopt(folder)
    os.utime(folder / "config.json", (0, 0))
    (folder / "config.json").chmod(0o600)
    assert store.objects.adopt(folder) == first
    assert Store.create(tmp_path / "other").objects.adopt(folder) == first
    (folder / "config.json").write_text("{ }")
    assert store.objects.adopt(folder) != first


def test_the_adopted_folder_is_left_as_it_was_and_shares_nothing(store: Store, folder: Path) -> None:
    digest = store.objects.adopt(folder)
    (folder / "model.safetensors").write_bytes(b"overwritten by a trainer that goes on")
    store.objects.verify(digest)


def test_each_file_is_read_once(store: Store, folder: Path) -> None:
    opened: list[str] = []

    def counting(path: Path) -> object:
        opened.append(path.name)
        return open_regular(path)

    with replaced(room, open_regular=counting, sha256_regular=None):
        store.objects.adopt(folder)
    assert sorted(opened) == ["config.json", "empty.txt", "größe.txt", "model.safetensors"]


def test_stored_files_are_read_only_and_nothing_is_left_in_tmp(store: Store, folder: Path) -> None:
    stored = store.objects.path(store.objects.adopt(folder))
    assert {p.stat().st_mode & 0o222 for p in stored.rglob("*") if p.is_file()} == {0}
    assert list(store.tmp.iterdir()) == []


def _link(path: Path) -> None:
    (path / "link.json").symlink_to("/etc/hostname")


def _linked_folder(path: Path) -> None:
    (path / "linked").symlink_to("/etc")


def _pipe(path: Path) -> None:
    os.mkfifo(path / "pipe.json")


def _file(name: str, data: bytes = b"{}") -> Callable[[Path], None]:
    def make(path: Path) -> None:
        (path / name).write_bytes(data)

    return make


def _raw_name(path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(path) + b"/\xff.json"))).write_text("{}")


_REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a link": (_link, "link.json"),
    "a linked folder": (_linked_folder, "linked"),
    "a named pipe": (_pipe, "not a regular file"),
    "a pickle": (_file("pytorch_model.bin"), "pytorch_model.bin may not be stored"),
    "a pickle of another name": (_file("model.pt"), "model.pt"),
    "code": (_file("modeling.py"), "modeling.py"),
    "an archive": (_file("model.zip"), "model.zip"),
    "a hidden file": (_file(".gitattributes"), ".gitattributes"),
    "no kind": (_file("README"), "README"),
    "a manifest": (_file(MANIFEST), MANIFEST),
    "a control character": (_file("a\x1b[2J.json"), "plain relative path"),
    "a name that is not UTF-8": (_raw_name, "plain relative path"),
    "a zip that says JSON": (_file("model.json", b"PK\x03\x04rest"), "under another name"),
    "a pickle that says text": (_file("model.txt", b"\x80\x04\x95rest"), "under another name"),
    "a gzip that says text": (_file("model.txt", b"\x1f\x8b\x08rest"), "under another name"),
    "a pickle that says safetensors": (_file("a.safetensors", b"\x80\x04\x95" + bytes(40)), "not a safetensors file"),
    "an empty safetensors": (_file("a.safetensors", b""), "not a safetensors file"),
    "a header beyond the end": (_file("a.safetensors", (99).to_bytes(8, "little") + b"{}"), "not a safetensors file"),
    "a header without end": (_file("a.safetensors", b"\xff" * 8 + b"{}"), "not a safetensors file"),
    "a header that is no object": (_file("a.safetensors", _safetensors(b"[]")), "not a safetensors file"),
}


@pytest.mark.parametrize("what", _REFUSED)
def test_what_could_run_code_or_lead_elsewhere_is_refused(store: Store, folder: Path, what: str) -> None:
    make, said = _REFUSED[what]
    make(folder)
    with pytest.raises(IntegrityError) as caught:
        store.objects.adopt(folder)
    assert said in caught.value.message
    assert (store.objects.names(), list(store.tmp.iterdir())) == ((), [])


def test_an_empty_a_missing_and_a_linked_folder_are_refused(store: Store, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(IntegrityError, match="holds no files"):
        store.objects.adopt(tmp_path / "empty")
    with pytest.raises(MachineError, match="No such file"):
        store.objects.adopt(tmp_path / "nothing")
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(IntegrityError, match="symbolic link"):
        store.objects.adopt(tmp_path / "link")


def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(store: Store, folder: Path) -> None:
    real = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("deep"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path)

    with replaced(os, scandir=refusing), pytest.raises(MachineError, match="permission is denied"):
        store.objects.adopt(folder)


def test_a_full_disk_while_adopting_leaves_no_object(store: Store, folder: Path) -> None:
    for call in range(3, 30, 3):
        with watched(fail(errno.ENOSPC), call, onward=True), pytest.raises(MachineError, match="the disk is full"):
            store.objects.adopt(folder)
        assert store.objects.names() == ()
    Store.open(store.root)
    assert list(store.tmp.iterdir()) == []
    store.objects.verify(store.objects.adopt(folder))


def test_an_object_that_was_there_is_checked_before_it_is_relied_on(store: Store, folder: Path) -> None:
    digest = store.objects.adopt(folder)
    path = store.objects.path(digest) / "config.json"
    path.chmod(0o644)
    path.write_text("[]")
    with pytest.raises(IntegrityError, match=r"changed config\.json"):
        store.objects.adopt(folder)


def test_an_object_that_another_process_named_meanwhile_is_used(store: Store, folder: Path) -> None:
    digest = store.objects.adopt(folder)
    with replaced(Path, exists=lambda self: False):  # it was not there when this process looked
        assert store.objects.adopt(folder) == digest
    assert list(store.tmp.iterdir()) == []


def _changed(path: Path) -> None:
    (path / "config.json").chmod(0o644)
    (path / "config.json").write_text("{ }")


def _missing(path: Path) -> None:
    (path / "deep" / "er" / "größe.txt").unlink()


def _extra(path: Path) -> None:
    (path / "deep" / "extra.json").write_text("{}")


def _extra_link(path: Path) -> None:
    (path / "deep" / "link").symlink_to("/etc")


def _now_a_link(path: Path) -> None:
    (path / "config.json").rename(path.parent.parent / "config.json")
    (path / "config.json").symlink_to(path.parent.parent / "config.json")


def _manifest_changed(path: Path) -> None:
    (path / MANIFEST).chmod(0o644)
    (path / MANIFEST).write_bytes((path / MANIFEST).read_bytes() + b" ")


def _manifest_missing(path: Path) -> None:
    (path / MANIFEST).unlink()


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_changed, "has a changed config.json"),
        (_missing, "lacks deep/er/größe.txt"),
        (_extra, "deep/extra.json"),
        (_extra_link, "deep/link"),
        (_now_a_link, "symbolic link"),
        (_manifest_changed, "manifest that was changed"),
        (_manifest_missing, "is missing"),
    ],
)
def test_every_change_of_an_object_is_found(
    store: Store, folder: Path, harm: Callable[[Path], None], said: str
) -> None:
    digest = store.objects.adopt(folder)
    harm(store.objects.path(digest))
    with pytest.raises(IntegrityError) as caught:
        store.objects.verify(digest)
    assert said in caught.value.message


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"files":[],"format":"safetune-object/2"}',
        b'{"files":[{"path":"../../escape","sha256":"","size":1}],"format":"safetune-object/1"}',
        b'{"files":[{"path":1}],"format":"safetune-object/1"}',
        b'{"files":7,"format":"safetune-object/1"}',
    ],
)
def test_a_manifest_that_somebody_made_up_is_an_error_and_never_a_traceback(store: Store, manifest: bytes) -> None:
    digest = hashlib.sha256(manifest).hexdigest()
    store.objects.path(digest).mkdir()
    (store.objects.path(digest) / MANIFEST).write_bytes(manifest)
    with pytest.raises(IntegrityError):
        store.objects.verify(digest)


@pytest.mark.parametrize("text", ["", "abc", "g" * 64, "A" * 64, "0" * 63, "0" * 65, "../" * 21 + "a"])
def test_what_is_no_digest_names_no_object(store: Store, text: str) -> None:
    assert not is_digest(text)
    with pytest.raises(IntegrityError, match="not an object digest"):
        store.objects.path(text)


def test_a_manifest_row_is_what_an_independent_reader_computes(store: Store, folder: Path) -> None:
    digest = store.objects.adopt(folder)
    rows = json.loads((store.objects.path(digest) / MANIFEST).read_bytes())["files"]
    assert [r["path"] for r in rows] == sorted(r["path"] for r in rows)
    assert isinstance(ObjectStore(store.root / "objects", store.tmp).manifest(digest), dict)
