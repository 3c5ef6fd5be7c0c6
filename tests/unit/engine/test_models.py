"""Where a model is and what identifies it, found without loading anything; cached models are verified on every use."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from safetune.core.embedded import EMBEDDED
from safetune.core.errors import IntegrityError, UsageError
from safetune.core.playbook import ModelRef
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


@pytest.mark.parametrize("damage", ["changed", "missing", "manifest", "no JSON"])
def test_a_damaged_cached_model_is_refused(tmp_path: Path, cache: Path, damage: str) -> None:
    model = sealed(resolve(ModelRef("hub", "org/name", "a" * 40), Sums(None)))
    if damage == "changed":
        (model.folder / "model.safetensors").write_text("other weights")
    elif damage == "missing":
        (model.folder / "model.safetensors").unlink()
    else:
        (model.folder / "SAFETUNE.json").write_text("{}" if damage == "manifest" else "{")
    with pytest.raises(IntegrityError, match="the cached model org/name@aaaaaa was changed") as caught:
        make_ready(model, tmp_path / "scratch", print)
    assert str(model.folder) in caught.value.hint
