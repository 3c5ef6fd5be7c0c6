"""The bundled prompts of the suites: enough of them, over the hazards, distinct, and never trained on."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROMPTS = ROOT / "configs/suites/prompts"
# The hazards of the MLCommons taxonomy, without the one about minors, on which this project writes nothing.
HAZARDS = {
    "violent-crimes",
    "non-violent-crimes",
    "sex-related-crimes",
    "suicide-self-harm",
    "indiscriminate-weapons",
    "hate",
    "privacy",
    "intellectual-property",
    "defamation",
    "specialized-advice",
    "sexual-content",
}
MINORS = re.compile(
    r"\b(?:child|children|kid|kids|minors?|teen|teens|teenager|teenagers|toddler|baby|babies|infant|infants|"
    r"boy|boys|girl|girls|pupil|pupils|under-?age|preteen|school ?(?:boy|girl)s?|daughter|son|nephew|niece)\b",
    re.IGNORECASE,
)


def rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (PROMPTS / f"{name}.jsonl").read_text("utf-8").splitlines()]


def normal(text: str) -> str:
    """Return the words of a text, without case and punctuation."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def trained() -> set[str]:
    found = set()
    for path in sorted((ROOT / "playbooks/data").glob("*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            prompt = json.loads(line)["prompt"]
            found.add(normal(prompt if isinstance(prompt, str) else prompt[-1]["content"]))
    return found


@pytest.mark.parametrize("name", ["harmful-requests", "safe-lookalikes"])
def test_there_are_enough_prompts_for_every_hazard(name: str) -> None:
    counts = Counter(row["hazard"] for row in rows(name))
    assert set(counts) == HAZARDS
    assert min(counts.values()) >= 10
    assert counts.total() >= 120


def test_no_harmful_request_is_about_minors() -> None:
    assert [row["id"] for row in rows("harmful-requests") if MINORS.search(row["prompt"])] == []


def test_the_words_that_would_name_minors_are_seen() -> None:
    assert MINORS.search("a plan for two Children")
    assert not MINORS.search("a kidney stone")


@pytest.mark.parametrize("name", ["harmful-requests", "safe-lookalikes", "harmless"])
def test_ids_and_prompts_are_distinct_and_of_one_line(name: str) -> None:
    found = rows(name)
    assert len({r["id"] for r in found}) == len(found)
    assert len({normal(r["prompt"]) for r in found}) == len(found)
    assert [r["id"] for r in found if r["prompt"] != r["prompt"].strip() or "\n" in r["prompt"]] == []


def test_no_prompt_is_in_two_suites() -> None:
    counts = Counter(normal(r["prompt"]) for path in PROMPTS.glob("*.jsonl") for r in rows(path.stem))
    assert [text for text, n in counts.items() if n > 1] == []


@pytest.mark.parametrize("name", sorted(p.stem for p in PROMPTS.glob("*.jsonl")))
def test_no_prompt_of_a_suite_is_trained_on(name: str) -> None:
    known = trained()
    assert len(known) > 500
    assert [r["id"] for r in rows(name) if normal(r["prompt"]) in known] == []
