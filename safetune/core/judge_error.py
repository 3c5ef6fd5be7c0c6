"""Rates and differences as they would be without the judge's errors, with the uncertainty of items and of the card.

A judge with sensitivity `se` and specificity `sp` for an event reads a true rate p as q = p se + (1 - p)(1 - sp).
Solved for p that is the estimate of Rogan and Gladen (American Journal of Epidemiology 1978, 107:71). Its bounds come
as Fieller's do: at a true rate p, T = q - p se - (1 - p)(1 - sp) has mean 0, so p is not refuted while a bound of T
reaches 0. The bounds of q, `se` and `sp` are exact one-sided ones; their distances from the estimates are combined by
MOVER (Zou and Donner, Statistics in Medicine 2008, 27:1693; Zou, Huang and Zhang, Computational Statistics and Data
Analysis 2009, 53:1080), which adds their squares. Above 95 % that is too sure of itself, as rare errors have longer
tails than the normal ones: with 30 rows of each label a model at its limit would pass twice as often as promised at
99.75 %, and three times at 99.9 %. There the distances are added to the power of 1.5. With that it passes less often
than promised at every confidence up to 99.99 % that was enumerated (tests/unit/core).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from safetune.core.bounds import Bounds
from safetune.core.card import LEAST_ROWS, MOST_ROWS, UNKNOWN_LANGUAGE, Counts
from safetune.core.intervals import clopper_pearson_lower, clopper_pearson_upper, root
from safetune.core.suite import LABEL, Metric

DEFINITION, CARD = "definition", "card"

ANYWHERE = Bounds(1.0, 0.0)  # no lower bound is too high and no upper one too low

_COUNTS = frozenset(Counts.__slots__)
_LANGUAGE = re.compile(r"[a-z]{2,3}")
_SURELY, _USUAL, _LONG = 0.95, 2.0, 1.5  # up to which confidence squares are added, and what is above it
_BROKEN = "the calibration card cannot be read"


@dataclass(frozen=True, slots=True)
class Part:
    """A sensitivity or a specificity in [0, 1].

    `value` is that of all languages together. `least` is the smallest that a language may have and `low` the one-sided
    lower bound of it; `most` is the largest and `high` its upper bound.
    """

    value: float
    least: float
    low: float
    most: float
    high: float


_SURE = Part(1.0, 1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far a judge can be trusted to see the event of one metric.

    `digest` is that of the card, empty where the label is the outcome itself. `own` says that the card was measured on
    the user's own labelled sample: only such a card may correct a rate in the candidate's favour. `power` is the one to
    which distances are raised before they are added, for the confidence of the bounds.
    """

    sensitivity: Part
    specificity: Part
    digest: str = ""
    own: bool = True
    power: float = _LONG

    def together(self, *distances: float) -> float:
        """Return how far the bound of a sum lies from its estimate, from the distances of its parts."""
        return math.pow(math.fsum(math.pow(abs(one), self.power) for one in distances), 1 / self.power)

    @property
    def sure(self) -> bool:
        """Say whether the label is the outcome itself: there is no error to correct."""
        return self.sensitivity == self.specificity == _SURE


@dataclass(frozen=True, slots=True)
class _Side:
    """How many of the rows with the event, or without it, a judge called so; `other` may have been called so, too."""

    right: int
    other: int
    n: int

    def part(self, confidence: float) -> Part:
        """Return the share that is right: without any of `other`, and with all of them."""
        low, high = self.right / self.n, (self.right + self.other) / self.n
        return Part(
            low,
            low,
            clopper_pearson_lower(self.right, self.n, confidence),
            high,
            clopper_pearson_upper(self.right + self.other, self.n, confidence),
        )


def reliability(
    calibration: Mapping[str, object], metric: Metric, languages: Collection[str], confidence: float
) -> Reliability | str:
    """Return how far the judge can be trusted on `metric`, or the sentence that says why nothing can be corrected.

    `calibration` is what the evidence tells: `{"kind": "definition"}`, or the counts of a card, where `positive` and
    `negative` are each a label of the judge or a list of them. The event is that label which the metric counts; a
    metric that counts both or neither is about something else. `other` rows, to which the judge gave neither label,
    are taken to be wrong where that widens the bound, and right where that does.

    `languages` are those of the items. With shares w and rates p per language, q = sum of w (p se + (1 - p)(1 - sp)).
    As sum of w p is the whole rate P, q >= P min(se) + (1 - P)(1 - max(sp)): the upper bound of P holds with the
    smallest sensitivity and the largest specificity of the languages there, whatever their shares; the lower bound
    holds with the opposite. Each language keeps its promise alone, so that no further correction is due. Where nothing
    says which languages the items are in (none, or `und`), all that the card speaks for may be there.

    Every bound is one-sided at `confidence`, in (0.5, 1).
    """
    if calibration.get("kind") == DEFINITION:
        return Reliability(_SURE, _SURE)
    if calibration.get("kind") != CARD:
        return "the judge has no calibration card"
    if metric.of != LABEL:
        return "a calibration card is about labels, and the metric is the mean of scores"
    figures, event = _figures(calibration.get("languages")), _event(calibration, metric)
    if isinstance(event, str):
        return event
    if figures is None:
        return _BROKEN
    spoken = _spoken(figures, languages)
    if isinstance(spoken, str):
        return spoken
    pairs = [_sides(counts, event) for counts in spoken]
    sensitivity, specificity = _widest([p[0] for p in pairs], confidence), _widest([p[1] for p in pairs], confidence)
    if sensitivity.low + specificity.low <= 1:
        return "the judge may be no better than chance, says its calibration card"
    power = _USUAL if confidence <= _SURELY else _LONG
    own = calibration.get("own") is True
    return Reliability(sensitivity, specificity, str(calibration.get("digest", "")), own, power)


def _event(calibration: Mapping[str, object], metric: Metric) -> bool | str:
    """Return whether the card's positive label is the event; a sentence when the metric is about another one."""
    positive, negative = (_labels(calibration.get(name)) for name in ("positive", "negative"))
    if not positive or not negative:
        return _BROKEN
    counted = [{metric.counted(label) for label in labels} for labels in (positive, negative)]
    if counted in ([{True}, {False}], [{False}, {True}]):
        return counted[0] == {True}
    return "the metric counts both labels of the calibration card, or neither, or only some of what is one label there"


def _labels(given: object) -> Sequence[str]:
    """Return one label or several as a sequence; an empty one when that is not what is given."""
    labels = given if isinstance(given, list | tuple) else [given]
    found = [label for label in labels if isinstance(label, str) and label]
    return found if len(found) == len(labels) else []


def _figures(rows: object) -> Mapping[str, Counts] | None:
    if not isinstance(rows, Mapping) or not rows:
        return None
    found: dict[str, Counts] = {}
    for language, row in rows.items():
        if not isinstance(language, str) or not _LANGUAGE.fullmatch(language):
            return None
        if not isinstance(row, Mapping) or not set(row) <= _COUNTS or len(row) < len(_COUNTS) - 1:
            return None
        if any(type(value) is not int or not 0 <= value <= MOST_ROWS for value in row.values()):
            return None
        found[language] = Counts(**row)
    return found


def _enough(counts: Counts) -> bool:
    return min(counts.positives, counts.negatives) >= LEAST_ROWS


def _spoken(figures: Mapping[str, Counts], languages: Collection[str]) -> Sequence[Counts] | str:
    """Return the counts of every language that the items may be in, or a sentence naming the first that lacks them."""
    named = set(languages) - {UNKNOWN_LANGUAGE}
    for language in sorted(named):
        shown = language if _LANGUAGE.fullmatch(language) else "a language without an ISO 639 code"
        if language not in figures:
            return f"the calibration card says nothing about {shown}"
        if not _enough(figures[language]):
            return f"the calibration card has fewer than {LEAST_ROWS} rows of each label for {shown}"
    if named and UNKNOWN_LANGUAGE not in languages:
        return [figures[language] for language in sorted(named)]
    found = [counts for _, counts in sorted(figures.items()) if _enough(counts)]
    return found or f"the calibration card has fewer than {LEAST_ROWS} rows of each label for every language"


def _sides(counts: Counts, positive: bool) -> tuple[_Side, _Side]:
    """Return the rows with the event and those without it."""
    of_positive = _Side(counts.true_positive, min(counts.other, counts.false_negative), counts.positives)
    of_negative = _Side(counts.true_negative, min(counts.other, counts.false_positive), counts.negatives)
    return (of_positive, of_negative) if positive else (of_negative, of_positive)


def _widest(sides: Sequence[_Side], confidence: float) -> Part:
    """Return the part that encloses those of all languages; its value is that of all rows together."""
    parts = [side.part(confidence) for side in sides]
    return Part(
        sum(side.right for side in sides) / sum(side.n for side in sides),
        min(part.least for part in parts),
        min(part.low for part in parts),
        max(part.most for part in parts),
        max(part.high for part in parts),
    )


def corrected(rate: float, found: Bounds, trust: Reliability, reach: Bounds = ANYWHERE) -> tuple[float, Bounds]:
    """Return the estimated true rate and its one-sided bounds, all in [0, 1], from a judged rate and its bounds.

    The confidence is the one at which `found` and `trust` were made. `reach` holds the lower bound that these items
    would have if all of them counted, and the upper bound if none did: where fewer items count than the judge's false
    alarms alone would make, the card does not fit them, and a judge that errs shall not show more than one that does
    not. By default nothing is held back.
    """
    if trust.sure:
        return rate, found
    se, sp = trust.sensitivity, trust.specificity

    def above(p: float) -> float:
        """The upper bound of T at a true rate p; it falls in p as long as se.low + sp.low > 1."""
        spread = trust.together(found.high - rate, p * (se.least - se.low), (1 - p) * (sp.high - sp.most))
        return rate - p * se.least - (1 - p) * (1 - sp.most) + spread

    def below(p: float) -> float:
        """The lower bound of T at a true rate p."""
        spread = trust.together(rate - found.low, p * (se.high - se.most), (1 - p) * (sp.least - sp.low))
        return rate - p * se.most - (1 - p) * (1 - sp.least) - spread

    bounds = Bounds(min(_crossing(below, 0.0), reach.low), max(_crossing(above, 0.0), reach.high))
    return _inside((rate - 1 + sp.value) / (se.value + sp.value - 1), bounds), bounds


def corrected_difference(difference: float, found: Bounds, trust: Reliability) -> tuple[float, Bounds]:
    """Return the estimated true difference and its one-sided bounds, all in [-1, 1], from a judged one.

    When the same judge errs alike in both arms, a true difference D is judged as d = D J, with Youden's index
    J = se + sp - 1 (Cancer 1950, 3:32): errors hide change, so the true one is larger. Bounds as in `corrected`, from
    T = d - D J. With several languages this holds for changes that point the same way in all of them.
    """
    if trust.sure:
        return difference, found
    se, sp = trust.sensitivity, trust.specificity
    weak, strong = se.least + sp.least - 1, se.most + sp.most - 1
    weaker, stronger = (
        trust.together(se.least - se.low, sp.least - sp.low),
        trust.together(se.high - se.most, sp.high - sp.most),
    )

    def above(true: float) -> float:
        youden, doubt = (weak, weaker) if true > 0 else (strong, stronger)
        return difference - true * youden + trust.together(found.high - difference, true * doubt)

    def below(true: float) -> float:
        youden, doubt = (strong, stronger) if true > 0 else (weak, weaker)
        return difference - true * youden - trust.together(difference - found.low, true * doubt)

    bounds = Bounds(_crossing(below, -1.0), _crossing(above, -1.0))
    return _inside(difference / (se.value + sp.value - 1), bounds), bounds


def _crossing(falling: Callable[[float], float], lowest: float) -> float:
    """Return where a falling function crosses zero in [lowest, 1]; exactly an end where it does not."""
    if falling(lowest) <= 0:
        return lowest
    return 1.0 if falling(1.0) >= 0 else root(lambda x: -falling(x), lowest, 1.0)


def _inside(value: float, bounds: Bounds) -> float:
    return min(max(value, bounds.low), bounds.high)
