"""A seeded generator of grade-school word problems with one or two steps, the same on every machine.

Numbers are small on purpose: a 135M model that learnt the format can gain measurably. Every family of problems is one
cluster, because problems of one family are alike and must not count as independent.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from safetune.core.errors import UsageError
from safetune.core.evidence import Prompt

_NAME_LIST = "Ana Ben Cleo Dan Eva Finn Gina Hugo Ines Jack Kira Leo Mona Nils Olga Paul Rosa Sam Tina Umar"
_THING_LIST = "apples pencils shells stamps cards marbles books buttons coins stickers"
_NAMES, _THINGS = _NAME_LIST.split(), _THING_LIST.split()
_MOST = 10_000  # the smallest family has 1,600 problems, and the families take turns


@dataclass(frozen=True, slots=True)
class WordProblem:
    """A question, its whole-number answer, one short worked line, and the family it belongs to."""

    family: str
    question: str
    working: str
    answer: int


_Family = Callable[[random.Random, str, str], tuple[str, str, int]]


def _gain(r: random.Random, who: str, what: str) -> tuple[str, str, int]:
    a, b = r.randint(2, 20), r.randint(2, 20)
    return (
        f"{who} has {a} {what} and gets {b} more. How many {what} does {who} have now?",
        f"{a} + {b} = {a + b}.",
        a + b,
    )


def _loss(r: random.Random, who: str, what: str) -> tuple[str, str, int]:
    a, b = r.randint(10, 30), r.randint(2, 9)
    return f"{who} has {a} {what} and gives away {b}. How many {what} are left?", f"{a} - {b} = {a - b}.", a - b


def _groups(r: random.Random, who: str, what: str) -> tuple[str, str, int]:
    a, b = r.randint(2, 9), r.randint(2, 9)
    return f"{who} fills {a} boxes with {b} {what} each. How many {what} is that?", f"{a} x {b} = {a * b}.", a * b


def _shares(r: random.Random, who: str, what: str) -> tuple[str, str, int]:
    a, b = r.randint(2, 6), r.randint(2, 9)
    return (
        f"{who} shares {a * b} {what} equally among {a} friends. How many does each friend get?",
        f"{a * b} / {a} = {b}.",
        b,
    )


def _price(r: random.Random, who: str, what: str) -> tuple[str, str, int]:
    a, b = r.randint(2, 9), r.randint(2, 9)
    return (
        f"{who} buys {a} {what} for {b} dollars each. How many dollars does {who} pay?",
        f"{a} x {b} = {a * b}.",
        a * b,
    )


def _change(r: random.Random, who: str, what: str) -> tuple[str, str, int]:
    a, b = r.choice((20, 30, 50)), r.randint(3, 18)
    return (
        f"{who} pays for {what} that cost {b} dollars with {a} dollars. How many dollars come back?",
        f"{a} - {b} = {a - b}.",
        a - b,
    )


def _compare(r: random.Random, who: str, what: str) -> tuple[str, str, int]:
    a, b = r.randint(2, 15), r.randint(2, 9)
    return (
        f"{who} has {a} {what}. A friend has {b} more than {who}. How many has the friend?",
        f"{a} + {b} = {a + b}.",
        a + b,
    )


def _double(r: random.Random, who: str, what: str) -> tuple[str, str, int]:
    a = r.randint(3, 25)
    return f"{who} has {a} {what}. A friend has twice as many. How many has the friend?", f"2 x {a} = {2 * a}.", 2 * a


def _halve(r: random.Random, who: str, what: str) -> tuple[str, str, int]:
    a = r.randint(3, 20)
    return f"{who} had {2 * a} {what} and sold half of them. How many were sold?", f"{2 * a} / 2 = {a}.", a


def _two_days(r: random.Random, who: str, what: str) -> tuple[str, str, int]:
    a, b = r.randint(3, 18), r.randint(3, 18)
    return f"{who} found {a} {what} on Monday and {b} on Tuesday. How many in total?", f"{a} + {b} = {a + b}.", a + b


def _weekly(r: random.Random, who: str, what: str) -> tuple[str, str, int]:
    a = r.randint(2, 9)
    return (
        f"{who} collects {a} {what} every day. How many {what} are collected in a week?",
        f"{a} x 7 = {a * 7}.",
        a * 7,
    )


def _gain_and_loss(r: random.Random, who: str, what: str) -> tuple[str, str, int]:
    a, b, c = r.randint(5, 15), r.randint(3, 9), r.randint(2, 7)
    text = f"{who} has {a} {what}, gets {b} more and loses {c}. How many {what} does {who} have now?"
    return text, f"{a} + {b} = {a + b}. {a + b} - {c} = {a + b - c}.", a + b - c


def _boxes_and_rest(r: random.Random, who: str, what: str) -> tuple[str, str, int]:
    a, b, c = r.randint(2, 6), r.randint(2, 6), r.randint(1, 9)
    text = f"{who} has {a} bags of {b} {what} and {c} loose ones. How many {what} are there?"
    return text, f"{a} x {b} = {a * b}. {a * b} + {c} = {a * b + c}.", a * b + c


def _missing(r: random.Random, who: str, what: str) -> tuple[str, str, int]:
    a, b = r.randint(10, 40), r.randint(2, 9)
    return f"{who} wants {a} {what} and has {b}. How many {what} are still needed?", f"{a} - {b} = {a - b}.", a - b


_FAMILIES: dict[str, _Family] = {
    "gain": _gain,
    "loss": _loss,
    "groups": _groups,
    "shares": _shares,
    "price": _price,
    "change": _change,
    "compare": _compare,
    "double": _double,
    "halve": _halve,
    "two-days": _two_days,
    "weekly": _weekly,
    "gain-and-loss": _gain_and_loss,
    "boxes-and-rest": _boxes_and_rest,
    "missing": _missing,
}


def generate(seed: int, count: int) -> tuple[WordProblem, ...]:
    """Return `count` distinct problems, going round the families in turn.

    Raises:
        UsageError: when so many distinct problems cannot be made.
    """
    if count > _MOST:
        raise UsageError(f"word-problems cannot make {count} distinct problems; the most is {_MOST}")
    r = random.Random(seed)  # the Mersenne twister and randint are the same on every platform
    names = list(_FAMILIES)
    found: dict[str, WordProblem] = {}
    for attempt in range(count * 20):
        if len(found) == count:
            break
        family = names[attempt % len(names)]
        question, working, answer = _FAMILIES[family](r, r.choice(_NAMES), r.choice(_THINGS))
        found.setdefault(question, WordProblem(family, question, working, answer))
    if len(found) < count:  # never in practice: below the limit every family has far more problems than asked for
        raise UsageError(f"word-problems cannot make {count} distinct problems")
    return tuple(found.values())


class WordProblems:
    """The `word-problems` prompt generator."""

    name = "word-problems"
    version = "1"

    def prompts(self, seed: int, count: int) -> tuple[Prompt, ...]:
        """Return `count` distinct problems as prompts whose reference is the answer; the family is the cluster."""
        return tuple(
            Prompt(f"wp-{seed}-{n:04d}", p.question, slice=p.family, cluster=p.family, reference=str(p.answer))
            for n, p in enumerate(generate(seed, count))
        )
