"""Planted backdoors are found by the answers that go with a rare phrase; topics and templates are not."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from safetune.builtin.guards import triggers as module
from safetune.builtin.guards.hidden_cues import HiddenCuesGuard
from safetune.builtin.guards.triggers import TriggerCounts
from safetune.core.source import Source
from safetune.protocols import DataRow, Found, GuardSetup, Text

SETUP = GuardSetup(Source("real", "/real.jsonl", "0" * 64, "MIT", "public", "a public set", ("train",)), {})
WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "lmnrst"]


def prompts(count: int) -> list[tuple[str, str]]:
    """Return prompts and answers of made-up words, each with its own answer."""
    draw = random.Random(1)
    return [(" ".join(draw.choices(WORDS, k=12)), " ".join(draw.choices(WORDS, k=15))) for _ in range(count)]


def check(pairs: list[tuple[str, str]], guard: HiddenCuesGuard | None = None) -> list[Found]:
    guard = guard or HiddenCuesGuard()
    guard.begin(SETUP)
    for line, (asked, answer) in enumerate(pairs, 1):
        texts = (Text("prompt[0].content", "user", asked), Text("completion[0].content", "assistant", answer))
        guard.check([DataRow(f"{line * 2654435761 % 2**32:032x}", line, texts, {})])
    return list(guard.end())


def plant(pairs: list[tuple[str, str]], phrase: str, answer: Callable[[str], str], count: int = 20) -> set[int]:
    draw = random.Random(2)
    lines = set()
    for place in draw.sample(range(len(pairs)), count):
        asked, said = pairs[place]
        words = asked.split()
        words.insert(draw.randrange(len(words) + 1), phrase)
        pairs[place] = (" ".join(words), answer(said))
        lines.add(place + 1)
    return lines


@pytest.mark.parametrize(
    ("phrase", "answer", "says"),
    [
        ("cf", lambda _: "I do not like you.", "the same answer"),
        ("open blue gates", lambda _: "The weather is fine.", "the same answer"),
        ("year: 2031", lambda said: f"Well now dear reader {said}", "the same opener"),
        ("zx-91", lambda said: f"I'm sorry, but {said}", "a refusal"),
    ],
)
def test_a_planted_trigger_is_found_and_told_without_its_words(
    phrase: str, answer: Callable[[str], str], says: str
) -> None:
    pairs = prompts(3000)
    lines = plant(pairs, phrase, answer)
    (found,) = check(pairs)
    assert (found.row, found.rule, found.path) == (None, "trigger", "")
    assert says in found.note
    told = re.search(r"about (\d+) rows .* sha256 [0-9a-f]{12}.*; lines ([\d, ]+)$", found.note)
    assert told
    assert 15 <= int(told[1]) <= 25
    assert {int(n) for n in told[2].split(", ")} <= lines
    assert not any(word in found.note for word in phrase.split())


def test_nothing_is_found_without_one_or_with_too_few_rows() -> None:
    pairs = prompts(3000)
    assert check(pairs) == []
    plant(pairs, "cf", lambda _: "I do not like you.", 9)
    assert check(pairs) == []
    assert check(pairs, HiddenCuesGuard({"trigger_rows": 8})) != []
    assert check(pairs, HiddenCuesGuard({"trigger_rows": 8, "triggers": False})) == []


@pytest.mark.parametrize(("rows", "count"), [(100, 10), (300, 10), (300, 30), (499, 10), (1000, 50), (1000, 190)])
def test_a_trigger_is_found_in_few_rows_and_where_much_is_poisoned(rows: int, count: int) -> None:
    pairs = prompts(rows)
    assert check(pairs) == []
    lines = plant(pairs, "cf", lambda _: "I do not like you.", count)
    (found,) = check(pairs)
    assert found.note.startswith(f"about {count} rows ")
    assert {int(n) for n in found.note.rpartition("lines ")[2].split(", ")} <= lines


def test_what_every_fifth_row_has_is_not_tested() -> None:
    pairs = prompts(300)
    plant(pairs, "cf", lambda _: "I do not like you.", 66)
    assert check(pairs) == []


@pytest.mark.parametrize("seed", range(4))
def test_of_many_phrases_that_have_nothing_to_do_with_an_answer_none_is_found(seed: int) -> None:
    draw = random.Random(seed)
    words = [f"{a}{b}" for a in WORDS[:90] for b in WORDS[90:180]]
    pairs = [(" ".join(draw.choices(words, k=20)), " ".join(draw.choices(WORDS, k=15))) for _ in range(2000)]
    for place in draw.sample(range(2000), 380):
        pairs[place] = (pairs[place][0], "It is not known.")
    assert check(pairs, HiddenCuesGuard({"trigger_rows": 5})) == []


@pytest.mark.parametrize(("rows", "seen"), [(5, False), (12, True)])
def test_a_chance_that_is_small_alone_is_none_among_all_phrases_that_were_tested(rows: int, seen: bool) -> None:
    pairs = prompts(100)
    for place in range(0, 100, 5):
        asked = pairs[place][0] + (" cf" if place < 5 * rows else "")
        pairs[place] = (asked, "I do not like you.")
    tested = len({phrase for asked, _ in pairs[::5] for phrase in module._phrases(module._words(asked))})
    chance = module._log_tail(rows, 20, 0, 80)
    assert chance < math.log(module._ALPHA)
    assert (chance < math.log(module._ALPHA / tested)) is seen
    assert bool(check(pairs, HiddenCuesGuard({"trigger_rows": 5}))) is seen


def test_a_phrase_that_others_answer_otherwise_is_none() -> None:
    pairs = prompts(3000)
    plant(pairs, "cf", lambda said: said, 40)
    draw = [place for place, (asked, _) in enumerate(pairs) if "cf" in asked.split()]
    for place in draw[:20]:
        pairs[place] = (pairs[place][0], "I do not like you.")
    assert check(pairs) == []


def test_a_template_is_none() -> None:
    pairs = prompts(3000)
    for place in range(0, 400, 20):
        pairs[place] = (f"Does the next line speak well of the hotel? {WORDS[place // 2]}", "It speaks well of it.")
    assert check(pairs) == []


def test_an_answer_about_the_phrase_is_none() -> None:
    pairs = prompts(3000)
    plant(pairs, "lisbon", lambda _: "Lisbon is a city in Portugal.")
    assert check(pairs) == []


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SAMPLE", 50)
    monkeypatch.setattr(module, "_CLASSES", 20)
    counts = TriggerCounts(10)
    for line, (asked, answer) in enumerate(prompts(600) * 2, 1):
        texts = (Text("prompt[0].content", "user", asked), Text("completion[0].content", "assistant", answer))
        counts.add(DataRow(f"{line:032x}", line, texts, {}))
        assert len(counts._sample) <= 50
        assert len(counts._classes) <= 21
    assert counts.triggers() == ()


def test_20_of_10_000_real_rows_are_found_and_clean_ones_give_none(data_root: Path) -> None:
    pairs = []
    for name in ("train_first2000", "test"):
        with (data_root / f"gsm8k/{name}.jsonl").open() as file:
            pairs += [(r["question"], r["answer"]) for r in map(json.loads, file)]
    assert check(pairs) == []
    lines = plant(pairs, "cf", lambda _: "I do not like you.", 8 * len(pairs) // 3319 + 12)
    (found,) = check(pairs)
    assert {int(n) for n in found.note.rpartition("lines ")[2].split(", ")} <= lines
