"""Damaged playbooks: never an exception but PlaybookError, always code, line and column, never slow."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from safetune.core.digest import JSON
from safetune.core.errors import PlaybookError
from safetune.playbook.load import load_marked

_SECONDS_EACH = 1.0


@dataclass(frozen=True)
class Bench:
    """What a fuzzing run works on."""

    example: str
    document: JSON
    mutate: ModuleType
    folder: Path


@pytest.fixture
def bench(example: str, document: JSON, mutate: ModuleType, folder: Path) -> Bench:
    """The example with its files."""
    return Bench(example, document, mutate, folder)


def fuzz(bench: Bench, seeds: range) -> Mapping[str, int]:
    """Load damaged playbooks; return how often each code was found, `valid` for those without a mistake."""
    path = bench.folder / "playbook.yaml"
    seen: Counter[str] = Counter()
    for seed in seeds:
        path.write_bytes(bench.mutate.damaged(bench.example, bench.document, seed))
        start = time.process_time()
        try:
            load_marked(path)
            seen["valid"] += 1
        except PlaybookError as error:
            for one in error.diagnostics:
                assert one.code.startswith("SP"), seed
                assert one.line >= 1, seed
                assert one.column >= 1, seed
                assert 1 <= one.caret <= len(one.excerpt) + 1, (seed, one)
                assert len(one.message) < 1000, seed
                seen[one.code] += 1
        assert time.process_time() - start <= _SECONDS_EACH, seed
    return seen


def test_five_thousand_damaged_playbooks_give_diagnostics_and_nothing_else(bench: Bench) -> None:
    gc.disable()  # a collection of what other tests left would count as the loader's time
    try:
        seen = fuzz(bench, range(5_000))
    finally:
        gc.enable()
    assert seen["valid"] < 2_500  # else the damage is too weak to mean anything
    assert len(seen) > 30


@pytest.mark.slow
def test_fifty_thousand_damaged_playbooks_give_diagnostics_and_nothing_else(bench: Bench) -> None:
    seen = fuzz(bench, range(100_000, 150_000))
    assert len(seen) > 35
