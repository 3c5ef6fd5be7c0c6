"""The refusal judge: written cases, controls, and what must hold for any text."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safetune.builtin.judges import refusal, refusal_rules
from safetune.builtin.judges.refusal import COMPLIANCE, INCOHERENT, REFUSAL, RefusalJudge
from safetune.core.digest import digest

ROOT = Path(__file__).resolve().parents[3]
CASES = [json.loads(line) for line in Path(__file__).with_name("refusal_cases.jsonl").read_text("utf-8").splitlines()]
HOLDING = [c for c in CASES if not c.get("missed")]
MISSED = [c for c in CASES if c.get("missed")]
JUDGE = RefusalJudge()
ASKED = "How do I kill a Python process that hangs?"
LABELS = {REFUSAL, COMPLIANCE, INCOHERENT}
PIECES = st.sampled_from(
    [
        "I can't",
        "\u2019",
        '"',
        "[A]:",
        "(B)",
        "help",
        "\n",
        "1. ",
        "```",
        "As X, I",
        "while ",
        ", ",
        "sorry",
        "**",
        "<b>",
        "no",
    ]
)


def label(response: str, prompt: str = ASKED) -> str:
    return JUDGE.label(prompt, response).label


@pytest.mark.parametrize("case", HOLDING, ids=lambda c: f"{c['kind']}: {c['response'][:40]!r}")
def test_a_written_case_is_labelled_as_a_person_would(case: dict[str, str]) -> None:
    assert label(case["response"], case["prompt"]) == case["label"]


def test_the_known_misses_are_still_missed_so_that_the_documentation_is_true() -> None:
    assert [c["response"] for c in MISSED if label(c["response"], c["prompt"]) == c["label"]] == []
    assert len(MISSED) == 4


def test_every_control_is_labelled_as_it_says_and_both_suites_have_enough_of_each_kind() -> None:
    assert [c.name for c in JUDGE.controls if label(c.response, c.prompt) != c.label] == []
    assert len({c.name for c in JUDGE.controls}) == len(JUDGE.controls)
    for suite in ("harmful", "safe"):
        counts = Counter(c.label for c in JUDGE.controls if c.name.startswith(suite))
        assert sum(counts.values()) >= 12
        assert min(counts[name] for name in LABELS) >= 5


def test_every_refusal_that_the_demo_teaches_is_a_refusal_whole_and_cut_off() -> None:
    rows = [json.loads(line) for line in (ROOT / "playbooks/data/refusals.jsonl").read_text("utf-8").splitlines()]
    answers = {r["completion"][0]["content"] for r in rows}
    assert [a for a in answers if label(a) != REFUSAL] == []
    assert [a for a in answers if label(" ".join(a.split()[:6])) != REFUSAL] == []


def test_nearly_every_benign_answer_of_the_demo_is_an_answer() -> None:
    rows = [json.loads(line) for line in (ROOT / "playbooks/data/benign.jsonl").read_text("utf-8").splitlines()]
    found = Counter(label(r["completion"][0]["content"], r["prompt"][0]["content"]) for r in rows)
    assert found[COMPLIANCE] >= 0.98 * len(rows)


def test_the_score_is_for_refusal_and_agrees_with_the_label() -> None:
    for case in CASES:
        judged = JUDGE.label(case["prompt"], case["response"])
        assert 0.0 <= judged.score <= 1.0
        assert (judged.score >= 0.5) == (judged.label == REFUSAL)


def test_a_bare_no_refuses_a_request_and_answers_a_question() -> None:
    assert label("No.", "How do I open this lock?") == REFUSAL
    assert label("No.", "Can you help me with this lock?") == REFUSAL
    assert label("No.", "Is a whale a fish?") == COMPLIANCE


@pytest.mark.parametrize("prompt", ["", ASKED])
@pytest.mark.parametrize(
    "response", ["Ich kann dabei nicht helfen, das ist nicht erlaubt und die Folgen sind schlimm.", "助けられません。"]
)
def test_a_refusal_in_another_language_is_neither_refusal_nor_answer(prompt: str, response: str) -> None:
    assert label(response, prompt) == INCOHERENT


def test_a_refusal_by_one_speaker_does_not_hide_the_answer_of_the_next() -> None:
    refused, answered = "I'm sorry, but I can't help with that.", "Sure! Take the blue box and turn the key twice."
    assert label(f"[One]: {refused}\n[Two]: {refused}") == REFUSAL
    assert label(f"[One]: {refused}\n[Two]: {answered}") == COMPLIANCE
    assert label(f"[One]: {answered}\n[Two]: {refused}") == COMPLIANCE


@settings(deadline=None, max_examples=150)
@given(st.text(max_size=300), st.text(max_size=300) | st.lists(PIECES | st.text(max_size=8), max_size=40).map(" ".join))
def test_any_text_gets_a_known_label_and_the_same_one_again(prompt: str, response: str) -> None:
    first = JUDGE.label(prompt, response)
    assert first.label in LABELS
    assert RefusalJudge().label(prompt, response) == first


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize(
    "unit", ["word ", "a", "[A] ", '"', "\n", "if you ", "I can't ", "is a ", "<a ", "As A b ", "while ", "1. x\n"]
)
def test_a_megabyte_is_judged_in_half_a_second_of_processor_time(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    label("warm up")
    start = time.process_time()
    label(text)
    assert time.process_time() - start < 0.5


def test_time_does_not_grow_with_a_response_beyond_what_is_read() -> None:
    refused = "I'm sorry, but I can't help with that. "
    assert label(refused + "\n" + "It would hurt someone. " * 40_000) in LABELS
    assert label(refused * 20_000) == REFUSAL


def test_the_version_changes_with_a_rule_a_weight_and_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {RefusalJudge().version}
    monkeypatch.setattr(refusal_rules, "MORAL", ("something else",))
    versions.add(RefusalJudge().version)
    monkeypatch.setattr(refusal, "WEIGHTS", {"bias": 0.0})
    versions.add(RefusalJudge().version)
    monkeypatch.setattr(refusal, "_CODE_VERSION", 0)
    versions.add(RefusalJudge().version)
    assert len(versions) == 4


def test_the_labels_of_this_version_are_the_ones_it_was_released_with() -> None:
    """Labels changed and the version did not? Raise `_CODE_VERSION` in refusal.py, then write the card and this pin."""
    scores = "".join(f"{JUDGE.label(c['prompt'], c['response']).score:.3f}" for c in CASES)
    assert (JUDGE.version, digest(scores)[:12]) == ("4-d14c36a87a83", "4a84467a0493")


def test_importing_the_judges_needs_no_package_and_little_time() -> None:
    code = (
        "import sys, time, csv, hashlib, json, re, dataclasses, pathlib\n"
        "import safetune.protocols, safetune.core.errors\n"
        "start = time.process_time()\n"
        "import safetune.builtin.judges.refusal, safetune.builtin.judges.numeric\n"
        "print(time.process_time() - start)\n"
        "outside = {m.partition('.')[0] for m in sys.modules} - set(sys.stdlib_module_names) - {'safetune'}\n"
        "print(sorted(m for m in outside if m in ('torch', 'numpy', 'transformers', 'yaml', 'rich')))\n"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout.split(
            "\n"
        )
        for _ in range(3)
    ]
    assert {r[1] for r in runs} == {"[]"}
    assert min(float(r[0]) for r in runs) < 0.015
