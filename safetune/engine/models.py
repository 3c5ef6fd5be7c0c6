"""Where the weights of a playbook's model lie, what identifies them, and how they are made ready.

A converted model is kept in the user's cache folder with a manifest of digests and is verified on every use.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetune.core.digest import JSON, canonical, digest, short
from safetune.core.embedded import EMBEDDED
from safetune.core.errors import IntegrityError, UsageError
from safetune.core.playbook import ModelRef
from safetune.engine.jobs import run_jobs, write_job
from safetune.engine.sums import Sums
from safetune.plugins import load
from safetune.protocols import Job, Launcher, Listener
from safetune.state.atomic import write_atomic
from safetune.state.files import sha256_file

# Changes when the conversion would give other bytes, so that an old cache is not mistaken for a new one.
_CONVERSION = "float32-1"
_MANIFEST = "SAFETUNE.json"
_WEIGHT_FILES = (".safetensors", ".json", ".jinja", ".txt", ".model")


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model: what names it, what identifies its weights, where its folder is (or will be).

    `make` says what must happen before first use: nothing, `convert` a GGUF file, or `fetch` from the hub.
    """

    label: str
    identity: str
    folder: Path
    make: str = ""
    origin: Mapping[str, JSON] | None = None
    size: int | None = None
    problem: str = ""


def cache_root() -> Path:
    """Return the user's cache folder for models (XDG base directory specification)."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "safetune" / "models"


def resolve(ref: ModelRef, sums: Sums) -> BaseModel:
    """Return what is known of a model without training, network or child process; `problem` says what is missing."""
    if ref.kind == "embedded":
        return _embedded(ref.location)
    if ref.kind == "gguf":
        return _gguf(Path(ref.location), sums)
    if ref.kind == "hub":
        return _hub(ref)
    return _folder(Path(ref.location), sums)


def _embedded(name: str) -> BaseModel:
    known = EMBEDDED[name]
    folder = cache_root() / f"{known.sha256[:16]}-{_CONVERSION}"
    spec = importlib.util.find_spec(known.package)
    packaged = Path(spec.origin).parent / known.file if spec and spec.origin else None
    origin: dict[str, JSON] = {"sha256": known.sha256}
    if packaged and packaged.is_file():
        origin["gguf"] = str(packaged)
    else:
        origin |= {"repo": known.repository, "revision": known.revision, "file": known.file}
    label = f"{name}@{known.sha256[:6]}"
    return _cached(label, f"gguf:{known.sha256}:{_CONVERSION}", folder, "convert", origin)


def _gguf(path: Path, sums: Sums) -> BaseModel:
    if not path.is_file():
        return BaseModel(path.name, "", path, problem=f"model file {path} does not exist")
    found = sums.of(path)
    folder = cache_root() / f"{found[:16]}-{_CONVERSION}"
    origin: dict[str, JSON] = {"sha256": found, "gguf": str(path)}
    return _cached(f"{path.name}@{found[:6]}", f"gguf:{found}:{_CONVERSION}", folder, "convert", origin)


def _hub(ref: ModelRef) -> BaseModel:
    identity = f"hub:{ref.location}@{ref.revision}"
    folder = cache_root() / f"{ref.location.replace('/', '--')}-{ref.revision[:16]}"
    origin: dict[str, JSON] = {"repo": ref.location, "revision": ref.revision, "file": ""}
    return _cached(f"{ref.location}@{ref.revision[:6]}", identity, folder, "fetch", origin)


def _cached(label: str, identity: str, folder: Path, make: str, origin: Mapping[str, JSON]) -> BaseModel:
    if (folder / _MANIFEST).is_file():
        size = sum(f.stat().st_size for f in folder.iterdir() if f.is_file())
        return BaseModel(label, identity, folder, "", origin, size)
    return BaseModel(label, identity, folder, make, origin)


def _folder(path: Path, sums: Sums) -> BaseModel:
    if not (path / "config.json").is_file():
        return BaseModel(path.name, "", path, problem=f"model folder {path} has no config.json")
    files = sorted(f for f in path.iterdir() if f.is_file() and f.suffix in _WEIGHT_FILES)
    if not any(f.suffix == ".safetensors" for f in files):
        return BaseModel(path.name, "", path, problem=f"model folder {path} has no .safetensors file")
    found = {f.name: sums.of(f) for f in files}
    identity = f"folder:{digest(found)}"
    size = sum(f.stat().st_size for f in files)
    return BaseModel(f"{path.name}@{identity[7:13]}", identity, path, "", None, size)


def make_ready(model: BaseModel, scratch: Path, listener: Listener) -> Path:
    """Return the folder of a usable, verified model; convert or fetch it first where that is needed.

    Raises:
        UsageError: when the model cannot be found.
        IntegrityError: when cached or given bytes are not the pinned ones.
        RunError: when the conversion or the download fails.
    """
    if model.problem:
        raise UsageError(model.problem, hint="check `model.base` in the playbook")
    if model.origin is None:
        return model.folder
    if not (model.folder / _MANIFEST).is_file():
        _make(model, scratch, listener)
    _verify(model)
    return model.folder


def _make(model: BaseModel, scratch: Path, listener: Listener) -> None:
    """Convert or fetch into a folder beside the final one, seal it with a manifest, and move it into place."""
    origin = dict(model.origin or {})
    model.folder.parent.mkdir(parents=True, exist_ok=True)
    filling = model.folder.with_name(f"{model.folder.name}.{os.getpid()}.filling")
    shutil.rmtree(filling, ignore_errors=True)
    try:
        if "repo" in origin and (model.make == "fetch" or "gguf" not in origin):
            fetched = filling.with_suffix(".fetched") if origin.get("file") else filling
            _job(scratch / "fetch", {"job": "fetch", **origin, "output": str(fetched)}, (model.label, listener))
            if origin.get("file"):
                origin["gguf"] = str(fetched / str(origin["file"]))
        if "gguf" in origin:
            _check_gguf(Path(str(origin["gguf"])), str(origin["sha256"]))
            content: dict[str, JSON] = {"job": "convert", "gguf": origin["gguf"], "output": str(filling)}
            _job(scratch / "convert", content, (model.label, listener))
        sums: dict[str, JSON] = {f.name: sha256_file(f) for f in sorted(filling.iterdir()) if f.is_file()}
        write_atomic(filling / _MANIFEST, canonical({"identity": model.identity, "files": sums}))
        if not (model.folder / _MANIFEST).is_file():
            shutil.rmtree(model.folder, ignore_errors=True)
            filling.rename(model.folder)
    finally:
        shutil.rmtree(filling, ignore_errors=True)
        shutil.rmtree(filling.with_suffix(".fetched"), ignore_errors=True)


def _job(folder: Path, content: Mapping[str, JSON], show: tuple[str, Listener]) -> None:
    launcher = load("launcher", "local")
    kind = str(content["job"])
    write_job(folder, {**content, "threads": 1})
    run_jobs([(Job(folder, kind), f"{kind} {show[0]}", _as_launcher(launcher))], show[1])


def _as_launcher(plugin: object) -> Launcher:
    return plugin  # type: ignore[return-value]  # the plugin table promises the protocol of its kind


def _check_gguf(path: Path, expected: str) -> None:
    found = sha256_file(path)
    if found != expected:
        raise IntegrityError(
            f"model file {path.name} has sha256 {short(found)}, expected {short(expected)}",
            hint="reinstall it with `make install`",
        )


def _verify(model: BaseModel) -> None:
    """Check every file of a cached model against its manifest."""
    try:
        manifest = json.loads((model.folder / _MANIFEST).read_bytes())
        expected: Mapping[str, str] = manifest["files"]
        wrong = [name for name, sha in expected.items() if sha256_file(model.folder / name) != sha]
    except (OSError, ValueError, KeyError, TypeError) as error:
        wrong = [f"{_MANIFEST}: {error}"]
    if wrong:
        raise IntegrityError(
            f"the cached model {model.label} was changed: {', '.join(wrong)}",
            hint=f"remove {model.folder} and run again; it is made anew from the pinned file",
        )
