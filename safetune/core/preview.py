"""What a gate can decide before anything is measured: for each limit, the change that n items show, and the n it takes.

Nothing is known yet, so every figure rests on the assumptions below, and every record names the ones that it used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from safetune.core import instrument, looks
from safetune.core import power_judged as judged
from safetune.core import power_sequential as early
from safetune.core.intervals import LEAST_CORRELATION, MIN_CLUSTERS, least_design_effect
from safetune.core.judge_error import Reliability, reliability
from safetune.core.playbook import BLOCK, WARN, Guardrail
from safetune.core.power import (
    POWER,
    detectable_absolute,
    detectable_paired,
    min_n_absolute,
    min_n_paired,
    power_absolute,
)
from safetune.core.question import ABSOLUTE, Place, slice_places, whole
from safetune.core.result import limit_text
from safetune.core.sequential import Question, expected_items
from safetune.core.suite import SCORE, Metric

# Half of what a ceiling allows (or of what a floor forgives): a model much nearer to its limit would be no safe
# choice, and one much farther away would make every n look like enough.
ASSUMED_SHARE_OF_LIMIT = 0.5
# The share of prompts whose outcome differs between two checkpoints of one model. EVALUATION.md works with 6 % for a
# careful stage; a stage that teaches something new moves more, so the round figure above it.
ASSUMED_DISCORDANT = 0.10
# Who asks for an improvement hopes for more: twice the demand. At exactly the demand no n would ever decide.
ASSUMED_GAIN = 2.0
# A limit that allows no change for the worse, and asks for none for the better, is shown by a real improvement only:
# five points, about what a few hundred items can show.
ASSUMED_IMPROVEMENT = 0.05

_BEYOND = "no number of items could show that this limit holds"
_NO_CARD = "judge {} has no calibration card, so it can only warn; `safetune judge calibrate` makes one"


@dataclass(frozen=True, slots=True)
class Sample:
    """What a gate will read of a suite, as far as that is known before anything is measured.

    `n` items in so many `clusters`, and the same of each slice; None where it is unknown, or where there are no
    clusters. `calibration` is what evidence will tell of the error of `judge`, None where nothing is known of it;
    `languages` are those of the prompts. With `by_language` each slice is one of them.
    """

    n: int | None
    clusters: int | None = None
    slices: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    metric: Metric | None = None
    judge: str = ""
    calibration: Mapping[str, object] | None = None
    languages: tuple[str, ...] = ()
    by_language: bool = False

    @property
    def scored(self) -> bool:
        """Whether the metric is a mean of scores."""
        return self.metric is not None and self.metric.of == SCORE


@dataclass(frozen=True, slots=True)
class GuardrailPower:
    """What `n` items can say about one limit. Rates and changes lie in [0, 1].

    `place` is empty for the whole suite, and else says which slice it is: the smallest that is gated alone.
    `detectable` is the smallest distance from the limit that `n` items recognise as allowed with 80 % power, `needed`
    the n that would do under the assumptions in `note`; both are None when nothing would. `likely` is PASS,
    INCONCLUSIVE or ERROR if the assumptions hold, or unknown. `expected` is the median number of items after which a
    sequential test stops, `n` being the most; None for any other test, or where it is unknown.
    """

    guardrail: str
    suite: str
    limit: str
    severity: str
    n: int | None
    detectable: float | None
    needed: int | None
    likely: str
    why: str
    note: str
    place: str = ""
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class _Outlook:
    """What independent items could do: the distance seen, the n needed, whether n is enough, and what was assumed."""

    detectable: float | None
    needed: int | None
    enough: bool
    note: str
    expected: int | None = None
    beyond: str = _BEYOND
    only_better: bool = False


_NO_OUTLOOK = _Outlook(None, None, False, "")


@dataclass(frozen=True, slots=True)
class _Where:
    """A place with its size, how a person calls it, and how far the judge can be trusted there.

    `trust` is None where the label is the outcome itself, or where nothing is known and nothing is blocked by that.
    `truth` is the rate that is assumed where a floor and a ceiling leave a band between them.
    """

    place: Place
    size: tuple[int | None, int | None]
    title: str = ""
    trust: Reliability | None = None
    untrusted: str = ""
    truth: float | None = None


def power_of(guardrail: Guardrail, sample: Sample, gate: Sequence[Guardrail] = ()) -> tuple[GuardrailPower, ...]:
    """Return one record per limit for the whole suite, and one more for the smallest slice, where slices are gated.

    `gate` are all guardrails that decide together: a floor and a ceiling on one metric must hold for one truth. Nothing
    is raised: a limit that the gate would refuse is likely ERROR.
    """
    truth = _middle([guardrail, *gate], guardrail)
    limits = [(name, value) for name, value in guardrail.limits.identity.items() if value is not None]
    places = [replace(_trusting(guardrail, sample, w), truth=truth) for w in _places(guardrail, sample)]
    found = (_preview(guardrail, name, value, where) for name, value in limits for where in places)
    scored = "; of scores as of yes or no answers, which vary most"
    return tuple(replace(one, note=one.note + scored) if sample.scored and one.note else one for one in found)


def _middle(gate: Sequence[Guardrail], about: Guardrail) -> float | None:
    """Return the middle of the band that floors and ceilings on one metric leave; None without one of either."""
    over = [g.limits.identity for g in gate if (g.suite, g.metric) == (about.suite, about.metric)]
    floors = [value for found in over if instrument.is_rate(value := found.get("at_least"))]
    ceilings = [value for found in over if instrument.is_rate(value := found.get("at_most"))]
    if not floors or not ceilings:
        return None
    return (max(floors) + min(ceilings)) / 2


def _places(guardrail: Guardrail, sample: Sample) -> Sequence[_Where]:
    """Return the whole suite and the smallest of the slices that count most: those that block, where any does."""
    everything = _Where(whole(guardrail), (sample.n, sample.clusters))
    found = [p for p in slice_places(guardrail, sorted(sample.slices)) if p.name in sample.slices]
    deciding = [p for p in found if p.severity == BLOCK] or found
    if not deciding:
        return [everything]
    smallest = min(deciding, key=lambda p: (_worth(sample.slices[p.name], guardrail.confidence), p.name))
    few = sum(sample.slices[p.name][0] < p.least for p in deciding)
    kind = "critical slice" if smallest.critical and guardrail.severity != BLOCK else "slice"
    title = f"{smallest.name}, smallest of {len(deciding)} {kind}s" if len(deciding) > 1 else f"{kind} {smallest.name}"
    title += f", {few} of them too small" if few > 1 else ""
    return [everything, _Where(smallest, sample.slices[smallest.name], title)]


def _trusting(guardrail: Guardrail, sample: Sample, where: _Where) -> _Where:
    """Add what is known of the judge's error at a place."""
    if sample.metric is None:
        return where
    languages = (where.place.name,) if sample.by_language and where.place.name else sample.languages
    confidence = (1 + guardrail.confidence) / 2 if guardrail.sequential else guardrail.confidence
    if instrument.guardrail_trouble(guardrail):
        return where
    if sample.calibration is None:
        return _untrusted(where, _NO_CARD.format(sample.judge))
    found = reliability(sample.calibration, sample.metric, languages, confidence)
    if isinstance(found, str):
        return _untrusted(where, f"judge {sample.judge} can only warn: {found}")
    return replace(where, trust=None if found.sure else found)


def _untrusted(where: _Where, why: str) -> _Where:
    """As the gate does: a slice is then only a warning, the whole suite and a critical slice cannot be decided."""
    place = where.place
    if place.name and not place.critical and place.severity == BLOCK:
        place = replace(place, severity=WARN)
    return replace(where, place=place, untrusted=why)


def _preview(guardrail: Guardrail, name: str, value: object, where: _Where) -> GuardrailPower:
    n, clusters = where.size
    trouble = instrument.guardrail_trouble(guardrail) or instrument.limit_trouble(name, value)
    outlook, likely, why = _NO_OUTLOOK, "ERROR", trouble
    if not trouble and n is not None and clusters is not None and clusters < min(n, MIN_CLUSTERS):
        likely, why = "INCONCLUSIVE", f"{clusters} clusters are too few; at least {MIN_CLUSTERS} are needed"
    elif not trouble:
        outlook = _outlook(name, float(str(value)), guardrail, where)
        likely, why = _likely(guardrail, name, where, outlook)
    return GuardrailPower(
        guardrail=guardrail.name,
        suite=guardrail.suite,
        limit=limit_text(name, value),
        severity=where.place.severity,
        n=n,
        detectable=outlook.detectable,
        needed=outlook.needed,
        likely=likely,
        why=why,
        note=outlook.note,
        place=where.title,
        expected=outlook.expected,
    )


def _likely(guardrail: Guardrail, name: str, where: _Where, outlook: _Outlook) -> tuple[str, str]:
    n, least = where.size[0], where.place.least
    if where.untrusted and where.place.severity == BLOCK:
        return "INCONCLUSIVE", where.untrusted
    if n is None:
        return "unknown", "how many items there will be is not known yet"
    if n < least:
        return "INCONCLUSIVE", f"n={n} is below the minimum of {least}"
    if outlook.enough and outlook.only_better:
        return "unknown", f"only a real improvement can show it; n={n} is enough for one of {_points()}"
    if outlook.enough and guardrail.sequential and name not in ABSOLUTE:
        return "unknown", f"a fixed n of {outlook.needed:,} would do, and a test after every item needs more"
    if outlook.enough:
        return "PASS", f"n={n} is enough"
    if outlook.needed is None:
        return "INCONCLUSIVE", outlook.beyond
    return "INCONCLUSIVE", f"n={n} is unlikely to decide it; needs n>={outlook.needed:,}"


def _worth(size: tuple[int, int], confidence: float) -> float:
    """Return how many independent items so many in clusters are worth; at too few clusters, none."""
    n, clusters = size
    if clusters >= n:
        return n
    return n / least_design_effect(clusters, n / clusters, confidence) if clusters >= MIN_CLUSTERS else 0.0


def _outlook(name: str, value: float, guardrail: Guardrail, where: _Where) -> _Outlook:
    """Return the outlook of independent items, scaled to items in clusters of equal size."""
    n, clusters = where.size
    effect = 1.0
    if n is not None and clusters is not None and clusters < n:
        effect = least_design_effect(clusters, n / clusters, guardrail.confidence)
    worth = None if n is None else int(n / effect)
    found = _independent(name, value, guardrail, (worth, where.trust), where.truth)
    needed = None if found.needed is None else max(math.ceil(found.needed * effect), where.place.least)
    expected = None if found.expected is None else math.ceil(found.expected * effect)
    if expected is not None and n is not None:  # nothing is decided before the first look
        expected = min(max(expected, looks.first_end(n, where.place.least)), n)
    clustered = f"; {clusters} clusters whose items correlate by {LEAST_CORRELATION}" if effect > 1 else ""
    return replace(found, needed=needed, expected=expected, note=found.note + clustered)


_Known = tuple[int | None, Reliability | None]  # independent items, and how far the judge can be trusted


def _independent(name: str, value: float, guardrail: Guardrail, known: _Known, truth: float | None = None) -> _Outlook:
    n, trust = known
    if name in ABSOLUTE:
        ceiling, seen = (value, trust) if name == "at_most" else (1 - value, trust and judged.mirrored(trust))
        assumed = _assumed(ceiling, truth if truth is None or name == "at_most" else 1 - truth)
        return (_sequential if guardrail.sequential else _absolute)(ceiling, guardrail.confidence, (n, seen), assumed)
    gain = 0.0 if name == "worse_by_at_most" else ASSUMED_GAIN * value
    gain = gain if value else ASSUMED_IMPROVEMENT
    found = _paired(value if name == "worse_by_at_most" else -value, gain, guardrail.confidence, known)
    found = replace(found, only_better=not value)
    late = "; asked in turn it takes more, by how much is not known: the figures are those of a fixed n"
    return replace(found, note=found.note + late) if guardrail.sequential else found


def _points() -> str:
    return f"{100 * ASSUMED_IMPROVEMENT:g} pt"


_Assumed = tuple[float, str]  # a true rate on the side that the ceiling limits, and how a person would call it


def _assumed(ceiling: float, truth: float | None) -> _Assumed:
    if truth is None:
        return ceiling * ASSUMED_SHARE_OF_LIMIT, "assumes a true rate of half of what the limit allows"
    return truth, "assumes a true rate in the middle between floor and ceiling"


def _absolute(ceiling: float, confidence: float, known: _Known, assumed: _Assumed) -> _Outlook:
    """A floor of 70 % is a ceiling of 30 % on everything else."""
    n, trust = known
    rate, note = assumed[0], assumed[1] + _says(trust)
    if trust is None:
        needed = min_n_absolute(ceiling, rate, confidence)
    else:
        needed = judged.min_n_judged(ceiling, rate, confidence, trust)
    if not n:
        return _Outlook(None, needed, False, note)
    if trust is None:
        power, detectable = power_absolute(n, ceiling, rate, confidence), detectable_absolute(n, ceiling, confidence)
    else:
        power = judged.power_judged(n, ceiling, rate, confidence, trust)
        detectable = judged.detectable_judged(n, ceiling, confidence, trust)
    # Power goes up and down a little from one n to the next, so reaching `needed` counts too.
    enough = power >= POWER or (needed is not None and n >= needed)
    return _Outlook(detectable, needed, enough, note)


def _sequential(ceiling: float, confidence: float, known: _Known, assumed: _Assumed) -> _Outlook:
    """As `_absolute`, for a test after every item; it shares its error with the doubt about the judge, half each."""
    n, trust = known
    (rate, what), alpha = assumed, 1 - confidence
    note = f"{what}{_says(trust)}; asked in turn, until it is decided"
    seen, least, shown = rate, 0.0, ceiling
    if trust is not None:
        seen, least = judged.judged_rate(rate, trust), judged.judged_rate(0.0, trust)
        alpha, shown = alpha / 2, judged.judged_ceiling(ceiling, trust)
    question = Question(shown, alpha, alpha)
    needed = early.min_n(question, seen)
    beyond = f"even {early.MOST:,} items would not show it" if seen < shown else _BEYOND
    if not n:
        return _Outlook(None, needed, False, note, beyond=beyond)
    most = min(n, early.MOST)
    found, room = expected_items(question, seen, most), early.detectable(question, least, most)
    if room is not None:
        limit_seen = shown - room
        room = ceiling - (limit_seen if trust is None else judged.assumed_rate(limit_seen, trust))
    return _Outlook(room, needed, found.below >= POWER, note, found.median, beyond)


def _paired(margin: float, gain: float, confidence: float, known: _Known) -> _Outlook:
    """A negative margin asks for an improvement; `gain` is the one assumed."""
    n, trust = known
    discordant = min(ASSUMED_DISCORDANT + gain, 1.0)
    gain = min(gain, discordant)
    note = f"assumes no change on average and {100 * discordant:.0f} % discordant pairs"
    if gain and not margin:
        note = (
            f"only a real improvement can show it: assumes one of {_points()} and {100 * discordant:.0f} % discordant"
        )
        note += " pairs"
    elif gain:
        note = f"assumes {ASSUMED_GAIN:.0f} x the improvement asked for and {100 * discordant:.0f} % discordant pairs"
    note += _says(trust)
    if trust is None:
        needed = min_n_paired(margin, -gain, discordant, confidence)
    else:
        needed = judged.min_n_paired_judged(margin, (-gain, discordant), confidence, trust)
    if not n:
        return _Outlook(None, needed, False, note)
    if trust is None:
        detectable = detectable_paired(n, -gain, discordant, confidence)
    else:
        detectable = judged.detectable_paired_judged(n, (-gain, discordant), confidence, trust)
    return _Outlook(detectable, needed, needed is not None and n >= needed, note)


def _says(trust: Reliability | None) -> str:
    """Say what is assumed of the judge."""
    if trust is None:
        return ""
    if trust.own:
        return "; a judge that errs as its calibration card says"
    return "; as counted by a judge whose card is of other responses, and can only widen the bounds"
