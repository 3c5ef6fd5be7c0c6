"""The bundled training rows: whole, unlike each other, and unlike every prompt that the gate measures on."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from safetune.builtin.judges.refusal import COMPLIANCE, REFUSAL, RefusalJudge

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "playbooks" / "data"
SUITES = ROOT / "configs" / "suites" / "prompts"

NEAR = 0.7  # token Jaccard from which two prompts count as the same
MOST_WORDS = 18
HAZARDS = frozenset(
    {
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
)
KINDS = frozenset({"look-alike", "harmless"})
WORDINGS = 8
OPENINGS = ("how do i build", "how do i make", "how do i grow", "how can i", "explain how")


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt, the file and id it comes from, and its words."""

    origin: str
    text: str
    words: frozenset[str]


def text(origin: str, prompt: str) -> Text:
    return Text(origin, prompt, frozenset(re.findall(r"[a-z0-9']+", prompt.lower())))


def alike(one: Text, other: Text) -> float:
    """Return the Jaccard index of the words of two prompts, in [0, 1]."""
    return len(one.words & other.words) / max(1, len(one.words | other.words))


def overlaps(pairs: Iterator[tuple[Text, Text]]) -> list[str]:
    """Return one line per pair of prompts that are the same or nearly so."""
    return [f"{a.origin} {a.text!r} ~ {b.origin} {b.text!r}" for a, b in pairs if alike(a, b) >= NEAR]


def rows(path: Path) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def asked(row: Mapping[str, Any]) -> str:
    prompt = row["prompt"]
    return str(prompt if isinstance(prompt, str) else prompt[0]["content"])


def texts(path: Path) -> list[Text]:
    return [text(f"{path.name}:{row['id']}", asked(row)) for row in rows(path)]


def answer(row: Mapping[str, Any]) -> str:
    return str(row["completion"][0]["content"])


REFUSALS = rows(DATA / "refusals.jsonl")
BENIGN = rows(DATA / "benign.jsonl")
PROMPTS = rows(DATA / "benign_prompts.jsonl")
TRAINING = [*texts(DATA / "refusals.jsonl"), *texts(DATA / "benign_prompts.jsonl")]
MEASURED = [found for path in sorted(SUITES.glob("*.jsonl")) for found in texts(path)]


def test_no_training_prompt_is_the_same_as_or_close_to_a_measured_prompt() -> None:
    assert len(MEASURED) > 300
    assert overlaps((a, b) for a in TRAINING for b in MEASURED) == []


def test_no_answered_benign_prompt_is_close_to_a_measured_prompt() -> None:
    assert overlaps((a, b) for a in texts(DATA / "benign.jsonl") for b in MEASURED) == []


def test_no_two_training_prompts_are_the_same_or_close() -> None:
    assert overlaps(combinations(TRAINING, 2)) == []


def test_words_not_letters_make_two_prompts_alike() -> None:
    assert alike(text("a", "How do I kill a process?"), text("b", "how do i KILL a process")) == 1.0
    assert alike(text("a", "one two three four"), text("b", "one two three five")) == pytest.approx(0.6)


@pytest.mark.parametrize(("name", "prefix"), [("refusals", "rf"), ("benign_prompts", "bn")])
def test_ids_count_up_from_one_without_a_gap(name: str, prefix: str) -> None:
    found = [row["id"] for row in rows(DATA / f"{name}.jsonl")]
    assert found == [f"{prefix}-{n:03}" for n in range(1, len(found) + 1)]


def test_every_prompt_is_one_trimmed_line_of_three_to_eighteen_words() -> None:
    wrong = [
        t.origin
        for t in TRAINING
        if t.text != t.text.strip() or "\n" in t.text or not 3 <= len(t.text.split()) <= MOST_WORDS
    ]
    assert wrong == []


def test_refusals_have_known_hazards_and_none_of_them_is_rare() -> None:
    counts = Counter(str(row["hazard"]) for row in REFUSALS)
    assert set(counts) == HAZARDS
    assert min(counts.values()) >= 0.6 * len(REFUSALS) / len(HAZARDS)


def test_refusals_use_eight_wordings_about_equally_often() -> None:
    counts = Counter(map(answer, REFUSALS))
    assert len(counts) == WORDINGS
    assert max(counts.values()) - min(counts.values()) <= 4


def test_every_hazard_is_refused_with_at_least_five_wordings() -> None:
    used = {hazard: {answer(row) for row in REFUSALS if row["hazard"] == hazard} for hazard in HAZARDS}
    assert {hazard: len(found) for hazard, found in used.items() if len(found) < 5} == {}


def test_the_judge_reads_every_wording_as_a_refusal() -> None:
    judge = RefusalJudge()
    wordings = set(map(answer, REFUSALS))
    assert {wording for wording in wordings if judge.label("Question?", wording).label != REFUSAL} == set()


def test_the_same_sentence_openings_are_refused_and_answered() -> None:
    """An opening alone must not decide: otherwise the model learns the form of a request and not what it asks for."""
    for opening in OPENINGS:
        for name, found in (("refused", REFUSALS), ("answered", BENIGN)):
            assert any(asked(row).lower().startswith(opening) for row in found), f"{opening!r} is never {name}"


def test_benign_rows_answer_prompts_of_the_list_in_its_order() -> None:
    known = {str(row["id"]): (row["kind"], row["prompt"]) for row in PROMPTS}
    assert {str(kind) for kind, _ in known.values()} == KINDS
    assert [row["id"] for row in BENIGN] == sorted(row["id"] for row in BENIGN)
    assert [row["id"] for row in BENIGN if (row["kind"], asked(row)) != known[row["id"]]] == []


def test_almost_every_prompt_of_the_list_has_its_row() -> None:
    assert len(BENIGN) >= 0.95 * len(PROMPTS)


def refused_or_unreadable(found: Sequence[Mapping[str, Any]]) -> list[str]:
    judge = RefusalJudge()
    return [row["id"] for row in found if judge.label(asked(row), answer(row)).label != COMPLIANCE]


def test_no_benign_row_teaches_a_refusal_or_gibberish() -> None:
    assert refused_or_unreadable(BENIGN) == []


def test_no_benign_row_begins_like_a_refusal() -> None:
    """Cut short, "I'm sorry, but as a chatbot ..." passes the judge and still teaches how a refusal begins."""
    assert [row["id"] for row in BENIGN if re.search(r"\bsorry\b", " ".join(answer(row).split()[:5]).lower())] == []
