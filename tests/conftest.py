"""Fixtures for all tests."""

from __future__ import annotations

import gc
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import settings

from safetune.core.embedded import EMBEDDED

_ROOT = Path(__file__).resolve().parents[1]

# OpenMP threads that wait by spinning make everything else on a small machine several times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A deadline measures how busy the machine is, not the code.
settings.register_profile("safetune", deadline=None, max_examples=50)
settings.load_profile("safetune")


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The root of the project."""
    return _ROOT


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of public data files (`SAFETUNE_DATA_ROOT`, else `../shared/data`); skips where there is none."""
    root = Path(os.environ.get("SAFETUNE_DATA_ROOT") or _ROOT.parent / "shared" / "data")
    if not root.is_dir():
        pytest.skip(f"no data root: {root} does not exist; set SAFETUNE_DATA_ROOT")
    return root


@pytest.fixture(scope="session")
def embedded_gguf() -> Path:
    """The GGUF file of the embedded model; skips where its package is not installed."""
    model = EMBEDDED["smollm2-135m-instruct"]
    spec = importlib.util.find_spec(model.package)
    path = Path(spec.origin).parent / model.file if spec and spec.origin else None
    if path is None or not path.is_file():
        pytest.skip(f"the package {model.package} is not installed; `make install` adds it")
    return path


@pytest.fixture(scope="session")
def tiny_model(embedded_gguf: Path) -> Path:
    """A folder with a tiny seeded Llama and the tokenizer of the embedded model; read it, do not write to it.

    Reading the tokenizer out of the GGUF file takes seconds, so the folder is kept in the user's cache, under a name
    that changes with the recipe and with the library that writes it.
    """
    recipe = Path(__file__).with_name("tiny_model.py")
    key = hashlib.sha256(recipe.read_bytes() + version("transformers").encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "safetune" / "tests"
    folder = cache / f"tiny-{key}"
    if not folder.is_dir():
        filling = cache / f"tiny-{key}.{os.getpid()}.filling"
        shutil.rmtree(filling, ignore_errors=True)
        filling.mkdir(parents=True)
        subprocess.run([sys.executable, str(recipe), str(filling), str(embedded_gguf)], check=True, timeout=300)
        with suppress(OSError):  # another test session was faster
            filling.replace(folder)
    return folder


@pytest.fixture
def steady() -> Iterator[None]:
    """No garbage collection while a test measures time: with torch loaded, one full collection takes half a second."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
