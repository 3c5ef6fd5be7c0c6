"""Thousands of gates whose truth is known: what is drawn, what the gate says of it, and what a naive rule would say.

Every verdict is that of `core.gate.decide`. Where it depends on counts alone it is kept by count, and where more events
are known never to help (tests of the gate's properties) those between two equal verdicts are not asked again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from unittest.mock import patch

import numpy as np
from gatelab import EXACT, HARM, arm, card, evidence, gate, rule, within
from numpy.typing import NDArray

from safetune.core import bounds, judge_error
from safetune.core.digest import JSON
from safetune.core.evidence import BASELINE, CANDIDATE, EvaluationReport, Item, SuiteEvidence
from safetune.core.gate import decide
from safetune.core.playbook import Guardrail, Limits
from safetune.core.power import max_events
from safetune.core.result import GateResult
from safetune.core.sampling import in_order
from safetune.core.verdict import Verdict

TRIALS, ALPHA, LOOKS = 10_000, 0.05, 20
Z = 1.6448536269514722  # normal quantile of 0.95
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@contextmanager
def remembering() -> Iterator[None]:
    """Keep what the pure functions under the bounds of rates return; the same arguments come again and again."""
    with ExitStack() as stack:
        for module, name in (
            (bounds, "min_n_absolute"),
            (bounds, "clopper_pearson_lower"),
            (bounds, "clopper_pearson_upper"),
            (judge_error, "clopper_pearson_lower"),
            (judge_error, "clopper_pearson_upper"),
            (judge_error, "corrected"),
        ):
            stack.enter_context(patch.object(module, name, cache(getattr(module, name))))
        yield


def bar(trials: int, alpha: float = ALPHA) -> float:
    """Return the share that a true chance of alpha exceeds in one of 700 simulations: three standard errors above."""
    return alpha + 3 * math.sqrt(alpha * (1 - alpha) / trials)


@dataclass(frozen=True, slots=True)
class Shares:
    """How often the gate passed and failed, and how often two naive rules passed: point estimate, plain error."""

    passed: float
    failed: float
    point: float = math.nan
    naive: float = math.nan


@dataclass
class Tally:
    """Counts what many trials say."""

    verdicts: list[Verdict] = field(default_factory=list)
    point: int = 0
    naive: int = 0

    def add(self, verdict: Verdict, value: float, error: float, limit: float) -> None:
        """Take in one trial: the gate's verdict, and a measured value with its plain standard error."""
        self.verdicts.append(verdict)
        self.point += value <= limit
        self.naive += value + Z * error <= limit

    @property
    def shares(self) -> Shares:
        """The shares of all trials."""
        n, found = len(self.verdicts), self.verdicts
        return Shares(found.count(Verdict.PASS) / n, found.count(Verdict.FAIL) / n, self.point / n, self.naive / n)


# -- evidence ----------------------------------------------------------------------------------------------------------


@cache
def _blanks(n: int, size: int, name: str, slices: int) -> tuple[tuple[Item, Item], ...]:
    """Return for each of n places the item that does not count and the one that does."""
    parts = {f"s{i:02}": n // slices for i in range(slices)} if slices else {"": n}
    two = (arm({part: letter * number for part, number in parts.items()}, name, size) for letter in "rc")
    return tuple(zip(*two, strict=True))


def items(values: Sequence[int] | Ints, size: int = 0, name: str = CANDIDATE, slices: int = 0) -> tuple[Item, ...]:
    """Return items of which those count whose value is 1; `size` in a row are a cluster, slices are equally large."""
    return tuple(two[v] for two, v in zip(_blanks(len(values), size, name, slices), values, strict=True))


def counted(events: int, n: int) -> tuple[Item, ...]:
    """Return n items of which the first `events` count."""
    return items([1] * events + [0] * (n - events))


def in_clusters(events: Ints, size: int) -> tuple[Item, ...]:
    """Return clusters of `size` items with so many events each."""
    return items([int(i < k) for k in events for i in range(size)], size)


def judged_card(right: tuple[int, int], rows: int, own: bool) -> JSON:
    """Return a card of `rows` rows of each label, with so many right ones among refusals and compliances."""
    yes, no = right
    counts = {"true_positive": yes, "false_negative": rows - yes, "true_negative": no, "false_positive": rows - no}
    return card(own, counts)


class ByCount:
    """The verdict of an `at_most` over n independent items by the number of events, asked no more often than needed."""

    def __init__(self, guardrail: Guardrail, n: int, calibration: JSON = EXACT) -> None:
        self._guardrail, self._n, self._calibration = guardrail, n, calibration
        self._seen: dict[Verdict, tuple[int, int]] = {}

    def __call__(self, events: int) -> Verdict:
        """Return the verdict; more events are never better, so what lies between two equal ones is the same."""
        for verdict, (low, high) in self._seen.items():
            first = 0 if verdict is Verdict.PASS else low
            last = 10**9 if verdict is Verdict.FAIL else high
            if first <= events <= last:
                return verdict
        measured = evidence(counted(events, self._n), calibration=self._calibration)
        found = gate(measured, self._guardrail).verdict
        low, high = self._seen.get(found, (events, events))
        self._seen[found] = (min(low, events), max(high, events))
        return found


# -- truths ------------------------------------------------------------------------------------------------------------


def beta_binomial(rng: np.random.Generator, rate: float, correlation: float, shape: tuple[int, int]) -> Ints:
    """Return events per cluster; `shape` is clusters, items of each."""
    clusters, size = shape
    a, b = (share * (1 / correlation - 1) for share in (rate, 1 - rate))
    return rng.binomial(size, rng.beta(a, b, clusters))


def independent(limit: float, rate: float, n: int, trials: int = TRIALS, *, floor: bool = False) -> Shares:
    """Return what a fixed n does; `floor` holds the opposite event against `at_least`."""
    guardrail = rule(at_least=1 - limit) if floor else rule(at_most=limit)

    @cache
    def verdict(bad: int) -> Verdict:
        return gate(evidence(counted(n - bad if floor else bad, n)), guardrail).verdict

    rng, tally = np.random.default_rng([n, 11 if floor else 1]), Tally()
    for bad in rng.binomial(n, rate, trials):
        p = bad / n
        tally.add(verdict(int(bad)), p, math.sqrt(p * (1 - p) / n), limit)
    return tally.shares


def clustered(
    limit: float, rate: float, shape: tuple[int, int], correlation: float = 0.2, trials: int = TRIALS
) -> Shares:
    """Return what clusters do. Their order and that of items does not matter, so verdicts are kept by sorted counts."""
    clusters, size = shape

    @cache
    def verdict(events: tuple[int, ...]) -> Verdict:
        return gate(evidence(in_clusters(np.array(events), size)), rule(at_most=limit)).verdict

    rng, tally, n = np.random.default_rng([clusters, 2]), Tally(), clusters * size
    for _ in range(trials):
        events = beta_binomial(rng, rate, correlation, shape)
        p = events.sum() / n
        tally.add(verdict(tuple(sorted(events.tolist()))), p, math.sqrt(p * (1 - p) / n), limit)
    return tally.shares


def _arms(worse: Ints, better: Ints, size: int) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Return candidate and baseline in clusters of `size` with so many worse and better items.

    A quarter of the rest counts in both. With one cluster the items are independent.
    """
    now, before = [], []
    for w, b in zip(worse, better, strict=True):
        both = (size - w - b) // 4
        rest = size - w - b - both
        now += [1] * w + [0] * b + [1] * both + [0] * rest
        before += [0] * w + [1] * b + [1] * both + [0] * rest
    within = size if len(worse) > 1 else 0
    return items(now, within), items(before, within, BASELINE)


def paired(limits: Limits, worsening: float, discordant: float, shape: tuple[int, int]) -> Shares:
    """Return what pairs do; `shape` is clusters, items of each; in several, outcomes correlate by .2 (Dirichlet)."""
    guardrail, (clusters, size), n = within(limits), shape, shape[0] * shape[1]
    mean = np.array([(discordant + worsening) / 2, (discordant - worsening) / 2, 1 - discordant])

    @cache
    def verdict(counts: tuple[tuple[int, int], ...]) -> Verdict:
        worse, better = np.array(counts).T
        return gate(evidence(*_arms(worse, better, size)), guardrail).verdict

    margin = limits.worse_by_at_most if limits.worse_by_at_most is not None else -(limits.better_by_at_least or 0.0)
    rng, tally = np.random.default_rng([n, 3]), Tally()
    for _ in range(TRIALS):
        shares = mean if clusters == 1 else rng.dirichlet(4 * mean, clusters)
        counts = rng.multinomial(size, shares, None if clusters > 1 else 1)[:, :2]
        worse, better = counts.sum(axis=0) / n
        error = math.sqrt(max(worse + better - (worse - better) ** 2, 0.0) / n)
        tally.add(verdict(tuple(sorted(map(tuple, counts.tolist())))), worse - better, error, margin)
    return tally.shares


@dataclass(frozen=True, slots=True)
class Judge:
    """A judge of refusals: what it does on the items, what the card's sample says of it, and whose card that is."""

    sensitivity: float = 0.9
    specificity: float = 0.9
    card: tuple[float, float] = (0.9, 0.9)  # of the event: sensitivity, specificity
    rows: int = 400
    own: bool = True

    def reads(self, rate: float) -> float:
        """Return the rate that it reports."""
        return rate * self.sensitivity + (1 - rate) * (1 - self.specificity)

    def draw(self, rng: np.random.Generator) -> tuple[int, int]:
        """Return how many rows a card has right: of refusals, of compliances, which are the event."""
        se, sp = self.card
        return int(rng.binomial(self.rows, sp)), int(rng.binomial(self.rows, se))


def judged(limit: float, rate: float, judge: Judge, n: int = 400) -> Shares:
    """Return what a judge with a card does; each trial draws its card anew."""

    @cache
    def known(right: tuple[int, int]) -> ByCount:
        return ByCount(rule(at_most=limit), n, judged_card(right, judge.rows, judge.own))

    rng, tally = np.random.default_rng([judge.rows, 4]), Tally()
    for _ in range(TRIALS):
        events = int(rng.binomial(n, judge.reads(rate)))
        p = events / n
        tally.add(known(judge.draw(rng))(events), p, math.sqrt(p * (1 - p) / n), limit)
    return tally.shares


def scored(limit: float, draw: Callable[[np.random.Generator], Floats], trials: int = TRIALS) -> Shares:
    """Return what scores do."""
    rng, tally = np.random.default_rng(5), Tally()
    blank = arm("r")[0]
    for _ in range(trials):
        scores = draw(rng)
        now = tuple(replace(blank, item_id=f"p{i}", judge_score=float(score)) for i, score in enumerate(scores))
        error = float(scores.std(ddof=1)) / math.sqrt(len(scores))
        tally.add(gate(evidence(now), rule(HARM, at_most=limit)).verdict, float(scores.mean()), error, limit)
    return tally.shares


# -- looks -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sequence20:
    """Items asked in twenty looks until the gate is decided: clusters of `size` items, or single ones with size 1."""

    limit: float
    clusters: int
    size: int = 1
    judge: Judge | None = None

    @property
    def n(self) -> int:
        """How many items are planned."""
        return self.clusters * self.size

    def guardrail(self) -> Guardrail:
        """Return the sequential guardrail."""
        return replace(rule(at_most=self.limit), sequential=True)

    def draw(self, rng: np.random.Generator, rate: float) -> Ints:
        """Return events per cluster in the order in which they are asked."""
        if self.size == 1:
            return (rng.random(self.clusters) < (self.judge.reads(rate) if self.judge else rate)).astype(np.int64)
        return beta_binomial(rng, rate, 0.2, (self.clusters, self.size))

    def order(self) -> Sequence[int]:
        """Return the places of the clusters in the order of their digests."""
        keys = [f"cluster family {i}" if self.size > 1 else f"p{i}" for i in range(self.clusters)]
        place = {key: i for i, key in enumerate(keys)}
        return [place[key] for key in in_order(keys)]

    def after(self, events: Ints, look: int, calibration: JSON = EXACT) -> GateResult:
        """Return what the gate says after so many of the twenty looks."""
        asked = self.order()[: self.clusters * look // LOOKS]
        placed = np.zeros(self.clusters, np.int64)
        placed[list(self.order())] = events
        every = in_clusters(placed, self.size) if self.size > 1 else items(placed)
        now = tuple(item for i in sorted(asked) for item in every[i * self.size : (i + 1) * self.size])
        told: JSON = {"planned": self.n, "largest": self.size}
        return gate(evidence(now, calibration=calibration, told={"sequential": told}), self.guardrail())


def sequential(asking: Sequence20, rate: float, trials: int = TRIALS) -> tuple[Shares, float]:
    """Return what all looks together do, and the median of items read; naive rules look twenty times, too.

    A decision on a part stays when more items follow, so that the verdict over all items is the one that some look gave
    (a test asks all twenty).
    """
    rng, verdicts, read = np.random.default_rng([asking.n, 6]), [], []
    ends = [asking.clusters * look // LOOKS for look in range(1, LOOKS + 1)]
    allowed = [max_events(end * asking.size, asking.limit, 1 - ALPHA) for end in ends]
    point = naive = 0
    for _ in range(trials):
        events = asking.draw(rng, rate)
        judge = asking.judge
        calibration = judged_card(judge.draw(rng), judge.rows, judge.own) if judge else EXACT
        found = asking.after(events, LOOKS, calibration)
        verdicts.append(found.verdict)
        note = found.results[0].notes[0].split()
        read.append(int(note[2]) if note[0] == "decided" else asking.n)
        sums = events.cumsum()[[end - 1 for end in ends]]
        point += any(k <= asking.limit * end * asking.size for k, end in zip(sums, ends, strict=True))
        naive += any(most is not None and k <= most for k, most in zip(sums, allowed, strict=True))
    passed, failed = (verdicts.count(v) / trials for v in (Verdict.PASS, Verdict.FAIL))
    return Shares(passed, failed, point / trials, naive / trials), float(np.median(read))


# -- several limits ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Family:
    """How often a gate of many limits passed and failed, and would have failed without Holm's procedure."""

    passed: float
    failed: float
    failed_without_holm: float


def family(found: Sequence[GateResult]) -> Family:
    """Return the shares of many gates."""
    n = len(found)
    suspects = [any(r.verdict is Verdict.FAIL or "(Holm)" in r.reason for r in one.results) for one in found]
    passed, failed = (sum(one.verdict is v for one in found) / n for v in (Verdict.PASS, Verdict.FAIL))
    return Family(passed, failed, sum(suspects) / n)


def sliced(guardrail: Guardrail, rates: Sequence[float], each: int, trials: int = TRIALS) -> Family:
    """Return what a gate over slices of `each` items with these true rates does, the whole suite held to it as well."""
    rng, n = np.random.default_rng([each, 7]), each * len(rates)
    truth, found = np.repeat(rates, each), []
    for _ in range(trials):
        values = (rng.random(n) < truth).astype(np.int64)
        found.append(gate(evidence(items(values, slices=len(rates))), guardrail))
    return family(found)


def guarded(limit: float, rates: Sequence[float], n: int, trials: int = TRIALS) -> Family:
    """Return what a gate of several guardrails does, each over a suite of its own with `n` items."""
    names = [f"suite {i}" for i in range(len(rates))]
    guardrails = tuple(replace(rule(at_most=limit), name=name, suite=name) for name in names)

    @cache
    def measured(name: str, events: int) -> SuiteEvidence:
        now = tuple(replace(item, suite=name) for item in counted(events, n))
        return replace(evidence(now), suite=name)

    @cache
    def verdict(events: tuple[int, ...]) -> GateResult:
        suites = tuple(measured(name, k) for name, k in zip(names, events, strict=True))
        return decide(guardrails, EvaluationReport("candidate", "", suites))

    rng = np.random.default_rng([n, 8])
    return family([verdict(tuple(rng.binomial(n, rates).tolist())) for _ in range(trials)])
