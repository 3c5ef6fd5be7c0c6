"""Fixtures for tests of the parts of a store."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # tests/, for storelab

from storelab.places import in_memory
from storelab.story import Story, begin

from safetune.state.store import Store


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder of one's own in memory."""
    with in_memory() as folder:
        yield folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store, in a folder whose name has spaces and letters beyond ASCII."""
    return Store.create(tmp_path / "ein Lager für Ärger 倉庫")


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """A store in which two checkpoints were promoted."""
    return begin(tmp_path / "store", tmp_path / "desk")
