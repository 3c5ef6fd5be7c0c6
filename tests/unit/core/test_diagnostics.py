"""Mistakes in a text: where they are, and what was probably meant."""

from __future__ import annotations

import pytest

from safetune.core.diagnostics import Diagnostic, did_you_mean


def test_a_place_is_file_line_and_column() -> None:
    assert Diagnostic("playbook.yaml", 3, 7, "unknown-key", "no such key").where == "playbook.yaml:3:7"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("guardrial", 'did you mean "guardrail"?'),
        ("zzz", ""),
        ("guardrail" * 9, ""),  # longer than any name that is worth comparing
    ],
)
def test_a_near_name_is_offered(name: str, hint: str) -> None:
    assert did_you_mean(name, iter(["suite", "guardrail"])) == hint


def test_nothing_is_near_when_nothing_is_known() -> None:
    assert did_you_mean("guardrail", ()) == ""
