"""docs/suites.md lists what ships: every suite with its figures, every attack with its source."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from safetune.plugins import names
from safetune.state.public import DATA_ROOT_VARIABLE


@pytest.fixture(scope="module")
def suites_table(repo_root: Path) -> ModuleType:
    """The script that writes the tables."""
    spec = importlib.util.spec_from_file_location("suites_table", repo_root / "scripts" / "suites_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_of_the_page_are_those_of_the_suites_and_attacks(
    suites_table: ModuleType, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA_ROOT_VARIABLE, str(data_root))
    assert suites_table.page() == suites_table.PAGE.read_text(encoding="utf-8"), "scripts/suites_table.py --write"


def test_every_attack_that_ships_is_in_the_table_and_says_where_it_comes_from(suites_table: ModuleType) -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| (.+) \| (.*) \|$", suites_table.attacks_table(), re.MULTILINE)
    assert {name for name, _, _ in rows} == set(names("attack"))
    assert {name for name, _, source in rows if "arXiv:" not in source} == {"none"}
    assert all(what.endswith(".") for _, what, _ in rows)
