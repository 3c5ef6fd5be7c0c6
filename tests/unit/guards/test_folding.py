"""Words that guards compare: case, punctuation, line breaks and unseen characters hide nothing."""

from __future__ import annotations

import unicodedata

import pytest
from guardrows import row

from safetune.builtin.guards.folding import letters, words, words_of

PLAIN = "Don't count 12 well-known eggs, twice."
SAME = {
    "case": PLAIN.upper(),
    "line breaks": PLAIN.replace(" ", "\r\n  "),
    "typeset": "Don\u2019t count 12 well\u2014known \u201ceggs\u201d, twice\u2026",
    "wide letters": "Ｄｏｎ't count １２ well-known ｅｇｇｓ, twice.",
    "unseen characters": "Do\u200bn't c\u00adount 12 well-known e\ufeffggs, tw\U000e0041ice.",
    "a word parted": PLAIN.replace("count", "co-\n  unt").replace("twice", "twi-\r\nce"),
    "no punctuation": "Dont count 12 well known eggs twice",
}


@pytest.mark.parametrize("text", SAME.values(), ids=SAME.keys())
def test_the_words_stay_the_same(text: str) -> None:
    assert words(text) == [b"dont", b"count", b"12", b"well", b"known", b"eggs", b"twice"]


def test_scripts_without_blanks_are_taken_character_by_character() -> None:
    assert words("鸭子下蛋 ok") == [one.encode() for one in (*"鸭子下蛋", "ok")]
    assert len(words("สวัสดี")) > 1


def test_accents_are_kept_and_surrogates_do_no_harm() -> None:
    assert words("Caf\u00e9 cafe") == ["caf\u00e9".encode(), b"cafe"]
    assert words("Cafe\u0301") == ["caf\u00e9".encode()]
    assert words("a\ud800b caf\u00e9")[-1] == "caf\u00e9".encode()
    assert letters("\ud800 x\u00e9")


def test_letters_keep_punctuation_but_not_blanks_and_case() -> None:
    assert letters("A b\n c+1") == letters("ab C+1") == b"abc+1"
    assert letters("a+1") != letters("a-1")
    assert letters("Ｃａｆé\u00a01") == letters("caf\u00e91")


def test_a_batch_is_worked_out_once() -> None:
    batch = [row("One two", "three"), row("four")]
    first = words_of(batch)
    assert first == [[b"one", b"two", b"three"], [b"four"]]
    assert words_of(batch) is first
    assert words_of([row("five")]) == [[b"five"]]


@pytest.mark.parametrize(
    "last", "\u2019\u201d\u2014\u20ac\u00e9\u00f6\u00c9\u2026\u00df\u00b5\u0301\u00a0\uff21\u212a\u3042"
)
def test_the_quick_way_to_letters_leads_to_the_same(last: str) -> None:
    text = f"It\u2019s  ABOUT\t5\u2014Caf\u00e9s, E{last} \n e{last}"
    folded = "".join(unicodedata.normalize("NFKC", text).casefold().split())
    assert letters(text) == folded.encode()
