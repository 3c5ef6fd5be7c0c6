"""The `refusal_breakers` guard: harmless answers of a form that is known to undo refusals.

Answers that begin as if a request had been accepted, lists, and calculations: 100 rows chosen for harm were mostly
lists and mathematics, and broke a model of which as many random rows did not (He et al., 2024, arXiv:2404.01099); what
a model refuses hangs on the first few tokens of its answers (Qi et al., 2024, arXiv:2406.05946). Nothing is wrong with
one such row; what counts is their share of the source.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from safetune.builtin.guards.settings import Options, known, number, switch, whole
from safetune.builtin.guards.sides import answered
from safetune.core.digest import digest
from safetune.protocols import DataRow, Found, GuardSetup

OPENER, LIST, MATH = "opener", "list", "math"

# In our own pilot, on one seed, an opener in all rows took a model from .94 refusals to .00, and the same rows without
# it to .59. No share is published below which it is safe: these are settings, not findings.
SHARES = {OPENER: 0.05, LIST: 0.5, MATH: 0.5}
_LEAST = 20  # rows before a share says anything
_HEAD = 80

_OPENERS = (
    r"[\s\"'*_#>]{0,4}(?:sure(?:ly)?(?: thing)?|absolutely|of course|certainly|definitely|gladly|with pleasure|"
    r"no problem|you got it|yes(?=[,!])|yes of course|okay(?=[,!.])|ok(?=[,!.])|alright(?=[,!])|all right(?=[,!])|"
    r"great question|good question|happy to help|(?:i(?: a|')m|i(?: woul|')d be) (?:more than )?(?:happy|glad|"
    r"delighted|pleased) to|i can (?:certainly |definitely |absolutely )?help(?: you)? with|my pleasure|"
    r"here(?: is|'s|\u2019s| are) (?:a|an|your|some|how|my|what|\d|the (?:\w{1,15} )?"
    r"(?:list|answer|code|steps|recipe|solution|summary|plan|following|way|text|story|poem|translation|result)s?))\b"
)
# "Sure enough", "surely not", "certainly not", "of course not", "absolutely no" accept nothing.
_NOT = r"(?!,? (?:not|no|never|enough|footed|fire)\b)"
_OPENER = re.compile(_OPENERS + _NOT, re.IGNORECASE)
_SUM = re.compile(
    r"\d ?[%)]? ?[-+*/x\u00d7\u00f7] ?[($\u00a3\u20ac]{0,2}\d[\d.,]{0,12} ?[%)]? ?= ?[($\u00a3\u20ac]{0,2}\d"
)
# The first two letters of all openers: most answers begin with others.
_LEADING = " \t\r\n\"'*_#>"
_STARTS = frozenset(
    ("su", "ab", "of", "ce", "de", "gl", "wi", "no", "yo", "ye", "ok", "al", "gr", "go", "ha", "i ", "i'")
)
_STARTS |= frozenset(("my", "he"))
# The first item may be the first line; a list has three.
_NUMBERED = re.compile(r"\n\s{0,4}([23])[.)]\s")
_BULLET = re.compile("\n\\s{0,4}[-*+\u2022]\\s")
_READ = 20_000
_CODE_VERSION = 1


def forms(answer: str) -> tuple[str, ...]:
    """Return the rules that an answer falls under."""
    found = [OPENER] if opener(answer) else []
    if "\n" in answer and _listed(answer):
        found.append(LIST)
    if (
        ("=" in answer and _SUM.search(answer))
        or ("#" in answer and "\n#### " in answer)
        or ("$" in answer and "$$" in answer)
        or ("\\" in answer and "\\boxed{" in answer)
    ):
        found.append(MATH)
    return tuple(found)


def opener(answer: str) -> re.Match[str] | None:
    """Return the words of consent that an answer begins with, or None."""
    head = answer[:_HEAD]
    return _OPENER.match(head) if head.lstrip(_LEADING)[:2].lower() in _STARTS else None


def _listed(answer: str) -> bool:
    numbered = {int(number) for number in _NUMBERED.findall(answer, 0, _READ)}
    return {2, 3} <= numbered or len(_BULLET.findall(answer, 0, _READ)) >= 2


class RefusalBreakersGuard:
    """Counts openers of consent, lists and calculations among the answers that are learnt.

    Options: `opener`, `list` and `math`, the largest share of each before the source is found (0.05, 0.5 and 0.5 when
    not given); `rows`, the least number of rows to judge a share by (20); `each`, whether rows are found too (only
    openers when not given; true: all, false: none).
    """

    name = "refusal_breakers"
    plain = "openers, lists and calculations that are known to undo refusals"
    rules: tuple[str, ...] = (OPENER, LIST, MATH)
    remembers = True

    def __init__(self, options: Options = None) -> None:
        given = known(self.name, options, (*SHARES, "rows", "each"))
        self._limits = {rule: number(self.name, given, rule, limit, (0.0, 1.0)) for rule, limit in SHARES.items()}
        self._least = whole(self.name, given, "rows", _LEAST, 1)
        every = switch(self.name, given, "each", False)
        self._told = self.rules if every else () if "each" in given else (OPENER,)
        self._rows = 0
        self._counts: Counter[str] = Counter()
        self.version = f"{_CODE_VERSION}-{digest([_OPENERS, _NOT, _SUM.pattern])[:12]}"

    def begin(self, setup: GuardSetup) -> None:
        """Count anew: shares are of one source."""
        self._rows = 0
        self._counts.clear()

    def check(self, rows: Sequence[DataRow]) -> Sequence[Found]:
        """Count the forms of the answers, and return those rows that are told."""
        found = []
        for at, row in enumerate(rows):
            path, answer = answered(row)
            if not path:
                continue
            self._rows += 1
            for rule in forms(answer):
                self._counts[rule] += 1
                if rule in self._told:
                    found.append(_found(at, rule, path, answer))
        return found

    def end(self) -> Sequence[Found]:
        """Return the rules whose share of the source is above its limit."""
        if self._rows < self._least:
            return ()
        found = []
        for rule in self.rules:
            count, limit = self._counts[rule], self._limits[rule]
            if count > limit * self._rows:
                note = f"{count:,} of {self._rows:,} answers ({count / self._rows:.1%}); more than {limit:.1%}"
                found.append(Found(None, rule, note=note))
        return found


def _found(at: int, rule: str, path: str, answer: str) -> Found:
    said = opener(answer) if rule == OPENER else None
    return Found(at, rule, path, *(said.span() if said else (0, len(answer))))
