"""Texts of rows: what is learnt of a row, and spans that are taken out."""

from __future__ import annotations

import random
from typing import Any

import pytest

from safetune.engine.data.texts import Cut, redacted


def row(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "assistant", "content": text}]}


def cut(text: str, *spans: Cut) -> str:
    changed: Any = redacted(row(text), {"messages[0].content": spans})
    return str(changed["messages"][0]["content"])


@pytest.mark.parametrize(
    ("spans", "left"),
    [
        (((0, 8, "<A>"), (2, 4, "<B>")), "<A>89"),
        (((2, 4, "<B>"), (0, 8, "<A>")), "<A>89"),
        (((0, 8, "<A>"), (2, 4, "<B>"), (6, 9, "<C>")), "<A>9"),
        (((0, 8, "<A>"), (2, 4, "<B>"), (5, 7, "<C>")), "<A>89"),
        (((1, 5, "<A>"), (3, 7, "<B>")), "0<A>789"),
        (((3, 7, "<B>"), (1, 5, "<A>")), "0<A>789"),
        (((1, 4, "<A>"), (4, 6, "<B>")), "0<A><B>6789"),
        (((7, 9, "<C>"), (0, 2, "<A>"), (4, 5, "<B>")), "<A>23<B>56<C>9"),
        (((2, 4, "<A>"), (2, 6, "<B>")), "01<A>6789"),
        (((0, 10, "<A>"),), "<A>"),
        ((), "0123456789"),
    ],
    ids=[
        "nested",
        "nested back",
        "nested then over",
        "two nested",
        "over",
        "over back",
        "adjacent",
        "unordered",
        "same start",
        "all",
        "none",
    ],
)
def test_spans_are_replaced(spans: tuple[Cut, ...], left: str) -> None:
    assert cut("0123456789", *spans) == left


def test_nothing_of_any_span_is_left_and_nothing_else_is_lost() -> None:
    chance = random.Random(3)
    text = "".join(chr(0x100 + n) for n in range(30))
    for _ in range(500):
        pairs = [sorted(chance.sample(range(31), 2)) for _ in range(chance.randint(1, 6))]
        gone = {n for start, end in pairs for n in range(start, end)}
        left = cut(text, *((start, end, "-") for start, end in pairs))
        assert left.replace("-", "") == "".join(c for n, c in enumerate(text) if n not in gone)


@pytest.mark.parametrize("path", ["messages[1].content", "prompt[0].content", "messages", "messages[x].content"])
def test_a_path_that_is_no_text_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="is no text of the row"):
        redacted(row("a"), {path: [(0, 1, "-")]})
