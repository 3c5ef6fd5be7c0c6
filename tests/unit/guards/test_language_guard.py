"""Language: rows in another language than those declared are flagged; short text and code are not."""

from __future__ import annotations

import time

import pytest
from guardrows import found, row, rows, setup, story

from safetune.builtin.guards.language import LanguageGuard
from safetune.core.errors import UsageError
from safetune.plugins import load

GERMAN = (
    "Die Katze schläft den ganzen Nachmittag auf dem warmen Dach, und am Abend geht sie in den Garten und jagt Mäuse."
)
FRENCH = "Le chat dort tout l'après-midi sur le toit chaud, et le soir il descend au jardin pour chasser les souris."
ENGLISH = "The cat sleeps all afternoon on the warm roof, and in the evening it goes down to the garden and hunts mice."
CHINESE = (
    "这只猫整个下午都在温暖的屋顶上睡觉，到了晚上它会下到花园里去捉老鼠，然后再回来睡觉，第二天早上又开始新的一天。"
)
CODE = (
    "def load(path):\n    import json\n    total = 0;\n    for line in path.open():\n        total += float(line);\n"
    * 3
)


def _guard(*languages: str) -> LanguageGuard:
    guard = LanguageGuard()
    guard.begin(setup(languages))
    return guard


def test_rows_in_other_languages_are_flagged_with_their_language() -> None:
    hits = found(_guard("en"), rows([("Go on.", one) for one in (ENGLISH, GERMAN, FRENCH, CHINESE, ENGLISH.upper())]))
    assert [(line, one.note) for line, one in hits] == [(2, "de"), (3, "fr"), (4, "zh")]
    assert {(one.rule, one.path, one.start) for _, one in hits} == {("undeclared", "completion[0].content", 0)}


def test_every_declared_language_is_fine_also_with_a_region() -> None:
    given = rows([("Go on.", one) for one in (ENGLISH, GERMAN, CHINESE)])
    assert not found(_guard("EN_gb", "de-AT", "zh"), given)
    assert [line for line, _ in found(_guard("fr"), given)] == [1, 2, 3]


def test_a_source_that_declares_nothing_is_not_looked_at() -> None:
    assert not found(_guard(), rows([("Go on.", GERMAN)]))


@pytest.mark.parametrize("text", ["Guten Tag", CODE, "1 + 2 = 3 " * 20, "", "https://example.org/eins/zwei/drei " * 5])
def test_short_texts_code_and_figures_are_not_judged(text: str) -> None:
    assert not found(_guard("en"), [row(text, "")])


def test_a_foreign_opening_alone_does_not_make_a_row_foreign() -> None:
    assert not found(_guard("en"), [row("Go on.", GERMAN[:60] + " " + ENGLISH * 20)])


def test_plain_english_raises_no_false_alarm() -> None:
    assert not found(_guard("en"), rows((story(n, 2), story(n + 700, 3)) for n in range(300)))


def test_nonsense_options_are_refused() -> None:
    for options in ({"certain": 0.2}, {"certain": None}, {"sure": 1}):
        with pytest.raises(UsageError, match="language"):
            load("guard", "language", options)


def test_hostile_texts_take_linear_time_and_raise_nothing() -> None:
    million = 1_000_000
    hostile = [
        "a" * million,
        "{ ;\n" * (million // 4),
        "\ud800" * 1000,
        "<" * million,
        "`" * million,
        "\n" * million,
        GERMAN * 9000,
    ]
    start = time.process_time()
    found(_guard("en"), [row(text, "", line) for line, text in enumerate(hostile, 1)])
    assert time.process_time() - start < 20
