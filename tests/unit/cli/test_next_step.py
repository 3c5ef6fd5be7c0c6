"""Next steps keep the store that was given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from safetune.cli.next_step import DEFAULT_STORE, remember, with_store


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    remember(DEFAULT_STORE)


def test_without_a_store_nothing_changes() -> None:
    remember(DEFAULT_STORE)
    assert with_store(["next: safetune run plan.json"]) == ["next: safetune run plan.json"]


def test_a_given_store_follows_the_command_of_a_next_step_or_a_hint() -> None:
    remember(Path("my store"))
    assert with_store(["  next: safetune run plan.json", "  hint: look: safetune log", "safetune log"]) == [
        "  next: safetune run --store 'my store' plan.json",
        "  hint: look: safetune log --store 'my store'",
        "safetune log",
    ]


def test_commands_without_a_store_and_steps_that_have_one_stay() -> None:
    remember(Path("s"))
    lines = ["next: safetune schema", "hint: safetune status --store other"]
    assert with_store(lines) == lines


def test_a_hostile_name_reaches_no_terminal() -> None:
    remember(Path("a\x1b[31mb"))
    assert "\x1b" not in with_store(["next: safetune status"])[0]
