"""The simulated gates of docs/statistics.md: one row each, and whether it keeps its promise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import gatesim as sim
import numpy as np
from gatelab import ATTACKS, EXACT, card, evidence, rule
from gatesim import ALPHA, TRIALS, Family, Judge, Sequence20, Shares

from safetune.core.alpha import Terms, cost
from safetune.core.evidence import EvaluationReport
from safetune.core.gate import decide
from safetune.core.playbook import Guardrail, Limits, Slices
from safetune.core.power import min_n_absolute, power_absolute
from safetune.core.preview import Sample, power_of
from safetune.core.sequential import Question, expected_items
from safetune.core.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table, and the shares in it that must not exceed their bar."""

    cells: tuple[str, ...]
    errors: tuple[float, ...] = ()
    bar: float = sim.bar(TRIALS)

    @property
    def kept(self) -> bool:
        """Whether every error is within the bar."""
        return all(error <= self.bar for error in self.errors)

    @property
    def text(self) -> str:
        """The row in Markdown."""
        return f"| {' | '.join(self.cells)} |"


def percent(share: float) -> str:
    """Return a share as text."""
    return "" if math.isnan(share) else f"{100 * share:.1f} %"


# -- the truth exactly at the limit ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AtTheLimit:
    """A gate whose truth is at its limit; PASS and FAIL are both wrong then. Some are only shown, without a promise."""

    name: str
    run: Callable[[], Shares]
    promised: bool = True

    def row(self) -> Row:
        """Simulate it."""
        found = self.run()
        cells = (self.name, *map(percent, (found.passed, found.failed, found.point, found.naive)))
        return Row(cells, (found.passed, found.failed) if self.promised else ())


def _fixed() -> Sequence[AtTheLimit]:
    found = []
    for n in (60, 100, 400):
        for limit in (0.05, 0.2):
            for floor in (False, True):
                text = f"`at_least: {1 - limit:.2f}`" if floor else f"`at_most: {limit:.2f}`"
                run = partial(sim.independent, limit, limit, n, floor=floor)
                found.append(AtTheLimit(f"{text}, n = {n}", run))
    return found


def _clustered() -> Sequence[AtTheLimit]:
    return [
        AtTheLimit(
            f"`at_most: {limit:.2f}`, {clusters} clusters of 16, correlation {correlation}",
            partial(sim.clustered, limit, limit, (clusters, 16), correlation),
            promised=correlation == 0.2,
        )
        for clusters, limit, correlation in (
            (20, 0.05, 0.2), (20, 0.2, 0.2), (40, 0.2, 0.2), (20, 0.05, 0.5), (20, 0.2, 0.5),
        )
    ]  # fmt: skip


def _paired() -> Sequence[AtTheLimit]:
    worse, better = Limits(worse_by_at_most=0.05), Limits(better_by_at_least=0.05)
    some, more = (1, 120), (1, 400)
    return [
        AtTheLimit("`worse_by_at_most: 0.05`, 120 pairs", partial(sim.paired, worse, 0.05, 0.1, some)),
        AtTheLimit("`worse_by_at_most: 0.05`, 400 pairs", partial(sim.paired, worse, 0.05, 0.1, more)),
        AtTheLimit("`better_by_at_least: 0.05`, 400 pairs", partial(sim.paired, better, -0.05, 0.1, more)),
        AtTheLimit(
            "`worse_by_at_most: 0.05`, 30 clusters of 8 pairs, correlation 0.2",
            partial(sim.paired, worse, 0.05, 0.1, (30, 8)),
        ),
    ]


def _judged() -> Sequence[AtTheLimit]:
    found = [
        AtTheLimit(
            f"`at_most: {limit:.2f}`, n = 400, {'own' if own else 'bundled'} card of {rows} + {rows} rows",
            partial(sim.judged, limit, limit, Judge(rows=rows, own=own)),
        )
        for own, rows in ((True, 100), (True, 400), (False, 400))
        for limit in (0.05, 0.2)
    ]
    kinder = Judge(sensitivity=0.9, specificity=0.97)  # the card says .9 for both
    misses = Judge(sensitivity=0.7, specificity=0.9)
    return [
        *found,
        AtTheLimit(
            "`at_most: 0.20`, n = 400, own card of 400 + 400 rows, but specificity is .97 on these items",
            partial(sim.judged, 0.2, 0.2, kinder),
            promised=False,
        ),
        AtTheLimit(
            "the same with a bundled card", partial(sim.judged, 0.2, 0.2, replace(kinder, own=False)), promised=True
        ),
        AtTheLimit(
            "`at_most: 0.20`, n = 400, own card of 400 + 400 rows, but sensitivity is .7 on these items",
            partial(sim.judged, 0.2, 0.2, misses),
            promised=False,
        ),
        AtTheLimit(
            "the same with a bundled card", partial(sim.judged, 0.2, 0.2, replace(misses, own=False)), promised=False
        ),
    ]


def _sequential() -> Sequence[AtTheLimit]:
    asked = {
        "`at_most: 0.05`, 20 looks at 400 items": Sequence20(0.05, 400),
        "`at_most: 0.20`, 20 looks at 200 items": Sequence20(0.2, 200),
        "`at_most: 0.05`, 20 looks at 40 clusters of 16": Sequence20(0.05, 40, 16),
        "`at_most: 0.20`, 20 looks at 25 clusters of 16": Sequence20(0.2, 25, 16),
        "`at_most: 0.20`, 20 looks at 200 items, own card of 100 + 100 rows": Sequence20(0.2, 200, 1, Judge(rows=100)),
    }
    return [AtTheLimit(name, partial(_looked, one)) for name, one in asked.items()]


def _looked(asking: Sequence20) -> Shares:
    return sim.sequential(asking, asking.limit)[0]


def _scored() -> Sequence[AtTheLimit]:
    return [
        AtTheLimit(
            "mean score `at_most: 0.10`, n = 60, most scores near 0 or 1 (beta .1, .9)",
            partial(sim.scored, 0.1, lambda rng: rng.beta(0.1, 0.9, 60)),
        ),
        AtTheLimit(
            "mean score `at_most: 0.10`, n = 100, one long tail (beta 1, 9)",
            partial(sim.scored, 0.1, lambda rng: rng.beta(1, 9, 100)),
        ),
        AtTheLimit(
            "mean score `at_most: 0.05`, n = 100, all 0 or 1",
            partial(sim.scored, 0.05, lambda rng: (rng.random(100) < 0.05).astype(float)),
        ),
    ]


AT_THE_LIMIT: Mapping[str, Sequence[AtTheLimit]] = {
    "fixed": _fixed(),
    "clusters": _clustered(),
    "pairs": _paired(),
    "judge": _judged(),
    "sequential": _sequential(),
    "scores": _scored(),
}


# -- many limits -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Many:
    """A gate of several limits. `passes_wrongly` says that a PASS is an error: some truth is at its limit."""

    name: str
    run: Callable[[], Family]

    def row(self) -> Row:
        """Simulate it."""
        found = self.run()
        shares = (found.passed, found.failed, found.failed_without_holm)
        return Row((self.name, *map(percent, shares)), (found.passed, found.failed))


_SLICED = rule(at_most=0.2, slices=Slices())
MANY: Sequence[Many] = (
    Many("20 slices of 30 items, all at `at_most: 0.20`", partial(sim.sliced, _SLICED, [0.2] * 20, 30)),
    Many(
        "20 slices of 30 items, 19 without an event, 1 at the limit",
        partial(sim.sliced, _SLICED, [0.0] * 19 + [0.2], 30),
    ),
    Many("5 guardrails of n = 100, all at `at_most: 0.20`", partial(sim.guarded, 0.2, [0.2] * 5, 100)),
    Many("5 guardrails of n = 100, 4 far inside, 1 at the limit", partial(sim.guarded, 0.2, [0.05] * 4 + [0.2], 100)),
)


# -- power -------------------------------------------------------------------------------------------------------------

_N = 400


@dataclass(frozen=True, slots=True)
class Power:
    """What `safetune plan` calls recognised with 80 % power, and how often the gate recognises it."""

    name: str
    guardrail: Guardrail
    sample: Sample
    run: Callable[[float], Shares]

    @property
    def detectable(self) -> float:
        """The distance from the limit that the plan names."""
        (found,) = power_of(self.guardrail, self.sample)
        assert found.detectable is not None, self.name
        return found.detectable

    def row(self) -> Row:
        """Simulate a truth so far inside the limit."""
        distance = self.detectable
        found = self.run(distance).passed
        return Row((self.name, f"{100 * distance:.1f} points", percent(found)), (abs(found - 0.8),), 0.04)


def _card_sample() -> Sample:
    calibration = card()
    assert isinstance(calibration, Mapping)
    return Sample(_N, None, {}, ATTACKS, "judge", calibration, ("en",))


def _plain_sample(n: int, clusters: int | None = None) -> Sample:
    assert isinstance(EXACT, Mapping)
    return Sample(n, clusters, {}, ATTACKS, "judge", EXACT, ())


def _some(asking: Sequence20, distance: float) -> Shares:
    return sim.sequential(asking, asking.limit - distance, 2_000)[0]


def _narrow(distance: float) -> Shares:
    return sim.paired(Limits(worse_by_at_most=distance), 0.0, 0.1, (1, _N))


POWER: Sequence[Power] = (
    Power(
        "`at_most: 0.05`, n = 400", rule(at_most=0.05), _plain_sample(_N),
        lambda d: sim.independent(0.05, 0.05 - d, _N),
    ),
    Power(
        "`at_most: 0.20`, n = 100", rule(at_most=0.2), _plain_sample(100),
        lambda d: sim.independent(0.2, 0.2 - d, 100),
    ),
    Power(
        "`at_most: 0.20`, 25 clusters of 16, correlation 0.2", rule(at_most=0.2), _plain_sample(_N, 25),
        lambda d: sim.clustered(0.2, 0.2 - d, (25, 16)),
    ),
    Power(
        "a margin, 400 pairs, 10 % differ, no change", rule(worse_by_at_most=0.05), _plain_sample(_N), _narrow,
    ),
    Power(
        "`at_most: 0.20`, n = 400, own card of 400 + 400 rows", rule(at_most=0.2), _card_sample(),
        lambda d: sim.judged(0.2, 0.2 - d, Judge()),
    ),
    Power(
        "`at_most: 0.05`, n = 400, sequential", Sequence20(0.05, _N).guardrail(), _plain_sample(_N),
        partial(_some, Sequence20(0.05, _N)),
    ),
)  # fmt: skip

CURVE = (0.005, 0.01, 0.02, 0.025, 0.03, 0.04, 0.05)


def curve_row(truth: float) -> Row:
    """Return the chance that a gate of at most 5 % over 400 items passes: theory and simulation, fixed and in turn."""
    fixed, early = sim.independent(0.05, truth, _N), Sequence20(0.05, _N)
    seen, median = sim.sequential(early, truth, 1_000)
    outlook = expected_items(Question(0.05, ALPHA, ALPHA), truth, _N)
    shares = (power_absolute(_N, 0.05, truth, 1 - ALPHA), fixed.passed, outlook.below, seen.passed)
    theory, simulated = shares[::2], shares[1::2]
    errors = tuple(abs(a - b) for a, b in zip(theory, simulated, strict=True))
    return Row((percent(truth), *map(percent, shares), f"{median:.0f}"), errors, 4 * math.sqrt(0.25 / 1_000))


# -- what stopping early saves -----------------------------------------------------------------------------------------


def fixed_n(limit: float, truth: float) -> int:
    """Return the n with which a test for a fixed n shows the truth's side of the limit with 80 % power."""
    over = truth > limit
    n = min_n_absolute(1 - limit if over else limit, 1 - truth if over else truth, 1 - ALPHA)
    assert n is not None
    return n


def wald(limit: float, truth: float, miss: float = 0.2) -> float:
    """Return what Wald's test of the limit against this one truth reads on average (Wald and Wolfowitz 1948)."""
    gain = truth * math.log(truth / limit) + (1 - truth) * math.log((1 - truth) / (1 - limit))
    return ((1 - miss) * math.log((1 - miss) / ALPHA) + miss * math.log(miss / (1 - ALPHA))) / gain


def saving_row(limit: float, times: float) -> Row:
    """Return how many items are read when the truth is `times` the limit, for several numbers planned; exact.

    The promise is about the last number: half of all runs are decided within 40 % of it.
    """
    truth, cells = limit * times, [percent(limit), percent(limit * times)]
    n = fixed_n(limit, truth)
    cells += [str(n), f"{wald(limit, truth):.0f} ({wald(limit, truth) / n:.0%})"]
    for planned in (400, 1000):
        found = expected_items(Question(limit, ALPHA, ALPHA), truth, planned)
        right = found.below if times < 1 else found.above
        median = "over half undecided" if found.median is None else f"{found.median} ({found.median / planned:.0%})"
        cells.append(f"{median}, {right:.0%}")
    assert found.median is not None
    return Row(tuple(cells), (found.median / planned,), 0.4)


SAVINGS = tuple((limit, times) for limit in (0.05, 0.1, 0.2) for times in (0.5, 2.0))


# -- again and again ---------------------------------------------------------------------------------------------------


def until_green(
    limit: float, rate: float, n: int, *, same: bool, budget: float = math.inf, trials: int = TRIALS
) -> float:
    """Return how often one of 50 gates passes, on new responses each.

    With `same` it is one checkpoint that is asked about again, else a new one each time; infinite is no budget.
    """

    @cache
    def verdict(events: int, attempt: int, left: float) -> tuple[Verdict, float]:
        report = EvaluationReport("candidate", "", (evidence(sim.counted(events, n)),))
        found = decide((rule(at_most=limit),), report, Terms(attempt, left))
        return found.verdict, found.spent

    rng, promoted = np.random.default_rng([n, 9]), 0
    for _ in range(trials):
        spent = 0.0
        for attempt, events in enumerate(rng.binomial(n, rate, 50).tolist(), 1):
            found, price = verdict(events, attempt if same else 1, max(budget - spent, 0.0))
            spent += price
            if found is Verdict.PASS:
                promoted += 1
                break
    return promoted / trials


GREEN = tuple((truth, same) for truth in (0.05, 0.06, 0.1) for same in (True, False))


def green_row(truth: float, same: bool, trials: int = TRIALS) -> Row:
    """Return how often one of 50 gates of at most 5 % over 400 items passes; with the budget it is an error."""
    budget = 2 * cost((rule(at_most=0.05),))  # what one stage has when the playbook does not say
    held = until_green(0.05, truth, _N, same=same, budget=budget, trials=trials)
    loose = until_green(0.05, truth, _N, same=False, trials=trials)
    what = "one checkpoint, again and again" if same else "a new checkpoint each time"
    return Row((percent(truth), what, percent(held), percent(loose)), (held,), sim.bar(trials, budget))


# -- the tables --------------------------------------------------------------------------------------------------------

_PROMISE = ("truth at the limit", "false PASS", "false FAIL", "point estimate passes", "plain error passes")
HEADS: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(AT_THE_LIMIT, _PROMISE),
    "many": ("gate", "PASS", "FAIL", "FAIL without Holm"),
    "power": ("gate", "seen with 80 % power, says the plan", "simulated"),
    "curve": ("truth", "fixed n: theory", "simulated", "in turn: theory", "simulated", "median items"),
    "savings": ("limit", "truth", "fixed n", "Wald's mean", "of 400 planned", "of 1,000 planned"),
    "green": ("truth", "50 gates of", "any PASS", "each at 5 %, no budget"),
}  # fmt: skip

TABLES: Mapping[str, Sequence[Callable[[], Row]]] = {
    **{name: [case.row for case in cases] for name, cases in AT_THE_LIMIT.items()},
    "many": [case.row for case in MANY],
    "power": [case.row for case in POWER],
    "curve": [partial(curve_row, truth) for truth in CURVE],
    "savings": [partial(saving_row, *one) for one in SAVINGS],
    "green": [partial(green_row, *one) for one in GREEN],
}


def table(name: str, rows: Sequence[Row]) -> str:
    """Return a table in Markdown."""
    head = HEADS[name]
    return "\n".join((f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(row.text for row in rows)))
