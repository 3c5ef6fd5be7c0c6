"""Fixtures for tests of a whole store: a place in memory, and a store with a short history to copy from."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # tests/, for storelab

from storelab.story import begin


@pytest.fixture(scope="session")
def memory() -> Iterator[Path]:
    """A folder in memory where the machine has one: these trials ask what is written, not how fast a disk is."""
    shared = Path("/dev/shm")
    where = shared if shared.is_dir() and os.access(shared, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="safetune-tests-", dir=where))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def template(memory: Path) -> Path:
    """A folder with `store`, in which two checkpoints were promoted, and `desk`; copy it, do not change it."""
    folder = memory / "template"
    folder.mkdir()
    begin(folder / "store", folder / "desk")
    return folder


@pytest.fixture
def place(memory: Path) -> Iterator[Path]:
    """A folder of one's own in memory."""
    folder = Path(tempfile.mkdtemp(prefix="trial-", dir=memory))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
