"""Where a model is and what identifies it, found without loading anything; cached models are verified on every use."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import threading
from pathlib import Path

import pytest

from safetune.core.embedded import EMBEDDED
from safetune.core.errors import IntegrityError, MachineError, UsageError
from safetune.core.playbook import ModelRef
from safetune.engine import models
from safetune.engine.models import BaseModel, make_ready, resolve
from safetune.engine.sums import Sums


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "safetune" / "models"


def folder(path: Path, **files: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, text in {"config.json": "{}", "model.safetensors": "weights", **files}.items():
        (path / name).write_text(text)
    return path


def found(path: Path) -> BaseModel:
    return resolve(ModelRef("folder", str(path)), Sums(None))


def sealed(model: BaseModel) -> BaseModel:
    """Put a converted model into the cache by hand."""
    folder(model.folder)
    files = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in model.folder.iterdir()}
    (model.folder / "SAFETUNE.json").write_text(json.dumps({"identity": model.identity, "files": files}))
    return model


def test_a_folder_is_identified_by_its_bytes_wherever_it_lies(tmp_path: Path) -> None:
    one, two = found(folder(tmp_path / "one")), found(folder(tmp_path / "two"))
    assert one.identity == two.identity
    assert one.identity.startswith("folder:")
    assert one.size == len("{}weights")
    assert (one.problem, one.make) == ("", "")
    for name in ("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"):
        other = folder(tmp_path / f"other-{name}")
        (other / name).write_text("something else")
        assert found(other).identity != one.identity
    (tmp_path / "two" / "README.md").write_text("not part of the model")
    assert found(tmp_path / "two").identity == one.identity


def test_a_folder_without_a_model_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in found(tmp_path / "empty").problem
    assert "has no config.json" in found(tmp_path / "nowhere").problem
    pickled = folder(tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    model = found(pickled)
    assert "has no .safetensors file" in model.problem
    with pytest.raises(UsageError, match="safetensors"):
        make_ready(model, tmp_path / "scratch", print)


def test_a_gguf_file_is_converted_once(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(b"GGUF")
    ref = ModelRef("gguf", str(path))
    model = resolve(ref, Sums(None))
    sha = hashlib.sha256(b"GGUF").hexdigest()
    assert (model.make, model.origin) == ("convert", {"sha256": sha, "gguf": str(path)})
    assert sha in model.identity
    assert model.folder.parent == cache
    assert not cache.exists()
    sealed(model)
    again = resolve(ref, Sums(None))
    assert (again.make, again.identity) == ("", model.identity)
    assert again.size
    assert make_ready(again, tmp_path / "scratch", print) == model.folder
    assert "does not exist" in resolve(ModelRef("gguf", str(tmp_path / "nowhere.gguf")), Sums(None)).problem


def test_the_identity_of_an_embedded_model_does_not_depend_on_what_is_installed(cache: Path) -> None:
    name = "smollm2-135m-instruct"
    model = resolve(ModelRef("embedded", name), Sums(None))
    assert EMBEDDED[name].sha256 in model.identity
    assert (model.make, model.problem) == ("convert", "")
    assert model.origin is not None
    assert model.origin["sha256"] == EMBEDDED[name].sha256


def test_a_hub_model_is_its_pinned_revision(cache: Path) -> None:
    one = resolve(ModelRef("hub", "org/name", "a" * 40), Sums(None))
    two = resolve(ModelRef("hub", "org/name", "b" * 40), Sums(None))
    assert one.make == "fetch"
    assert one.identity == f"hub:org/name@{'a' * 40}"
    assert one.folder != two.folder
    assert one.folder.parent == cache


@pytest.mark.parametrize("damage", ["changed", "missing", "manifest", "no JSON", "added", "another"])
def test_a_damaged_cached_model_is_refused(tmp_path: Path, cache: Path, damage: str) -> None:
    model = sealed(resolve(ModelRef("hub", "org/name", "a" * 40), Sums(None)))
    if damage == "changed":
        (model.folder / "model.safetensors").write_text("other weights")
    elif damage == "missing":
        (model.folder / "model.safetensors").unlink()
    elif damage == "added":
        (model.folder / "adapter_config.json").write_text("{}")
    elif damage == "another":
        manifest = json.loads((model.folder / "SAFETUNE.json").read_bytes())
        (model.folder / "SAFETUNE.json").write_text(json.dumps({**manifest, "identity": "hub:org/other@a"}))
    else:
        (model.folder / "SAFETUNE.json").write_text("{}" if damage == "manifest" else "{")
    with pytest.raises(IntegrityError, match="the cached model org/name@aaaaaa was changed") as caught:
        make_ready(model, tmp_path / "scratch", print)
    assert str(model.folder) in caught.value.hint


BIG = 5_000_000


def change_unseen(path: Path) -> None:
    """Write other bytes of the same size, and put the time back."""
    stat = path.stat()
    path.write_bytes(b"b" * stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def remembering(tmp_path: Path, ref: ModelRef) -> BaseModel:
    """Resolve with a memory of digests that was made before the file was changed."""
    memory = Sums(tmp_path / "sums.json")
    before = resolve(ref, memory)
    memory.save()
    change_unseen(Path(ref.location) / "model.safetensors" if ref.kind == "folder" else Path(ref.location))
    model = resolve(ref, Sums(tmp_path / "sums.json"))
    assert model.identity == before.identity
    return model


def test_a_remembered_digest_does_not_vouch_for_a_folder_that_is_used(tmp_path: Path) -> None:
    mine = folder(tmp_path / "mine")
    (mine / "model.safetensors").write_bytes(b"a" * BIG)
    model = remembering(tmp_path, ModelRef("folder", str(mine)))
    with pytest.raises(IntegrityError, match="is not the one that was planned") as caught:
        make_ready(model, tmp_path / "scratch", print)
    assert "touch" in caught.value.hint
    assert make_ready(found(mine), tmp_path / "scratch", print) == mine


def test_a_remembered_digest_does_not_vouch_for_a_gguf_file_that_is_used(tmp_path: Path, cache: Path) -> None:
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(b"a" * BIG)
    model = remembering(tmp_path, ModelRef("gguf", str(mine)))
    sealed(model)
    with pytest.raises(IntegrityError, match=r"model file mine\.gguf has sha256"):
        make_ready(model, tmp_path / "scratch", print)


def test_a_file_name_that_cannot_be_hashed_as_text_is_a_problem(tmp_path: Path) -> None:
    mine = folder(tmp_path / "mine")
    (mine / os.fsdecode(b"bad\xff.json")).write_text("{}")
    assert "has a file with the name 'bad\\udcff.json'" in found(mine).problem


def hub_model() -> BaseModel:
    return resolve(ModelRef("hub", "org/name", "a" * 40), Sums(None))


def _hold(path: str, held: object, go: object) -> None:
    from safetune.state.lock import FileLock

    with FileLock(Path(path), 5, "a test"):
        held.set()  # type: ignore[attr-defined]
        go.wait(20)  # type: ignore[attr-defined]


def test_what_another_process_made_meanwhile_is_used_and_not_made_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = hub_model()
    asked: list[str] = []
    monkeypatch.setattr(models, "run_jobs", lambda work, _: asked.append(work[0][1]))
    cache.mkdir(parents=True)
    spawn = multiprocessing.get_context("spawn")
    held, go = spawn.Event(), spawn.Event()
    other = spawn.Process(target=_hold, args=(str(model.folder) + ".lock", held, go))
    other.start()
    assert held.wait(30)
    done: list[Path] = []
    mine = threading.Thread(target=lambda: done.append(make_ready(model, tmp_path / "scratch", print)))
    mine.start()
    mine.join(0.3)
    assert mine.is_alive()
    assert asked == []
    sealed(model)
    inode = model.folder.stat().st_ino
    go.set()
    mine.join(30)
    other.join(30)
    assert (done, asked) == ([model.folder], [])
    assert model.folder.stat().st_ino == inode


def test_what_a_killed_process_left_half_made_is_removed(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = hub_model()

    def fetch(work: object, _listener: object) -> None:
        folder(cache / f"{model.folder.name}.filling", **{"tokenizer.json": "{}"})

    folder(cache / f"{model.folder.name}.filling", **{"left.json": "{}"})
    monkeypatch.setattr(models, "run_jobs", fetch)
    made = make_ready(model, tmp_path / "scratch", print)
    assert {p.name for p in made.iterdir()} == {"SAFETUNE.json", "config.json", "model.safetensors", "tokenizer.json"}
    assert {p.name for p in cache.iterdir()} == {made.name, f"{made.name}.lock"}


@pytest.mark.parametrize("broken", ["a file", "lock is a folder"])
def test_a_cache_that_cannot_be_used_is_one_clear_message(tmp_path: Path, cache: Path, broken: str) -> None:
    if broken == "a file":
        cache.parent.parent.mkdir()
        cache.parent.write_text("")
    else:
        (cache / f"{hub_model().folder.name}.lock").mkdir(parents=True)
    with pytest.raises(MachineError, match="cannot") as caught:
        make_ready(hub_model(), tmp_path / "scratch", print)
    assert "XDG_CACHE_HOME" in caught.value.hint
