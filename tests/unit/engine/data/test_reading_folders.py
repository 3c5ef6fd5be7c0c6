"""Folders, hub datasets in the cache, and derived mixtures as sources: many files, one pin."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from pyarrow import parquet
from sourcelab import LONGEST, everything, good, jsonl, row, sha, source, write

from safetune.core.digest import canonical
from safetune.core.errors import IntegrityError, UsageError
from safetune.core.source import FOLDER, HUB, MIXTURE, Provenance
from safetune.engine.data.declared import declared, mixture_record
from safetune.engine.data.derived import Part
from safetune.engine.data.reading import BadRow, Row, kind_of, read
from safetune.state.files import sha256_listing
from safetune.state.objects import ObjectStore

A, B = jsonl(row("a"), row("b")), b"prompt,completion\nc,d\nbad\n"


def folder(path: Path) -> Path:
    write(path / "b/x.csv", B)
    write(path / "a.jsonl", A)
    write(path / "README.md", b"words")
    write(path / ".cache/old.jsonl", b"nothing")
    write(path / ".hidden.jsonl", b"nothing")
    return path


def pinned(path: Path, kind: str = FOLDER) -> Any:
    return source(path, kind, sha256_listing({"a.jsonl": sha(A), "b/x.csv": sha(B)}))


def test_the_data_files_of_a_folder_are_read_in_the_order_of_their_paths(tmp_path: Path) -> None:
    found = everything(pinned(folder(tmp_path / "d")))
    assert [(one.file, one.line, one.at) for one in found] == [
        ("a.jsonl", 1, 1),
        ("a.jsonl", 2, 2),
        ("b/x.csv", 2, 4),
        ("b/x.csv", 3, 5),
    ]
    assert isinstance(found[3], BadRow)
    assert found[3].message == "b/x.csv:3: has 1 fields, the header names 2 columns"


def test_places_are_counted_through_files_of_every_kind(tmp_path: Path) -> None:
    texts = pa.array(["a", "b"])
    write(tmp_path / "a.jsonl", A + b"x")
    parquet.write_table(pa.table({"prompt": texts, "completion": texts}), tmp_path / "b.parquet")
    write(tmp_path / "c.jsonl", b"x\n" + A)
    write(tmp_path / "d.csv", b"prompt,completion\na,b\n")
    found = everything(source(tmp_path, FOLDER))
    places = [("a", 1, 1), ("a", 2, 2), ("a", 3, 3), ("b", 1, 4), ("b", 2, 5), ("c", 1, 6), ("c", 2, 7), ("c", 3, 8)]
    assert [(one.file[0], one.line, one.at) for one in found] == [*places, ("d", 2, 10)]
    for start in range(11):
        assert everything(source(tmp_path, FOLDER), start=start) == [one for one in found if one.at > start]


def test_reading_a_folder_goes_on_after_a_place(tmp_path: Path) -> None:
    of = pinned(folder(tmp_path / "d"))
    whole = everything(of)
    for start in range(6):
        assert everything(of, start=start) == [one for one in whole if one.at > start]


@pytest.mark.parametrize("change", ["content", "name", "more", "less"])
def test_another_folder_is_refused(tmp_path: Path, change: str) -> None:
    path = folder(tmp_path / "d")
    if change == "content":
        write(path / "b/x.csv", B + b"e,f\n")
    elif change == "name":
        (path / "a.jsonl").rename(path / "c.jsonl")
    elif change == "more":
        write(path / "z.jsonl", A)
    else:
        (path / "a.jsonl").unlink()
    with pytest.raises(IntegrityError, match="source words has a listing of files with sha256"):
        everything(pinned(path))


def test_a_file_that_comes_while_a_folder_is_read(tmp_path: Path) -> None:
    path = folder(tmp_path / "d")
    coming = read(pinned(path), LONGEST)
    next(coming)
    write(path / "z.jsonl", A)
    with pytest.raises(IntegrityError, match="files came or went"):
        list(coming)


def test_links_do_not_lead_out_of_a_folder(tmp_path: Path) -> None:
    path = folder(tmp_path / "d")
    write(tmp_path / "out/secret.jsonl", A)
    (path / "c.jsonl").symlink_to("../out/secret.jsonl")
    with pytest.raises(IntegrityError, match=r"source words: c\.jsonl is a link that leads out of the folder"):
        everything(source(path, FOLDER))
    (path / "c.jsonl").unlink()
    (path / "c.jsonl").symlink_to("a.jsonl")
    assert len(everything(source(path, FOLDER))) == 6
    (path / "deep").symlink_to("../out")
    with pytest.raises(IntegrityError, match="deep is a link to another folder"):
        everything(source(path, FOLDER))


def test_names_of_files_are_plain(tmp_path: Path) -> None:
    write(tmp_path / "d" / "a\nb.jsonl", A)
    with pytest.raises(IntegrityError, match="is not a plain relative path"):
        everything(source(tmp_path / "d", FOLDER))


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="source words: gone cannot be read: no such file"):
        everything(source(tmp_path / "gone", FOLDER))
    write(tmp_path / "empty/x.txt", b"")
    with pytest.raises(UsageError, match="empty holds no data file"):
        everything(source(tmp_path / "empty", FOLDER))


# -- the hub ----------------------------------------------------------------------------------------------------------

REVISION = "0123456789abcdef0123456789abcdef01234567"


def cached(root: Path, name: str = "org/words") -> Path:
    """Lay out a dataset as the cache does: blobs, and links to them in a snapshot."""
    home = root / f"datasets--{name.replace('/', '--')}"
    for file, data in {"a.jsonl": A, "b/x.csv": B, "README.md": b"x"}.items():
        blob = write(home / "blobs" / sha(data), data)
        link = home / "snapshots" / REVISION / file
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return home


def hub(uri: str, revision: str = REVISION, sha256: str = "") -> Any:
    return replace(source(uri, HUB, sha256), about=Provenance(revision=revision))


@pytest.mark.parametrize(
    ("variable", "below"), [("HF_HUB_CACHE", ""), ("HF_HOME", "hub"), ("XDG_CACHE_HOME", "huggingface/hub")]
)
def test_a_dataset_comes_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, below: str
) -> None:
    for other in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    cached(tmp_path / below)
    found = everything(hub("hub:org/words", sha256=pinned(tmp_path).sha256))
    assert [one.file for one in found] == ["a.jsonl", "a.jsonl", "b/x.csv", "b/x.csv"]


def test_a_part_of_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    cached(tmp_path)
    one = everything(hub("hub:org/words/b", sha256=sha256_listing({"b/x.csv": sha(B)})))
    assert [(one.file, one.line) for one in one] == [("b/x.csv", 2), ("b/x.csv", 3)]
    only = hub("hub:org/words/a.jsonl", sha256=sha256_listing({"a.jsonl": sha(A)}))
    assert good(only) == [row("a"), row("b")]
    with pytest.raises(UsageError, match=r"README\.md of org/words is no data file"):
        everything(hub("hub:org/words/README.md"))


def test_a_dataset_that_is_not_there_says_what_to_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match="org/words at 0123456789ab is not in the hub cache") as error:
        everything(hub("hub:org/words"))
    assert error.value.hint == f"fetch it once: hf download org/words --repo-type dataset --revision {REVISION}"
    cached(tmp_path)
    with pytest.raises(UsageError, match=r"c\.jsonl of org/words is not in the hub cache"):
        everything(hub("hub:org/words/c.jsonl"))


@pytest.mark.parametrize(
    "uri", ["hub:", "hub:words", "hub:../words", "hub:org/words/../x", "hub:org/words//x", "hub:org/w\\x", "hub:a/b/."]
)
def test_a_uri_that_is_no_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match="is no hub dataset"):
        everything(hub(uri))


@pytest.mark.parametrize("revision", ["", "main", REVISION[:39], REVISION.upper(), f"{REVISION}\n"])
def test_a_dataset_needs_a_revision_that_cannot_change(revision: str) -> None:
    with pytest.raises(UsageError, match="a hub dataset needs `revision`, 40 hex digits"):
        everything(hub("hub:org/words", revision))


def test_a_snapshot_that_links_elsewhere_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    home = cached(tmp_path)
    write(tmp_path / "out.jsonl", A)
    (home / "snapshots" / REVISION / "c.jsonl").symlink_to(tmp_path / "out.jsonl")
    with pytest.raises(IntegrityError, match="leads out"):
        everything(hub("hub:org/words"))


# -- a derived mixture -------------------------------------------------------------------------------------------------


def hex_id(digits: str) -> str:
    """Return an id that begins so."""
    return digits.ljust(32, "a")


def mixture(tmp_path: Path, licences: tuple[str, ...] = ("MIT", "CC-BY-4.0")) -> Path:
    """Store two data objects and a mixture of them; return its folder."""
    (tmp_path / "store").mkdir(exist_ok=True)
    objects = ObjectStore(tmp_path / "store", tmp_path / "tmp")
    parts: list[Any] = []
    for number, licence in enumerate(licences):
        lines = jsonl(*({"id": hex_id(f"{number}{n}"), "row": row(f"{number}{n}")} for n in range(3)))
        at = write(tmp_path / f"made{number}" / "rows.jsonl", lines).parent
        said = {"licence": licence, "consent": f"c{number}", "origin": "o", "languages": ["en"], "basis": "consent"}
        said |= {"collected": [f"202{number}-01-01", f"202{number}-12-31"], "limits": ["l"]}
        role = "train" if number < 2 else "technique:x"
        parts.append({"name": f"s{number}", "role": role, "share": 1.0, "data": objects.adopt(at), "source": said})
    made: Any = {"format": "safetune-mixture/1", "stage": "s", "sources": parts, "policy": {}}
    at = write(tmp_path / "mixed" / "mixture.json", canonical(made)).parent
    return objects.path(objects.adopt(at))


def test_a_mixture_gives_its_rows_with_their_ids(tmp_path: Path) -> None:
    path = mixture(tmp_path, ("MIT", "CC-BY-4.0", "GPL-3.0-only"))
    found = everything(source(path, MIXTURE, path.name))
    assert [one.id for one in found if isinstance(one, Row)] == [
        hex_id(f"{part}{n}") for part in range(2) for n in range(3)
    ]
    assert found[4] == Row(2, row("11"), found[4].file, 5, hex_id("11"))
    assert found[4].file.endswith("/rows.jsonl")
    assert everything(source(path, MIXTURE, path.name), start=4) == found[4:]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ({"id": "a" * 31, "row": row()}, "the id of the row is not 32 hex digits"),
        ({"id": "a" * 33, "row": row()}, "the id of the row is not 32 hex digits"),
        ({"id": "A" * 32, "row": row()}, "the id of the row is not 32 hex digits"),
        ({"id": "a" * 32 + "\n", "row": row()}, "the id of the row is not 32 hex digits"),
        ({"id": "a" * 32, "row": {"text": "x"}}, "a row here needs"),
        ({"id": "a" * 32, "row": {"messages": [{"role": "user", "content": "x"}]}}, "is not the assistant's"),
        ({"id": "a" * 32, "row": {"messages": "x"}}, "must be a list of messages"),
    ],
)
def test_rows_of_a_mixture_are_checked_as_any_others(line: Any, why: str, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    objects = ObjectStore(tmp_path / "store", tmp_path / "tmp")
    data = objects.adopt(write(tmp_path / "made" / "rows.jsonl", jsonl(line, {"id": "b" * 32, "row": row()})).parent)
    part = {"name": "s", "role": "train", "share": 1.0, "data": data, "source": {"licence": "MIT"}}
    made: Any = {"format": "safetune-mixture/1", "stage": "s", "sources": [part], "policy": {}}
    path = objects.path(objects.adopt(write(tmp_path / "mixed" / "mixture.json", canonical(made)).parent))
    bad, good = everything(source(path, MIXTURE, path.name))
    assert isinstance(bad, BadRow)
    assert why in bad.why
    assert isinstance(good, Row)


def test_what_the_sources_of_a_mixture_declared_comes_along(tmp_path: Path) -> None:
    path = mixture(tmp_path)
    bare = replace(source(path, MIXTURE, path.name), licence="", consent="", origin="")
    full = declared(bare)
    assert (full.licence, full.consent, full.origin) == ("MIT AND CC-BY-4.0", "c0; c1", "o")
    assert (full.about.basis, full.about.languages, full.about.limits) == ("consent", ("en",), ("l",))
    assert full.about.collected == ("2020-01-01", "2021-12-31")
    assert full.about.croissant == ""
    with pytest.raises(UsageError, match="licence MIT, not MIT AND CC-BY-4"):
        declared(replace(bare, licence="MIT"))
    assert declared(replace(bare, licence="CC-BY-4.0 AND MIT")).licence == "CC-BY-4.0 AND MIT"


def test_a_licence_that_one_source_lacks_is_not_filled_in_for_it(tmp_path: Path) -> None:
    path = mixture(tmp_path, ("MIT", ""))
    assert declared(replace(source(path, MIXTURE, path.name), licence="")).licence == ""


def test_a_basis_that_differs_is_nobodys() -> None:
    parts = [Part(name, "0" * 64, {"basis": basis}) for name, basis in (("a", "consent"), ("b", "contract"))]
    assert (mixture_record(parts).basis, mixture_record(parts[:1]).basis) == ("", "consent")


def test_a_mixture_that_was_changed_is_refused(tmp_path: Path) -> None:
    path = mixture(tmp_path)
    with pytest.raises(IntegrityError, match=r"the mixture is \w+, the playbook pins 0000"):
        everything(source(path, MIXTURE, "0" * 64))
    data = next(p for p in path.parent.iterdir() if (p / "rows.jsonl").exists()) / "rows.jsonl"
    data.chmod(0o644)
    good_rows = data.read_bytes()
    data.write_bytes(good_rows.replace(b'"00a', b'"09a').replace(b'"10a', b'"19a'))
    with pytest.raises(IntegrityError, match=r"rows\.jsonl was changed"):
        everything(source(path, MIXTURE, path.name))
    data.write_bytes(good_rows)
    (path / "mixture.json").chmod(0o644)
    (path / "mixture.json").write_bytes((path / "mixture.json").read_bytes().replace(b"train", b"other"))
    with pytest.raises(IntegrityError, match=r"mixture\.json of .* was changed"):
        everything(source(path, MIXTURE, path.name))


def test_a_mixture_whose_data_is_gone(tmp_path: Path) -> None:
    path = mixture(tmp_path)
    for other in path.parent.iterdir():
        if other != path:
            other.rename(tmp_path / other.name)
    with pytest.raises(IntegrityError, match="the data of s0: "):
        everything(source(path, MIXTURE, path.name))


def test_what_is_no_mixture(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no mixture of a store"):
        everything(source(folder(tmp_path / "d"), MIXTURE))
    path = mixture(tmp_path)
    other = next(p for p in path.parent.iterdir() if p != path)
    with pytest.raises(UsageError, match=f"the object {other.name[:12]} is no mixture"):
        everything(source(other, MIXTURE))


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b"{}",
        b'{"format": "safetune-mixture/9", "sources": []}',
        b'{"format": "safetune-mixture/1", "sources": []}',
        b'{"format": "safetune-mixture/1", "sources": [{"name": 1, "role": "train"}]}',
        b"\xff",
    ],
)
def test_a_mixture_that_cannot_be_read(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "store").mkdir()
    objects = ObjectStore(tmp_path / "store", tmp_path / "tmp")
    path = objects.path(objects.adopt(write(tmp_path / "m" / "mixture.json", text).parent))
    with pytest.raises(UsageError, match=r"mixture"):
        everything(source(path, MIXTURE))


def test_a_kind_is_known_by_the_uri(tmp_path: Path) -> None:
    folder(tmp_path / "d")
    uris = ["x/a.jsonl", "a.csv", "b.parquet", "a.csv.dvc", "p/dvc.yaml#out/b.parquet", "hub:a/b", str(tmp_path / "d")]
    assert [kind_of(uri) for uri in uris] == ["jsonl", "csv", "parquet", "csv", "parquet", "hub", "folder"]
    assert kind_of(str(mixture(tmp_path))) == "mixture"
    assert kind_of("a.txt") == "jsonl"
