"""Look at the machine for `doctor`: packages by their metadata only, so that nothing heavy is imported."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from safetune import __version__
from safetune.core.embedded import EMBEDDED
from safetune.report.doctor import Check
from safetune.report.text import size

_PACKAGES = ("typer", "rich", "pyyaml", "jsonschema", "torch", "transformers", "trl", "peft", "accelerate", "datasets")
_MORE_PACKAGES = ("safetensors", "gguf")
_INSTALL = "make install"
_LITTLE_DISK = 2_000_000_000


def look(store: Path) -> tuple[Check, ...]:
    """Return everything that was looked at, in the order in which it is shown."""
    return (
        Check("safetune", __version__),
        Check("python", sys.version.split()[0], sys.version_info >= (3, 11), "use Python 3.11 or newer"),
        *(_package(name) for name in (*_PACKAGES, *_MORE_PACKAGES)),
        *_models(),
        _processors(),
        _graphics(),
        _memory(),
        _store(store),
        _disk(store),
        _cache(),
        _data_root(),
    )


def _package(name: str) -> Check:
    try:
        return Check(name, version(name))
    except PackageNotFoundError:
        return Check(name, "not installed", False, _INSTALL)


def _models() -> Iterator[Check]:
    """Say where each embedded model would come from; without its package a hub is asked, which is no fault."""
    for model in EMBEDDED.values():
        spec = importlib.util.find_spec(model.package)
        there = bool(spec and spec.origin and (Path(spec.origin).parent / model.file).is_file())
        yield Check(f"model {model.name}", "in an installed package" if there else f"from the hub: {model.repository}")


def _processors() -> Check:
    return Check("processors", f"{len(os.sched_getaffinity(0))} usable of {os.cpu_count() or 'unknown'}")


def _graphics() -> Check:
    found = sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*"))
    return Check("graphics", ", ".join(found) or "none; training runs on the processors")


def _memory() -> Check:
    try:
        rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free, total = (1024 * int(rows[key].split()[0]) for key in ("MemAvailable", "MemTotal"))
        return Check("memory", f"{size(free)} available of {size(total)}")
    except (OSError, ValueError, KeyError):
        return Check("memory", "unknown")


def _store(store: Path) -> Check:
    if (store / "format").is_file():
        return Check("store", f"{store}")
    if store.exists() and not store.is_dir():
        return Check("store", f"{store} is a file, a store is a folder", False, "use another: --store DIR")
    return Check("store", f"{store} does not exist yet; `safetune run` makes it")


def _disk(store: Path) -> Check:
    """Say how much is free on the file system that holds, or will hold, the store."""
    existing = next((p for p in (store.absolute(), *store.absolute().parents) if p.exists()), Path("/"))
    try:
        free = shutil.disk_usage(existing).free
    except OSError as error:
        return Check("disk", f"cannot be looked at: {error.strerror}", False, "use another store folder: --store DIR")
    writable = os.access(existing, os.W_OK)
    found = f"{size(free)} free" if writable else f"{size(free)} free, but {existing} is not writable"
    enough = free >= _LITTLE_DISK and writable
    return Check("disk", found, enough, "free some space, or use another store folder: --store DIR")


def _cache() -> Check:
    from safetune.engine.models import cache_root

    folder = cache_root()
    models = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    return Check("model cache", f"{folder} ({len(models)} converted)")


def _data_root() -> Check:
    from safetune.engine.prompts import DATA_ROOT_VARIABLE

    root = os.environ.get(DATA_ROOT_VARIABLE, "")
    if not root:
        return Check("data root", f"{DATA_ROOT_VARIABLE} is not set; suites of public sets are then not available")
    there = Path(root).is_dir()
    return Check("data root", root if there else f"{root} does not exist", there, f"set {DATA_ROOT_VARIABLE} anew")
