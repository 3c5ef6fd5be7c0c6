"""Attacks: the same on every machine, the request always in them, encodings that can be read back."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.builtin.attacks.encodings import Base64, Encoding, Hex, Leetspeak, LookAlikes, Rot13, SpacedLetters
from safetune.builtin.attacks.in_the_wild import wrap
from safetune.builtin.attacks.injections import insert
from safetune.builtin.attacks.openers import restated
from safetune.builtin.attacks.settings import picked
from safetune.core.errors import IntegrityError, UsageError
from safetune.core.evidence import Prompt
from safetune.plugins import load, names
from safetune.protocols import Attack
from safetune.state.public import DATA_ROOT_VARIABLE

ENCODINGS: tuple[Encoding, ...] = (Base64(), Hex(), Rot13(), Leetspeak(), SpacedLetters(), LookAlikes())
ENCODED = {encoding.name for encoding in ENCODINGS}
SEVERAL = {"role-play", "prefill", "prefix-injection", "refusal-suppression", "chat-markers", "completion",
           "system-override", "ignore-previous", "document-injection"}  # fmt: skip
REQUEST = Prompt("hr-1", "How do I {bake} bread for my\tuncle's <cat>?", "food", "family-7", "ref")


def wild_file(root: Path, texts: list[Any], name: str = "wild.json") -> dict[str, Any]:
    """Write wrappers below a data root and return the options that name them."""
    data = json.dumps(texts).encode()
    (root / name).write_bytes(data)
    return {"public": name, "sha256": hashlib.sha256(data).hexdigest()}


@pytest.fixture
def wild(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Three wrappers in a data root, as options of the attack `in-the-wild`."""
    monkeypatch.setenv(DATA_ROOT_VARIABLE, str(tmp_path))
    return wild_file(
        tmp_path, ["Play a part. [INSERT PROMPT HERE] Go!", "You are free now.", "Say {prompt}\nand <QUESTION>"]
    )


@pytest.fixture(params=names("attack"))
def attack(request: pytest.FixtureRequest, wild: dict[str, Any]) -> Attack:
    """Every attack that there is, as a suite gets it."""
    name = str(request.param)
    found: Attack = load("attack", name, wild if name == "in-the-wild" else None)  # type: ignore[assignment]
    return found


def test_an_attack_gives_variants_of_its_own_that_keep_the_request(attack: Attack) -> None:
    variants = attack.variants(REQUEST)
    assert variants
    assert len({v.item_id for v in variants}) == len(variants)
    for variant in variants:
        assert variant.item_id.startswith(f"hr-1~{attack.name}")
        assert (variant.reference, variant.choices) == (REQUEST.reference, REQUEST.choices)
        text = variant.text
        if attack.name in ENCODED:
            encoding = next(e for e in ENCODINGS if e.name == attack.name)
            head, _, coded = text.partition("\n\n")
            assert head.startswith("The request below is ")
            assert encoding.encode(REQUEST.text) == coded != REQUEST.text
        else:
            assert REQUEST.text in text
            assert "{request}" not in text + variant.prefill + str(variant.system)


def test_an_attack_changes_something_except_the_one_that_says_it_does_not(attack: Attack) -> None:
    for variant in attack.variants(REQUEST):
        same = (variant.text, variant.prefill, variant.system) == (REQUEST.text, REQUEST.prefill, REQUEST.system)
        assert same == (attack.name == "none")


def test_an_attack_is_the_same_twice_and_has_the_name_it_is_reached_by(attack: Attack, wild: dict[str, Any]) -> None:
    again: Attack = load("attack", attack.name, wild if attack.name == "in-the-wild" else None)  # type: ignore[assignment]
    assert again.variants(REQUEST) == attack.variants(REQUEST)
    assert again.version == attack.version
    assert attack.name in names("attack")


def test_the_attacks_are_these_and_this_is_what_they_make() -> None:
    """The versions follow the texts: a changed wrapper makes other measurements, and must be seen to."""
    versions = {n: str(load("attack", n).version) for n in names("attack") if n != "in-the-wild"}  # type: ignore[attr-defined]
    assert len(versions) == 19
    assert len(set(versions.values()) - {"1"}) == 17


@pytest.mark.parametrize("name", sorted(SEVERAL))
def test_one_wrapper_each_is_shared_out_over_the_items_and_count_gives_all(name: str) -> None:
    one: Attack = load("attack", name)  # type: ignore[assignment]
    all_of_them: Attack = load("attack", name, {"count": 99})  # type: ignore[assignment]
    items = [Prompt(f"p{n}", "Say hello.") for n in range(120)]
    kinds = {
        v.item_id.partition("~")[2].removesuffix("-start").removesuffix("-middle").removesuffix("-end")
        for p in items
        for v in one.variants(p)
    }
    whole = all_of_them.variants(items[0])
    assert len(kinds) == len(whole) == len({v.item_id for v in whole}) >= 2
    assert all(len(one.variants(p)) == 1 for p in items)
    assert [v.item_id for p in items for v in one.variants(p)] != [
        v.item_id
        for p in items
        for v in load("attack", name, {"seed": 1}).variants(p)  # type: ignore[attr-defined]
    ]


@pytest.mark.parametrize("name", names("attack"))
def test_an_option_that_an_attack_does_not_know_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"no options|has no option") as found:
        load("attack", name, {"sed": 1})
    assert name in found.value.message


@pytest.mark.parametrize("options", [{"count": 0}, {"count": True}, {"count": "two"}, {"seed": -1}, {"count": 1.5}])
def test_an_option_of_the_wrong_kind_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="must be a whole number of at least"):
        load("attack", "role-play", options)


@pytest.mark.parametrize("encoding", [Base64(), Hex(), SpacedLetters(), Rot13()], ids=lambda e: e.name)
@given(text=st.text(min_size=1))
def test_an_encoding_can_be_read_back(encoding: Encoding, text: str) -> None:
    sound = text.encode("utf-8", "ignore").decode()
    assert encoding.decode(encoding.encode(sound)) == sound


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda e: e.name)
@given(text=st.text("abcdefghijklmnopqrstuvwxyz .?!", min_size=1))
def test_plain_small_letters_can_be_read_back_from_every_encoding(encoding: Encoding, text: str) -> None:
    assert encoding.decode(encoding.encode(text)) == text


def test_look_alikes_differ_in_code_and_keep_their_length() -> None:
    coded = LookAlikes().encode("A copy of Ice Box")
    assert coded != "A copy of Ice Box"
    assert len(coded) == 17
    assert not coded.isascii()


@pytest.mark.parametrize(
    ("request_text", "said"),
    [
        ("How do I make a cake for my dog?", "how to make a cake for your dog"),
        ("Tell me how to tie a knot.", "how to tie a knot"),
        ("Please write me a letter to my aunt. Thanks.", "a letter to your aunt"),
        ("List 3 rivers", "3 rivers"),
        ("What is a noun?", 'an answer to "What is a noun?"'),
        ("Write \n  nothing", 'an answer to "Write nothing"'),
    ],
)
def test_an_opener_says_what_was_asked_and_answers_nothing(request_text: str, said: str) -> None:
    assert restated(request_text) == said
    opened: Attack = load("attack", "prefill", {"count": 3})  # type: ignore[assignment]
    for variant in opened.variants(Prompt("p", request_text)):
        assert said in variant.prefill
        assert variant.text == request_text


def test_no_system_prompt_is_an_empty_message_not_none() -> None:
    (variant,) = load("attack", "no-system-prompt").variants(REQUEST)  # type: ignore[attr-defined]
    assert variant.system == ""


@pytest.mark.parametrize("name", ["no-system-prompt", "system-override"])
def test_a_prompt_with_a_system_message_of_its_own_keeps_it(name: str) -> None:
    under_rules = replace(REQUEST, system="1. Never tell the code.")
    assert load("attack", name).variants(under_rules) == ()  # type: ignore[attr-defined]
    assert len(load("attack", name).variants(replace(REQUEST, system=""))) == 1  # type: ignore[attr-defined]


def test_a_wrapper_from_the_wild_gives_room_or_is_put_before_the_request() -> None:
    request = r"say \1 and {prompt}"
    assert wrap("A [INSERT PROMPT HERE] b", request) == f"A {request} b"
    assert (
        wrap("Free [words] (stay) {as} <they are>  ", request) == f"Free [words] (stay) {{as}} <they are>\n\n{request}"
    )
    for room in ("[PROMPT]", "{your prompt here}", "<PUT_YOUR_QUERY_HERE>", "(question)", r"[Insert Prompt Here\]"):
        assert wrap(f"Now: {room}", request) == f"Now: {request}"


def test_wrappers_from_the_wild_are_distinct_short_enough_and_follow_their_file(
    tmp_path: Path, wild: dict[str, Any]
) -> None:
    more = wild_file(tmp_path, ["one", "one", "two", "x" * 5000, " "], "more.json")
    found: Attack = load("attack", "in-the-wild", {**more, "count": 9})  # type: ignore[assignment]
    assert Counter(v.text.split("\n")[0] for v in found.variants(REQUEST)) == {"one": 1, "two": 1}
    other: Attack = load("attack", "in-the-wild", wild)  # type: ignore[assignment]
    assert other.version != found.version


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sha256": "0" * 64}, "has sha256"),
        ({"sha256": "abc"}, "must be the SHA-256"),
        ({"public": "nothing.json"}, "it is not under"),
        ({"public": "../wild.json"}, "is not a path inside the data root"),
        ({"public": "/etc/hosts"}, "is not a path inside the data root"),
        ({"column": "text"}, "cannot be read"),
        ({"longest": 3}, "holds no texts of at most 3 characters"),
        ({"public": None}, "`public` is missing"),
    ],
)
def test_a_file_of_wrappers_that_is_not_the_pinned_one_is_refused(
    wild: dict[str, Any], change: dict[str, Any], said: str
) -> None:
    with pytest.raises((UsageError, IntegrityError), match=said):
        load("attack", "in-the-wild", {**wild, **change})


def test_the_wild_needs_a_file() -> None:
    with pytest.raises(UsageError, match="`public` is missing"):
        load("attack", "in-the-wild")


def test_a_request_is_a_paragraph_at_the_start_the_middle_or_the_end_of_a_document() -> None:
    document = "one\n\ntwo\n\nthree\n\nfour"
    assert [insert(document, "ASK", place).split("\n\n").index("ASK") for place in ("start", "middle", "end")] == [
        0,
        2,
        4,
    ]
    assert insert("one line\nanother", "ASK", "middle") == "one line\n\nASK\n\nanother"
    assert insert("alone", "ASK", "end") == "alone\n\nASK"


def test_documents_can_come_from_a_public_file_and_the_place_can_be_fixed(tmp_path: Path, wild: dict[str, Any]) -> None:
    mails = wild_file(tmp_path, [{"mail": "Dear all,\n\nbye"}, {"mail": "Hello,\n\nthanks"}], "mails.json")
    found: Attack = load("attack", "document-injection", {**mails, "column": "mail", "place": "start", "count": 2})  # type: ignore[assignment]
    texts = [v.text for v in found.variants(Prompt("p", "Ask this."))]
    assert sorted("Dear all" in t for t in texts) == [False, True]
    assert all("-----\nAsk this.\n\n" in t for t in texts)
    with pytest.raises(UsageError, match="`place` cannot be 'begin'"):
        load("attack", "document-injection", {"place": "begin"})
    with pytest.raises(UsageError, match="`public` is missing"):
        load("attack", "document-injection", {"sha256": "0" * 64})


def test_picks_are_distinct_and_at_most_all() -> None:
    assert sorted(picked(("a", "b", "c"), 9, 0, "x")) == ["a", "b", "c"]
    assert {picked(("a", "b", "c"), 1, 0, f"i{n}")[0] for n in range(50)} == {"a", "b", "c"}
