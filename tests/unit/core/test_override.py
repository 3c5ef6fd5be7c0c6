"""Who somebody is: names as the system gives them, compared so that one person does not look like two."""

from __future__ import annotations

import pytest

from safetune.core.override import Approval, approved_by_another, person


@pytest.mark.parametrize("name", ["root", "root ", " ROOT", "Ｒoot", "\u00a0root"])
def test_one_person_has_one_name(name: str) -> None:
    assert person(name) == "root"


def test_names_are_folded_over_all_languages() -> None:
    assert person("STRASSE") == person("straße")
    assert person("É") == person("e\u0301")
    assert person("ann") != person("bob")


@pytest.mark.parametrize("name", ["", "   ", "a\x00b", "root\n", "\x1broot", "ro\u200bot", "\u202eroot", "\ud800"])
def test_what_cannot_be_read_is_no_name(name: str) -> None:
    assert person(name) == ""


@pytest.mark.parametrize(
    ("approvals", "by", "agreed"),
    [
        ((), "ann", False),
        (("ann",), "ann", False),
        (("ANN ",), "ann", False),
        (("bob",), "ann", True),
        (("ann", "bob"), "ann", True),
        (("bob",), "", False),
        (("",), "ann", False),
        (("",), None, False),
        (("ann",), None, True),
    ],
)
def test_somebody_else_agreed(approvals: tuple[str, ...], by: str | None, agreed: bool) -> None:
    found = [Approval(n, name, "safety") for n, name in enumerate(approvals)]
    assert approved_by_another(found, by) is agreed
