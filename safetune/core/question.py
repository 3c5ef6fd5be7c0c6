"""A question of a gate: one limit of one guardrail, held against one metric of a suite or of one slice of it."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from safetune.core.arms import Arm, Reading
from safetune.core.bounds import Again, Outcome, Pair
from safetune.core.digest import JSON
from safetune.core.playbook import BLOCK, Guardrail
from safetune.core.result import Rate
from safetune.core.suite import INCOHERENT, SCORE, UNJUDGED, Metric

ABSOLUTE = ("at_most", "at_least")
_MOST_ITEMS = 10**9  # no suite is larger; whatever says so was not written by safetune


@dataclass(frozen=True, slots=True)
class Place:
    """Where a limit is held against what was measured: the whole suite (no name), or one slice.

    `least` is the least number of prompts there; `severity` is how a result of this place counts.
    """

    name: str
    severity: str
    least: int
    critical: bool = False


def whole(guardrail: Guardrail) -> Place:
    """Return the whole suite as a place."""
    return Place("", guardrail.severity, guardrail.min_samples)


def planned_items(told: Mapping[str, JSON]) -> int:
    """Return how many items a suite that is asked in part would have in all; 0 for any other."""
    return _count(told.get("sequential"), "planned")


def planned_slices(told: Mapping[str, JSON]) -> tuple[str, ...]:
    """Return the slices of a suite that is asked in part, also of those that were not asked yet."""
    found = told.get("sequential")
    names = found.get("slices") if isinstance(found, Mapping) else None
    return tuple(n for n in names if isinstance(n, str) and n) if isinstance(names, list | tuple) else ()


def _count(told: object, name: str) -> int:
    found = told.get(name) if isinstance(told, Mapping) else None
    return found if type(found) is int and 0 <= found <= _MOST_ITEMS else 0


def slice_places(guardrail: Guardrail, found: Sequence[str]) -> tuple[Place, ...]:
    """Return the slices that a guardrail gates on their own, in order of name: also those that are not `found`."""
    wanted = guardrail.slices
    if wanted is None:
        return ()
    critical = frozenset(wanted.critical)
    names = sorted(critical | frozenset(wanted.names or found))
    return tuple(
        Place(name, BLOCK if name in critical else guardrail.severity, wanted.min_samples, name in critical)
        for name in names
    )


@dataclass(frozen=True, slots=True)
class Question:
    """One limit at one place. `hopeful` says how an item counts that nobody may judge: for the candidate, or against.

    `told` is what the evidence tells of the instrument, as JSON: `calibration` of the judge's error, `sequential` of
    the items that were planned, `sampled` of the clusters that were drawn, `slices_are_languages` where slices are.
    `elsewhere` are the languages of the whole suite, for a slice whose responses are too short to tell theirs.
    """

    guardrail: Guardrail
    place: Place
    limit: tuple[str, float]
    reading: Reading
    metric: Metric
    told: Mapping[str, JSON] = field(default_factory=dict)
    hopeful: bool = False
    elsewhere: frozenset[str] = frozenset()

    @property
    def absolute(self) -> bool:
        """Whether only the candidate decides."""
        return self.limit[0] in ABSOLUTE

    @property
    def rate(self) -> Rate:
        """What was counted of the candidate."""
        return self._rate_of(self.reading.now)

    @property
    def rate_before(self) -> Rate:
        """What was counted of the baseline."""
        return self._rate_of(self.reading.before)

    @property
    def sign(self) -> int:
        """1 where a higher value is worse, -1 where a lower one is."""
        return 1 if self.metric.worse == "higher" else -1

    @property
    def unjudged(self) -> int:
        """How many responses of both arms nobody might judge."""
        return sum(arm.labels.count(UNJUDGED) for arm in (self.reading.now, self.reading.before))

    @property
    def planned(self) -> int:
        """How many items the suite would have, had nothing been decided early; 0 in a slice, or if all were asked."""
        return 0 if self.place.name else self._sequential("planned")

    @property
    def largest(self) -> int:
        """The size of the largest cluster of the suite, at least 1."""
        return max(self._sequential("largest"), 1)

    @property
    def sampled(self) -> int:
        """How many clusters were drawn of the suite at most; 0 where it was asked as a whole."""
        return _count(self.told, "sampled")

    def _sequential(self, name: str) -> int:
        return _count(self.told.get("sequential"), name)

    @property
    def unread(self) -> bool:
        """Whether this is a slice in a language that the judge has no card for; no response has a say in that."""
        if self.told.get("slices_are_languages") is not True or not self.place.name:
            return False
        known = self.told.get("calibration")
        if isinstance(known, Mapping) and known.get("kind") == "definition":
            return False
        spoken = known.get("languages") if isinstance(known, Mapping) else None
        return not isinstance(spoken, Mapping) or self.place.name not in spoken

    @property
    def languages(self) -> frozenset[str]:
        """The languages that were found in the responses that were judged; where none was, those of the suite."""
        arms = (self.reading.now, self.reading.before)
        pairs = {pair for arm in arms for pair in zip(arm.languages, arm.labels, strict=True)}
        found = frozenset(language for language, label in pairs if language and label != UNJUDGED)
        return found or self.elsewhere

    def _rate_of(self, arm: Arm) -> Rate:
        return Rate(sum(self.values(arm)), len(arm))

    def values(self, arm: Arm) -> Sequence[float]:
        """Return the value of every item of an arm: 1 or 0 where it is counted or not, or the judge's score."""
        bad = self.hopeful != (arm is self.reading.now)
        unjudged = float(bad == (self.metric.worse == "higher"))
        if self.metric.of == SCORE:
            put = {UNJUDGED: unjudged, INCOHERENT: float(self.metric.worse == "higher")}
            return array("d", (put.get(label, score) for label, score in zip(arm.labels, arm.scores, strict=True)))
        worth = {label: int(self.metric.counted(label)) for label in set(arm.labels)}
        worth[UNJUDGED] = int(unjudged)
        return bytes(map(worth.__getitem__, arm.labels))

    def outcomes(self) -> Sequence[Outcome]:
        """Return cluster and value of every item of the candidate."""
        arm = self.reading.now
        clusters, values = arm.cluster_keys(), self.values(arm)
        return Again(len(arm), lambda: zip(clusters, values, strict=True))

    def pairs(self) -> Sequence[Pair]:
        """Return cluster, baseline's value and candidate's value of every item."""
        reading = self.reading
        clusters, now, before = reading.now.cluster_keys(), self.values(reading.now), self.values(reading.before)
        partner = [before[m] for _, m in reading.matched()]
        return Again(len(now), lambda: zip(clusters, partner, now, strict=True))

    def changes(self) -> Sequence[Outcome]:
        """Return cluster and candidate minus baseline of every item."""
        pairs = self.pairs()
        return Again(len(pairs), lambda: _changes(pairs))


def _changes(pairs: Sequence[Pair]) -> Iterator[Outcome]:
    return ((cluster, after - before) for cluster, before, after in pairs)
