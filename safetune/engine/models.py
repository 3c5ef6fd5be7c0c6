"""Where the weights of a playbook's model lie, what identifies them, and how they are made ready.

A converted model is kept in the user's cache folder with a manifest of digests and is verified on every use.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetune.core.digest import JSON, canonical, digest, short
from safetune.core.embedded import EMBEDDED
from safetune.core.errors import IntegrityError, MachineError, UsageError
from safetune.core.playbook import ModelRef
from safetune.engine.jobs import run_jobs, write_job
from safetune.engine.sums import Sums
from safetune.plugins import load
from safetune.protocols import Job, Launcher, Listener
from safetune.state.atomic import machine_errors, write_atomic
from safetune.state.files import sha256_file
from safetune.state.lock import FileLock

# Changes when the conversion would give other bytes, so that an old cache is not mistaken for a new one.
_CONVERSION = "float32-1"
_MANIFEST = "SAFETUNE.json"
_WEIGHT_FILES = (".safetensors", ".json", ".jinja", ".txt", ".model")
# How long to wait for another process that makes the same model; a big download takes its time.
_MAKING_SECONDS = 3600.0
_PLAN_AGAIN = "plan again; where a file was changed and its time was not, `touch` it first"


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
    origin |= {"repo": known.repository, "revision": known.revision, "file": known.file}
    if packaged and packaged.is_file():
        origin["gguf"] = str(packaged)
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
    strange = [f.name for f in files if not f.name.isprintable()]
    if strange:
        return BaseModel(path.name, "", path, problem=f"model folder {path} has a file with the name {strange[0]!r}")
    identity = f"folder:{digest({f.name: sums.of(f) for f in files})}"
    size = sum(f.stat().st_size for f in files)
    return BaseModel(f"{path.name}@{identity[7:13]}", identity, path, "", None, size)


def make_ready(model: BaseModel, scratch: Path, listener: Listener) -> Path:
    """Return the folder of a usable, verified model; convert or fetch it first where that is needed.

    What the playbook points at is hashed here: a digest that was only remembered is good enough for a plan alone.

    Raises:
        UsageError: when the model cannot be found.
        IntegrityError: when cached or given bytes are not the pinned ones, or not those of the plan.
        RunError: when the conversion or the download fails.
        MachineError: when the cache cannot be written.
    """
    if model.problem:
        raise UsageError(model.problem, hint="check `model.base` in the playbook")
    if model.origin is None:
        _check_folder(model)
        return model.folder
    if "repo" not in model.origin:
        _check_gguf(Path(str(model.origin["gguf"])), str(model.origin["sha256"]), _PLAN_AGAIN)
    if not (model.folder / _MANIFEST).is_file():
        with _alone(model):
            _make(model, scratch, listener)
    _verify(model)
    return model.folder


@contextmanager
def _alone(model: BaseModel) -> Iterator[None]:
    """Hold the lock beside a cache entry, so that only one process makes it."""
    with _cache_errors("make the model cache"):
        model.folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(model.folder.with_name(f"{model.folder.name}.lock"), _MAKING_SECONDS, f"model {model.label}")
        lock.__enter__()
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


@contextmanager
def _cache_errors(what: str) -> Iterator[None]:
    """Turn what the machine refuses into a MachineError whose hint says how to use another cache."""
    try:
        with machine_errors(f"{what} in {cache_root()}"):
            yield
    except MachineError as error:
        hint = "free some space or check its permissions, or set XDG_CACHE_HOME to another folder"
        raise MachineError(error.message, hint=hint) from error


def _make(model: BaseModel, scratch: Path, listener: Listener) -> None:
    """Convert or fetch into a folder beside the final one, seal it with a manifest, and move it into place.

    The lock of the entry is held: what lies about half made is of a dead process.
    """
    if (model.folder / _MANIFEST).is_file():
        return  # another process was quicker
    origin = dict(model.origin or {})
    filling = model.folder.with_name(f"{model.folder.name}.filling")
    fetched = model.folder.with_name(f"{model.folder.name}.fetched") if origin.get("file") else filling
    _remove(filling, fetched)
    try:
        if "repo" in origin and "gguf" not in origin:
            content: dict[str, JSON] = {"job": "fetch", **origin, "output": str(fetched)}
            _job(scratch / f"fetch-{model.folder.name}", content, (model.label, listener))
            if origin.get("file"):
                origin["gguf"] = str(fetched / str(origin["file"]))
        if "gguf" in origin:
            if "repo" in origin:
                _check_gguf(Path(str(origin["gguf"])), str(origin["sha256"]), "reinstall it with `make install`")
            content = {"job": "convert", "gguf": origin["gguf"], "output": str(filling)}
            _job(scratch / f"convert-{model.folder.name}", content, (model.label, listener))
        with _cache_errors("keep the model"):
            _seal(model, filling)
    finally:
        _remove(filling, fetched)


def _seal(model: BaseModel, filling: Path) -> None:
    """Write the manifest and move the folder into place; a file that a power loss tears is found by its digest."""
    sums: dict[str, JSON] = {f.name: sha256_file(f) for f in sorted(filling.iterdir()) if f.is_file()}
    write_atomic(filling / _MANIFEST, canonical({"identity": model.identity, "files": sums}))
    _remove(model.folder)  # it has no manifest, so it is not finished
    filling.rename(model.folder)


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _job(folder: Path, content: Mapping[str, JSON], show: tuple[str, Listener]) -> None:
    launcher = load("launcher", "local")
    kind = str(content["job"])
    write_job(folder, {**content, "threads": 1})
    run_jobs([(Job(folder, kind), f"{kind} {show[0]}", _as_launcher(launcher))], show[1])


def _as_launcher(plugin: object) -> Launcher:
    return plugin  # type: ignore[return-value]  # the plugin table promises the protocol of its kind


def _check_folder(model: BaseModel) -> None:
    found = _folder(model.folder, Sums(None))
    if found.identity != model.identity:
        what = found.problem or f"model folder {model.folder} is not the one that was planned: it is {found.label}"
        raise IntegrityError(f"{what}, expected {model.label}", hint=_PLAN_AGAIN)


def _check_gguf(path: Path, expected: str, hint: str) -> None:
    with machine_errors(f"read model file {path.name}"):
        found = sha256_file(path)
    if found != expected:
        raise IntegrityError(f"model file {path.name} has sha256 {short(found)}, expected {short(expected)}", hint=hint)


def _verify(model: BaseModel) -> None:
    """Check that a cached model is the one asked for, and that its files are exactly those of its manifest."""
    try:
        manifest = json.loads((model.folder / _MANIFEST).read_bytes())
        expected: Mapping[str, str] = manifest["files"]
        there = {path.name for path in model.folder.iterdir()} - {_MANIFEST}
        wrong = [f"{name} is not in {_MANIFEST}" for name in sorted(there - expected.keys())]
        if manifest["identity"] != model.identity:
            wrong.append(f"{_MANIFEST} is that of another model")
        wrong += [name for name, sha in expected.items() if sha256_file(model.folder / name) != sha]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        wrong = [f"{_MANIFEST}: {error}"]
    if wrong:
        raise IntegrityError(
            f"the cached model {model.label} was changed: {', '.join(wrong)}",
            hint=f"remove {model.folder} and run again; it is made anew from the pinned file",
        )
