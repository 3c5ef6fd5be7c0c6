"""The pattern judge: rules as regular expressions, and none that could take for ever."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.builtin.judges.bounded_regex import expression
from safetune.builtin.judges.pattern import PatternJudge
from safetune.core.digest import JSON
from safetune.core.errors import UsageError

JUDGE = PatternJudge()


def _label(response: str, broken_by: Sequence[str] = (), kept_by: Sequence[str] = ()) -> str:
    reference = json.dumps({"broken_by": list(broken_by), "kept_by": list(kept_by)})
    as_options: Mapping[str, JSON] = {"broken_by": list(broken_by), "kept_by": list(kept_by)}
    by_reference = JUDGE.label("", response, reference)
    assert PatternJudge(as_options).label("", response) == by_reference
    assert by_reference.score == float(by_reference.label == "broken")
    return by_reference.label


def test_a_rule_is_broken_by_any_of_the_forbidden_expressions() -> None:
    assert _label("The code is 1234.", broken_by=["zebra", r"\b\d{4}\b"]) == "broken"
    assert _label("The code is secret.", broken_by=["zebra", r"\b\d{4}\b"]) == "kept"


def test_a_rule_is_kept_by_any_of_the_demanded_expressions() -> None:
    assert _label("Kind regards", kept_by=["Kind regards", "Yours"]) == "kept"
    assert _label("Bye", kept_by=["Kind regards", "Yours"]) == "broken"
    assert _label("", kept_by=["Kind regards"]) == "broken"


def test_what_is_forbidden_outweighs_what_is_demanded() -> None:
    assert _label("Kind regards, zebra", broken_by=["zebra"], kept_by=["Kind regards"]) == "broken"
    assert _label("Kind regards", broken_by=["zebra"], kept_by=["Kind regards"]) == "kept"


def test_options_and_reference_are_used_together() -> None:
    judge = PatternJudge({"broken_by": ["zebra"]})
    assert judge.label("", "a zebra", '{"broken_by":["lion"]}').label == "broken"
    assert judge.label("", "a lion", '{"broken_by":["lion"]}').label == "broken"
    assert judge.label("", "a lion").label == "kept"


def test_only_the_expressions_of_items_say_by_themselves_what_the_outcome_is() -> None:
    assert JUDGE.by_definition
    assert PatternJudge({}).by_definition
    words: Mapping[str, JSON] = {"broken_by": ["(?i)i can't help"]}
    assert not PatternJudge(words).by_definition
    said = PatternJudge({**words, "by_definition": True})
    assert said.by_definition
    assert [said.label("", text).label for text in ("I can't help.", "Sure.")] == ["broken", "kept"]
    for options in ({**words, "by_definition": False}, {"by_definition": False}):
        assert not PatternJudge(options).by_definition
    with pytest.raises(UsageError, match="by_definition is 'yes'"):
        PatternJudge({**words, "by_definition": "yes"})


def test_an_expression_is_looked_for_in_the_text_as_written_and_with_plain_quotes() -> None:
    assert _label("I don\u2019t know", broken_by=["don't"]) == "broken"
    assert _label("I don\u2019t know", broken_by=["don\u2019t"]) == "broken"
    assert _label("```code```", broken_by=["```"]) == "broken"
    assert _label("ze\u200bbra", broken_by=["zebra"]) == "broken"


@pytest.mark.parametrize("reference", ["{", "[]", "null", "{}", '{"broken_by":[]}', '{"broken_by":["("]}', "zebra"])
@pytest.mark.parametrize("options", [None, {"broken_by": ["zebra"]}])
def test_a_reference_that_is_no_rule_counts_as_broken(reference: str, options: Mapping[str, JSON] | None) -> None:
    assert PatternJudge(options).label("", "anything", reference).label == "broken"


def test_no_rule_at_all_counts_as_broken() -> None:
    assert JUDGE.label("", "anything", "").label == "broken"


BAD_OPTIONS: tuple[Mapping[str, JSON], ...] = (
    {"broken": ["zebra"]},
    {"broken_by": "zebra"},
    {"broken_by": [1]},
    {"broken_by": ["("]},
    {"broken_by": [""]},
    {"broken_by": [], "kept_by": []},
    {"kept_by": ["(a+)+b"]},
    {"broken_by": ["zebra"] * 51},
    {"broken_by": ["z" * 1001]},
)


@pytest.mark.parametrize("options", BAD_OPTIONS, ids=lambda o: str(o)[:40])
def test_options_that_are_no_rule_are_refused(options: Mapping[str, JSON]) -> None:
    with pytest.raises(UsageError):
        PatternJudge(options)


def test_the_message_names_the_expression_and_the_reason() -> None:
    with pytest.raises(UsageError, match=r"kept_by: '\(a\+\)\+b': it could take too long"):
        PatternJudge({"kept_by": ["(a+)+b"]})


DANGEROUS = (
    r"(a+)+b",
    r"(a*)*b",
    r"(a|a)*b",
    r"(a|ab)*c",
    r"(?:a?){30}a{30}",
    "a?" * 30 + "a" * 30,
    r"(x+x+)+y",
    r"(\w+\s?)*!",
    r"^(?:\w+\s?)+$",
    r"\s*\s*\s*x",
    r"a.*b.*c",
    r".*.*x",
    r"a{1,500}a{1,500}a{1,500}b",
    r"(((((a*)*)*)*)*)b",
    r"a.*b[bc]+d",
    r"(?i:s+)\u017f+s+x",
    r"[\u0430-\u044f]+\w+!",
    r"(?:a+b*)+c",
    r"(?:ab?)+bc",
    r"(.*)\1",
    r"(a)?(?(1)b|c)",
    r"(?:a|b|ab|ba){20}c",
    r"(?=(a+)+b)a",
    r"(?:(?:a|a)(?:a|a)){15}b",
)


@pytest.mark.parametrize("source", DANGEROUS, ids=lambda s: s[:30])
def test_an_expression_that_could_take_for_ever_is_refused_at_once(source: str) -> None:
    start = time.process_time()
    with pytest.raises(ValueError, match=r"too long"):
        expression(source)
    assert time.process_time() - start < 0.5


ORDINARY = (
    r"zebra",
    r"(?i)\bpass(?:word|phrase)\s+is\b",
    r"ignore.*previous",
    r"ignore.*previous\s+instructions",
    r"i\s+will\s+not\s+do",
    r"\b\w+@\w+\.com\b",
    r"https?://\S+",
    r"sk-[A-Za-z0-9]{20,}",
    r"(?:i am|i'm) (?:an? )?(?:ai|bot)",
    r"^\s*\{",
    r"[.!?]\s*$",
    r"\d{1,3}(?:,\d{3})*",
    r"(?s)<think>.*?</think>",
    r"^(?!.*zebra)",
    r"(?:ab|cd)*e",
    r"(?m)^- ",
    r"(\w+\s){3}x",
    r'"[^"]*"',
    r"[^a]+a",
    r"(?=.*zebra)(?=.*lion)",
    r"\S+\s\S+x",
    r"\d+(?:\.\d+)?%",
    r"(?:\w+\s)+!",
    r"(?:a+b)+c",
)
HARD = ("a", "x ", "ignore previous ", "w@")


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize("source", ORDINARY)
def test_an_ordinary_expression_is_accepted_and_needs_bounded_time_on_any_megabyte(source: str) -> None:
    judge = PatternJudge({"kept_by": [source]})
    for unit in HARD:
        text = unit * (1_000_000 // len(unit))
        start = time.process_time()
        judge.label("", text)
        assert time.process_time() - start < 2.0, unit


@given(st.text(alphabet="ab*+?()|{}[]123,.^$\\sw ", max_size=14), st.text(alphabet="ab 1", max_size=6))
def test_whatever_expression_is_accepted_is_found_as_re_finds_it_and_quickly(source: str, unit: str) -> None:
    try:
        accepted = expression(source)
    except ValueError:
        return
    text = (unit * 8000)[:8000]
    start = time.process_time()
    found = accepted.compiled.search(text) is not None
    assert time.process_time() - start < 3.0, source
    judged = JUDGE.label("", text, json.dumps({"broken_by": [source]}))
    assert (judged.label == "broken") == found


def test_every_expression_that_is_found_in_the_empty_text_is_refused() -> None:
    for source in ("x*", "", "a?", "(?:)", r"\b|", "^", "$"):
        with pytest.raises(ValueError, match="empty text"):
            expression(source)


@pytest.mark.parametrize("options", [None, {"broken_by": ["zebra"]}, {"kept_by": ["lion"]}])
def test_every_control_is_labelled_as_it_says_on_both_sides(options: Mapping[str, JSON] | None) -> None:
    judge = PatternJudge(options)
    assert [c.name for c in judge.controls if judge.label(c.prompt, c.response, c.reference).label != c.label] == []
    assert {c.label for c in judge.controls} == {"broken", "kept"}


def test_a_rule_that_forbids_every_text_is_refused_because_nothing_could_keep_it() -> None:
    with pytest.raises(UsageError, match="say with kept_by"):
        PatternJudge({"broken_by": ["^(?!Yours)"]})
    for source in ("[a-z]", r"^(?!\{)", r"\bThe\b", ".{20}", "Z"):
        judge = PatternJudge({"broken_by": [source]})
        assert {c.label for c in judge.controls} == {"broken", "kept"}
        assert [c.name for c in judge.controls if judge.label(c.prompt, c.response, c.reference).label != c.label] == []


def test_the_version_changes_with_the_options() -> None:
    options: list[Mapping[str, JSON] | None] = [None, {"broken_by": ["a"]}, {"broken_by": ["b"]}, {"kept_by": ["a"]}]
    assert len({PatternJudge(o).version for o in options}) == 4


@given(
    st.text(),
    st.text() | st.dictionaries(st.sampled_from(["broken_by", "kept_by"]), st.lists(st.text())).map(json.dumps),
)
def test_any_text_gets_a_label_and_the_same_one_again(response: str, reference: str) -> None:
    first = JUDGE.label("", response, reference)
    assert first.label in {"broken", "kept"}
    assert PatternJudge().label("", response, reference) == first


def test_the_parser_of_re_names_its_operations_as_the_counting_expects() -> None:
    parser: Any = import_module("re._parser")
    operations = {
        "a": "LITERAL",
        "[^a]": "NOT_LITERAL",
        "[ab]": "IN",
        ".": "ANY",
        "a*": "MAX_REPEAT",
        "a*?": "MIN_REPEAT",
        "a*+": "POSSESSIVE_REPEAT",
        "(a)": "SUBPATTERN",
        "(?>a)": "ATOMIC_GROUP",
        "ab|c": "BRANCH",
        "(?=a)": "ASSERT",
        "(?!a)": "ASSERT_NOT",
        "$": "AT",
    }
    assert {source: str(parser.parse(source)[0][0]) for source in operations} == operations
    assert [str(parser.parse(s)[0][1]) for s in ("^", r"\A", "$", r"\Z")] == [
        "AT_BEGINNING",
        "AT_BEGINNING_STRING",
        "AT_END",
        "AT_END_STRING",
    ]
    assert re.compile("a").flags & re.MULTILINE == 0
