"""The `choice` judge: which of the choices of an item does the model find likeliest?

The response is what the likelihood evaluator writes: a JSON object with one log-probability per choice, in order.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safetune.builtin.judges.options import Options, known_options, one_of
from safetune.core.digest import JSON
from safetune.core.errors import UsageError
from safetune.core.evidence import Judgement
from safetune.core.suite import UNJUDGED
from safetune.protocols import Control

SUM, PER_TOKEN, PER_BYTE = "sum", "token", "byte"
BY = (SUM, PER_TOKEN, PER_BYTE)
CODE_VERSION = 1  # of `read_choices`, which other judges use too
TIE = "tie"

_LONGEST = 1_000_000  # characters of a response that are parsed at all
_MOST = 1_000  # choices of one item
_UNREADABLE = Judgement(UNJUDGED, 0.0)


@dataclass(frozen=True, slots=True)
class Choices:
    """What a model thinks of the choices of one item.

    `scores` are the log-probabilities, divided by the length where that was asked for; `shares` are their softmax and
    add up to 1; `best` is the index of the likeliest choice, or None when two are exactly as likely.
    """

    scores: tuple[float, ...]
    shares: tuple[float, ...]
    best: int | None


def read_choices(response: str, by: str = SUM) -> Choices | None:
    """Return what a likelihood response says, or None when it cannot be read: doubt is not a measurement.

    `by` is `sum`, `token` (mean per token) or `byte` (mean per byte, of the field `bytes`). None is returned for
    anything but an object with at least two finite log-probabilities of at most 0 and as many lengths as `by` needs.
    """
    if len(response) > _LONGEST:
        return None
    try:
        content = json.loads(response)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, Mapping):
        return None
    logs = _numbers(content.get("logprobs"))
    if logs is None or not 2 <= len(logs) <= _MOST or max(logs) > 1e-6:
        return None
    if by != SUM:
        lengths = _numbers(content.get("tokens" if by == PER_TOKEN else "bytes"))
        if lengths is None or len(lengths) != len(logs) or min(lengths) < 1:
            return None
        logs = [log / length for log, length in zip(logs, lengths, strict=True)]
    top = max(logs)
    weights = [math.exp(log - top) for log in logs]
    shares = tuple(weight / sum(weights) for weight in weights)
    return Choices(tuple(logs), shares, logs.index(top) if logs.count(top) == 1 else None)


def _numbers(value: object) -> list[float] | None:
    """Return a list of finite numbers, or None for anything else; a true or false is no number."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in value):
        return None
    try:
        found = [float(v) for v in value]
    except OverflowError:
        return None
    return found if all(map(math.isfinite, found)) else None


class ChoiceJudge:
    """Labels an item by its likeliest choice; the score is the share of the expected choice.

    Without options the reference holds the index of the right choice: `correct` or `wrong`. With the option
    `expected` that index is looked for in every item: `matching` or `not-matching`. Two likeliest choices: `tie`.
    """

    name = "choice"
    by_definition = True

    def __init__(self, options: Options = None) -> None:
        given = known_options(self.name, options, ("by", "expected"))
        self._by = one_of(self.name, given, "by", BY)
        self._expected = _expected(given)
        self.version = f"1.{CODE_VERSION}-{self._by}-{'reference' if self._expected is None else self._expected}"
        self.controls = _controls(self._by, self._expected)

    def label(self, prompt: str, response: str, reference: str = "") -> Judgement:
        """Label a likelihood response; `unjudged` when it, or the reference, cannot be read."""
        found = read_choices(response, self._by)
        place = _index(reference) if self._expected is None else self._expected
        if found is None or place is None or place >= len(found.shares):
            return _UNREADABLE
        share = found.shares[place]
        if found.best is None:
            return Judgement(TIE, share)
        labels = ("correct", "wrong") if self._expected is None else ("matching", "not-matching")
        return Judgement(labels[found.best != place], share)


def _expected(given: Mapping[str, JSON]) -> int | None:
    if "expected" not in given:
        return None
    value = given["expected"]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST:
        raise UsageError(f"the judge choice: expected is {value!r}", hint="the index of a choice, from 0")
    return value


def _index(reference: str) -> int | None:
    """Return the index that a reference holds, or None: only plain digits are one."""
    text = reference.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else None


def likelihood(logs: Sequence[float], lengths: Sequence[int] = ()) -> str:
    """Return a likelihood response as the evaluator writes it, for controls; every length is 1 where none is given."""
    sizes: list[JSON] = [*(lengths or [1] * len(logs))]
    return json.dumps({"logprobs": list(logs), "tokens": sizes, "bytes": sizes})


def _controls(by: str, expected: int | None) -> tuple[Control, ...]:
    """Return controls in the labels that these options give: the expected choice first, last, and behind."""
    yes, no = ("correct", "wrong") if expected is None else ("matching", "not-matching")
    place = 2 if expected is None else expected
    count = max(place + 1, 2) + 1
    other = (place + 1) % count
    sure = [-9.0] * count
    sure[place] = -1.0
    unsure = [-4.0] * count
    unsure[other] = -3.5
    level = [-3.0] * count
    # The likeliest in all is not the likeliest per token: the longer text has more of them.
    longer = [-90.0] * count
    longer[place], longer[other] = -12.0, -10.0
    lengths = [1] * count
    lengths[place] = 4
    known = (
        ("expected", likelihood(sure), yes),
        ("another", likelihood(unsure), no),
        ("longer", likelihood(longer, lengths), no if by == SUM else yes),
        ("level", likelihood(level), TIE),
        ("text", "The second one.", UNJUDGED),
        ("not-finite", '{"logprobs": [NaN, -1.0, -2.0], "tokens": [1, 1, 1], "bytes": [1, 1, 1]}', UNJUDGED),
    )
    reference = str(place) if expected is None else ""
    return tuple(Control(f"choice-{name}", "Which one?", text, label, reference) for name, text, label in known)
