"""Errors: each carries a message, a hint and the exit code of the one table."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from safetune.core import errors
from safetune.core.diagnostics import Diagnostic
from safetune.core.errors import ExitCode, PlaybookError, SafetuneError, StalePlanError, reason_of

CODES = {
    "SafetuneError": 2,
    "UsageError": 2,
    "PlaybookError": 2,
    "NotPermitted": 4,
    "IntegrityError": 5,
    "StalePlanError": 5,
    "RunError": 6,
    "MachineError": 6,
    "InterruptedRun": 130,
}


def _classes() -> dict[str, type[SafetuneError]]:
    known = vars(errors).values()
    return {c.__name__: c for c in known if isinstance(c, type) and issubclass(c, SafetuneError)}


def test_every_error_has_the_documented_exit_code() -> None:
    assert {name: int(found.exit_code) for name, found in _classes().items()} == CODES


def test_the_table_at_the_top_of_the_file_is_true() -> None:
    told = {name: int(code) for name, code in re.findall(r"^ *(\w+) +(\d+)  ", errors.__doc__ or "", re.MULTILINE)}
    assert told.items() <= CODES.items()
    assert set(CODES) - set(told) == {"SafetuneError"}


@pytest.mark.parametrize("name", sorted(set(CODES) - {"PlaybookError"}))
def test_an_error_has_a_message_and_a_hint(name: str) -> None:
    error = _classes()[name]("what happened", hint="what to do")
    assert (str(error), error.message, error.hint) == ("what happened", "what happened", "what to do")
    assert _classes()[name]("x").hint == ""


def test_a_stale_plan_says_what_changed() -> None:
    assert StalePlanError("stale", changes=("model: a -> b",)).changes == ("model: a -> b",)
    assert StalePlanError("stale").changes == ()


def test_a_playbook_error_counts_mistakes_and_names_the_first() -> None:
    first = Diagnostic("p.yaml", 3, 5, "unknown-key", "no such key", hint="remove it")
    assert PlaybookError((first,)).message == "1 mistake at p.yaml:3:5: no such key"
    both = PlaybookError((first, first))
    assert both.message == "2 mistakes, the first at p.yaml:3:5: no such key"
    assert both.hint == "remove it"
    assert both.diagnostics == (first, first)


def test_every_exit_code_has_a_meaning_of_its_own() -> None:
    assert set(errors.EXIT_CODE_MEANINGS) == set(ExitCode)
    assert len(set(errors.EXIT_CODE_MEANINGS.values())) == len(ExitCode)


def _raised(by: Callable[[], object]) -> Exception:
    try:
        by()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_reasons_are_told_without_codes_and_positions_of_a_library(tmp_path: Path) -> None:
    assert reason_of(_raised((tmp_path / "missing").read_bytes)) == "no such file or directory"
    assert reason_of(_raised(lambda: json.loads('{"a": 1,\n]'))) == "line 2 is not JSON"
    assert reason_of(OSError("broken")) == "broken"
    assert reason_of(ValueError("it has no digest")) == "it has no digest"
    assert reason_of(KeyError()) == "KeyError"
