"""Fixtures for tests of a whole store: a place in memory, and a store with a short history to copy from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from storelab.places import in_memory
from storelab.story import begin


@pytest.fixture(scope="session")
def memory() -> Iterator[Path]:
    """A folder in memory for the whole session."""
    with in_memory() as folder:
        yield folder


@pytest.fixture(scope="session")
def template(memory: Path) -> Path:
    """A folder with `store`, in which two checkpoints were promoted, and `desk`; copy it, do not change it."""
    folder = memory / "template"
    folder.mkdir()
    begin(folder / "store", folder / "desk")
    return folder


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder of one's own in memory."""
    with in_memory() as folder:
        yield folder
