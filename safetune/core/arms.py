"""The items of both arms, read once: what a gate needs of each, without responses, in a few bytes an item."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from operator import attrgetter

from safetune.core.evidence import BASELINE, CANDIDATE, Item, SuiteEvidence

# What is kept of an item, in this order; a tuple, since there may be a hundred thousand of them.
BRIEF = ("item_id", "sample", "cluster", "slice", "label", "language", "judge_score", "judge", "suite", "arm")
Brief = tuple[str, int, str, str, str, str, float, str, str, str]
brief_of: Callable[[Item], Brief] = attrgetter(*BRIEF)


class Arm:
    """One arm of a suite: what is counted of every item, in order, and whatever is wrong."""

    __slots__ = (
        "_asked",
        "_known",
        "_like",
        "_name",
        "_suite",
        "clusters",
        "foreign",
        "ids",
        "judges",
        "labels",
        "languages",
        "samples",
        "scores",
        "slices",
        "unfit",
    )

    def __init__(self, suite: str, name: str, like: Arm | None = None, *, paired: bool = True) -> None:
        """Make an empty arm; ids that are also those of another arm, `like`, are kept once.

        Without `paired` nothing is kept of what was asked, and `asked_as` says no.
        """
        self._suite, self._name = suite, name
        self._like = like.ids if like else []
        self._asked = blake2b(digest_size=32) if paired else None
        self._known: dict[str, str] = {}
        self.ids: list[str] = []
        self.samples: list[int] = []
        self.clusters: list[str] = []
        self.slices: list[str] = []
        self.labels: list[str] = []
        self.languages: list[str] = []
        self.scores = array("d")
        self.judges: set[str] = set()
        self.foreign = False  # an item belongs to another suite or arm
        self.unfit = False  # an item has no label, or a score outside 0 to 1

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, brief: Brief, prompt_digest: str) -> None:
        """Take in one more item. Equal labels, slices and clusters are kept once."""
        item_id, sample, cluster, place, label, language, score, judge, suite, arm = brief
        known, ids, like = self._known, self.ids, self._like
        n = len(ids)
        ids.append(like[n] if n < len(like) and like[n] == item_id else item_id)
        self.samples.append(sample)
        self.clusters.append(known.setdefault(cluster, cluster))
        self.slices.append(known.setdefault(place, place))
        self.labels.append(known.setdefault(label, label))
        self.languages.append(known.setdefault(language, language))
        self.scores.append(score)
        self.judges.add(judge)
        if self._asked:
            sizes = f"{len(item_id)} {len(prompt_digest)} {len(cluster)} {len(place)} {sample} "
            asked = f"{sizes}{item_id}{prompt_digest}{cluster}{place}"
            self._asked.update(asked.encode("utf-8", "surrogatepass"))
        if suite != self._suite or arm != self._name:
            self.foreign = True
        if not label or not 0 <= score <= 1:
            self.unfit = True

    def asked_as(self, other: Arm) -> bool:
        """Whether the items of another arm are known to be the same questions in the same order."""
        mine, theirs = self._asked, other._asked
        return mine is not None and theirs is not None and mine.digest() == theirs.digest()

    @property
    def doubled(self) -> bool:
        """Whether an item is there twice with the same sample."""
        return len(set(self.ids)) != len(self) and len(set(self.keys())) != len(self)

    def keys(self) -> Iterator[tuple[str, int]]:
        """Return what tells items apart: id and sample."""
        return zip(self.ids, self.samples, strict=True)

    def part(self, places: Sequence[int]) -> Arm:
        """Return an arm of only the items at `places`."""
        found = Arm(self._suite, self._name)
        for name in ("ids", "samples", "clusters", "slices", "labels", "languages"):
            column = getattr(self, name)
            setattr(found, name, [column[n] for n in places])
        found.scores = array("d", (self.scores[n] for n in places))
        found.judges, found.foreign, found.unfit = self.judges, self.foreign, self.unfit
        return found

    def places(self) -> Mapping[str, Sequence[int]]:
        """Return where the items of every slice are; those of no slice are left out."""
        found: dict[str, list[int]] = {}
        for n, name in enumerate(self.slices):
            found.setdefault(name, []).append(n)
        found.pop("", None)
        return found

    def cluster_keys(self) -> Sequence[str]:
        """Return the cluster of every item; an item without one, with its samples, is its own."""
        if not any(self.clusters):
            return self.ids
        return [f"cluster {c}" if c else f"item {i}" for c, i in zip(self.clusters, self.ids, strict=True)]


class Reading:
    """Both arms of one suite, how many items each must have, and whether both were asked `the_same`."""

    __slots__ = ("_parts", "before", "expected", "now", "the_same")

    def __init__(self, evidence: SuiteEvidence) -> None:
        self._parts: Mapping[str, Reading] | None = None
        self.expected = evidence.expected
        self.now = arm_of(evidence, CANDIDATE)
        self.before = arm_of(evidence, BASELINE, self.now)
        same = len(self.now) == len(self.before)
        self.the_same = same and (self.now.asked_as(self.before) or _both_asked(evidence))

    def parts(self) -> Mapping[str, Reading]:
        """Return the items of every slice of the candidate as a reading of its own, by name in order."""
        if self._parts is None:
            now, before = self.now.places(), self.before.places()
            self._parts = {name: self._part(now[name], before.get(name, ())) for name in sorted(now)}
        return self._parts

    def _part(self, now: Sequence[int], before: Sequence[int]) -> Reading:
        found = object.__new__(Reading)
        found.now, found.before, found.expected = self.now.part(now), self.before.part(before), len(now)
        found.the_same, found._parts = self.the_same, {}
        return found

    def matched(self) -> Iterator[tuple[int, int]]:
        """Return the positions of the same item in the candidate's arm and in the baseline's, in candidate's order."""
        now, before = self.now, self.before
        if now.ids == before.ids and now.samples == before.samples and not now.doubled:
            return zip(range(len(now)), range(len(now)), strict=True)
        where = {key: n for n, key in enumerate(before.keys())}
        return ((n, where[key]) for n, key in enumerate(now.keys()) if key in where)


def arm_of(evidence: SuiteEvidence, name: str, like: Arm | None = None) -> Arm:
    """Return one arm of a suite: what the items themselves know of it, where they were read from a file just now."""
    items = evidence.candidate if name == CANDIDATE else evidence.baseline
    found = getattr(items, "arm", None)
    if isinstance(found, Arm) and (found._suite, found._name) == (evidence.suite, name):
        return found
    made = Arm(evidence.suite, name, like)
    for item in items:
        made.take(brief_of(item), item.prompt_digest)
    return made


def _both_asked(evidence: SuiteEvidence) -> bool:
    """Say whether both arms were asked the same, in whatever order."""
    return set(map(_asked, evidence.candidate)) == set(map(_asked, evidence.baseline))


def _asked(item: Item) -> tuple[str, int, str, str, str]:
    return (item.item_id, item.sample, item.prompt_digest, item.cluster, item.slice)
