"""Contamination: prompts of the suites are found whatever their lines look like; common wording alone is not enough."""

from __future__ import annotations

import random
import textwrap
import time
from collections.abc import Callable

import pytest
from guardrows import found, row, rows, sentence, setup, story

from safetune.builtin.guards.contamination import ContaminationGuard
from safetune.core.errors import UsageError
from safetune.core.evidence import Prompt
from safetune.plugins import load
from safetune.protocols import GuardSetup

LONG = [story(n, 5) for n in range(200)]
MIDDLE = [sentence(n * 31 + 7) for n in range(200)]
SHORT = ["What is the capital of Peru?", "How do I kill a process?", "Who are you?", "为什么天空是蓝色的呢？"]


def _guard(**suites: list[str]) -> ContaminationGuard:
    guard = ContaminationGuard()
    guard.begin(setup(**suites))
    return guard


REWRITTEN: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "wrapped at 20": lambda text: textwrap.fill(text, 20),
    "a word a line": lambda text: text.replace(" ", "\r\n"),
    "capitals": str.upper,
    "no punctuation": lambda text: "".join(c for c in text if c.isalnum() or c == " "),
    "other punctuation": lambda text: text.replace(".", " \u2014").replace("?", " !?"),
    "unseen characters": lambda text: text.replace("a", "a\u200b").replace("e", "\u00ade"),
    "hyphenated": lambda text: text.replace(" ", "\n") if len(text) < 60 else text[:40] + "-\n" + text[40:],
}


@pytest.mark.parametrize("rewrite", REWRITTEN.values(), ids=REWRITTEN.keys())
def test_every_prompt_is_found_in_full_however_it_is_written(rewrite: Callable[[str], str]) -> None:
    every = [*LONG, *MIDDLE, *SHORT]
    guard = _guard(mine=every)
    hits = found(guard, rows((rewrite(text), "It is so.") for text in every))
    assert [line for line, _ in hits] == list(range(1, len(every) + 1))
    assert {one.rule for _, one in hits} == {"copy"}
    assert all(one.note == f"mine/mine-{line - 1}, word for word" for line, one in hits)


def test_a_prompt_is_found_in_the_middle_of_a_row_and_in_the_answer() -> None:
    guard = _guard(mine=LONG)
    inside = [(story(900 + n, 3) + " " + LONG[n] + " " + story(950 + n, 3), "Yes.") for n in range(50)]
    answers = [("Tell me a story.", story(800 + n, 2) + " " + LONG[n]) for n in range(50)]
    assert len(found(guard, rows([*inside, *answers]))) == 100


def test_a_prompt_with_some_words_changed_is_found_by_its_runs() -> None:
    guard = _guard(mine=LONG)
    chance = random.Random(3)
    changed = []
    for text in LONG:
        every = text.split()
        for at in chance.sample(range(len(every)), 2):
            every[at] = "other"
        changed.append((" ".join(every), "Yes."))
    hits = found(guard, rows(changed))
    assert len(hits) >= 0.95 * len(LONG)
    assert {one.rule for _, one in hits} == {"ngram"}
    assert all("mine/mine-" in one.note and "runs of" in one.note for _, one in hits)


def test_rows_of_their_own_are_left_alone() -> None:
    guard = _guard(mine=[*LONG, *MIDDLE, *SHORT])
    assert not found(guard, rows((story(n, 4), story(n + 3000, 4)) for n in range(400, 800)))


def test_wording_that_many_prompts_share_does_not_count() -> None:
    names = ["Peru", "Chile", "Ghana", "Kenya", "Nepal", "Japan", "Spain", "Italy"]
    guard = _guard(mine=[f"Please tell me, in one short sentence, what is the capital of {name}" for name in names])
    asked = [f"Please tell me, in one short sentence, what is the capital of {name}" for name in ("France", "Norway")]
    assert not found(guard, rows((one, "It is a town.") for one in asked))
    assert (
        len(
            found(
                guard, rows((f"Please tell me, in one short sentence, what is the capital of {n}", "") for n in names)
            )
        )
        == 8
    )


def test_a_short_prompt_in_passing_is_no_copy() -> None:
    guard = _guard(mine=SHORT)
    long = "The guests asked the old clerk many things. Who are you? they said. " + story(3, 3)
    assert not found(guard, rows([(long, "Well."), ("What is the capital of Peruvian art?", "Lima.")]))
    assert found(guard, rows([("Who are you", "A model."), ("Please: what is the capital of Peru?", "Lima.")]))


def test_long_references_are_kept_apart_too_and_short_ones_are_not() -> None:
    suites = {"mine": [Prompt("a", story(1, 2), reference=story(2, 3)), Prompt("b", story(3, 2), reference="18")]}
    guard = ContaminationGuard()
    guard.begin(GuardSetup(setup().source, suites))
    (hit,) = found(guard, rows([("Go on.", story(2, 3)), ("How many?", "18")]))
    assert hit[0] == 1
    assert hit[1].note == "mine/a (reference), word for word"


def test_the_share_can_be_set_and_nonsense_is_refused() -> None:
    half = " ".join(LONG[0].split()[: len(LONG[0].split()) * 2 // 3])
    strict = ContaminationGuard({"share": 1.0})
    strict.begin(setup(mine=LONG))
    assert not found(strict, rows([(half, "")]))
    assert found(_guard(mine=LONG), rows([(half, "")]))
    for options in ({"share": 0.0}, {"share": "x"}, {"parts": 1}):
        with pytest.raises(UsageError, match="contamination"):
            load("guard", "contamination", options)


def test_without_suites_nothing_is_found_and_new_suites_replace_old_ones() -> None:
    guard = _guard()
    given = rows([(LONG[0], "")])
    assert not found(guard, given)
    guard.begin(setup(mine=LONG))
    assert found(guard, given)
    guard.begin(setup(mine=LONG[1:]))
    assert not found(guard, given)
    assert not guard.end()


def test_hostile_texts_take_linear_time_and_raise_nothing() -> None:
    guard = _guard(mine=[*LONG, *SHORT, "a a a a a a a a a a a a", ""])
    million = 1_000_000
    hostile = [
        "a " * (million // 2),
        "kill " * 200_000,
        "a" * million,
        "\ud800 " * 1000,
        "",
        SHORT[0] * 30_000,
        LONG[0] * 3000,
    ]
    start = time.process_time()
    found(guard, [row(text, "", line) for line, text in enumerate(hostile, 1)])
    assert time.process_time() - start < 20
