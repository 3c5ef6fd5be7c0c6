"""SARIF 2.1.0: what code hosts demand of it is there, for mistakes, for other errors, and for no error at all."""

from __future__ import annotations

import json
import re
from typing import Any

from safetune import __version__
from safetune.core.diagnostics import Diagnostic
from safetune.core.errors import ExitCode, PlaybookError, StalePlanError, UsageError
from safetune.report.sarif import sarif_text

_URI = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=@/-]|%[0-9A-F]{2})+")  # RFC 3986, a relative path without a colon


def _document(text: str) -> Any:
    """Read a document and check every member that the standard and code hosts require of what we write."""
    document = json.loads(text)
    assert set(document) == {"$schema", "version", "runs"}
    assert document["version"] == "2.1.0"
    assert document["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = document["runs"]
    assert run["columnKind"] == "unicodeCodePoints"
    driver = run["tool"]["driver"]
    assert (driver["name"], driver["version"]) == ("safetune", __version__)
    rules = [rule["id"] for rule in driver["rules"]]
    assert len(set(rules)) == len(rules)
    assert all(rule["shortDescription"]["text"] for rule in driver["rules"])
    (invocation,) = run["invocations"]
    assert isinstance(invocation["executionSuccessful"], bool)
    assert isinstance(invocation["exitCode"], int)
    for told in invocation.get("toolExecutionNotifications", ()):
        assert told["message"]["text"]
    for result in run["results"]:
        _check_result(result, rules)
    return run


def _check_result(result: Any, rules: list[str]) -> None:
    assert rules[result["ruleIndex"]] == result["ruleId"]
    assert result["level"] == "error"
    assert result["message"]["text"]
    (location,) = result["locations"]
    place = location["physicalLocation"]
    assert place["region"]["startLine"] >= 1
    assert place["region"]["startColumn"] >= 1
    assert re.fullmatch(rf"(?:file:///?)?{_URI.pattern}", place["artifactLocation"]["uri"])
    if "contextRegion" in place:
        assert place["contextRegion"]["startLine"] == place["region"]["startLine"]
        assert place["contextRegion"]["snippet"]["text"]


def _mistake(code: str = "SP201", file: str = "p.yaml", line: int = 3) -> Diagnostic:
    return Diagnostic(file, line, 5, code, f"wrong at {line}", "purpos: x", "remove it")


def test_every_mistake_has_its_rule_place_message_and_hint() -> None:
    error = PlaybookError((_mistake(), _mistake("SP305", line=9), _mistake(line=12)))
    run = _document(sarif_text(error))
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["SP201", "SP305"]
    assert [r["ruleIndex"] for r in run["results"]] == [0, 1, 0]
    first = run["results"][0]
    assert first["message"]["text"] == "wrong at 3 (hint: remove it)"
    place = first["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "p.yaml"
    assert place["region"] == {"startLine": 3, "startColumn": 5}
    assert place["contextRegion"]["snippet"]["text"] == "purpos: x"
    assert run["invocations"][0] == {"executionSuccessful": False, "exitCode": 2}


def test_without_a_mistake_the_document_is_empty_and_valid() -> None:
    run = _document(sarif_text(None, exit_code=ExitCode.FAIL))
    assert run["results"] == []
    assert run["invocations"] == [{"executionSuccessful": True, "exitCode": 3}]


def test_another_error_is_a_notification_and_no_clean_bill() -> None:
    for error, code in ((UsageError("no such file", hint="look"), 2), (StalePlanError("changed"), 5)):
        run = _document(sarif_text(error))
        assert run["results"] == []
        (invocation,) = run["invocations"]
        assert (invocation["executionSuccessful"], invocation["exitCode"]) == (False, code)
        assert error.message in invocation["toolExecutionNotifications"][0]["message"]["text"]


def test_files_below_the_working_folder_are_named_relative_to_it() -> None:
    files = ("/srv/a/p.yaml", "/srv/ab/p.yaml", "sub dir/p#1.yaml", "../p.yaml", "a:b.yaml")
    run = _document(sarif_text(PlaybookError(tuple(_mistake(file=f) for f in files)), "/srv/a"))
    found = [r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for r in run["results"]]
    assert found == ["p.yaml", "file:///srv/ab/p.yaml", "sub%20dir/p%231.yaml", "../p.yaml", "a%3Ab.yaml"]


def test_a_message_holds_no_link() -> None:
    mistake = Diagnostic("p.yaml", 1, 1, "SP201", "see [this](http://example.test)")
    (result,) = _document(sarif_text(PlaybookError((mistake,))))["results"]
    assert "](" not in result["message"]["text"]


def test_a_place_before_the_first_line_is_the_first_line() -> None:
    (result,) = _document(sarif_text(PlaybookError((Diagnostic("p.yaml", 0, 0, "SP101", "unreadable"),))))["results"]
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 1, "startColumn": 1}


def test_hostile_text_leaves_a_valid_document_in_printable_ascii(hostile: tuple[str, ...]) -> None:
    for text in hostile:
        mistake = Diagnostic(text, 3, 2, text, text, text, text)
        for error in (PlaybookError((mistake, mistake)), UsageError(text, hint=text)):
            written = sarif_text(error, "/work")
            assert written.isascii()
            assert all(line.isprintable() for line in written.split("\n"))
            for result in _document(written)["results"]:
                assert result["message"]["text"].isprintable()
