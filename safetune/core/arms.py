"""The items of both arms, read once: what a gate needs of each, without responses, in a few bytes an item."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from safetune.core.evidence import BASELINE, CANDIDATE, Item, SuiteEvidence


class Arm:
    """One arm of a suite: id, sample, cluster, slice and label of every item, in order, and whatever is wrong."""

    __slots__ = (
        "_known",
        "_name",
        "_suite",
        "clusters",
        "foreign",
        "ids",
        "judges",
        "labels",
        "samples",
        "slices",
        "unfit",
    )

    def __init__(self, suite: str, name: str) -> None:
        self._suite, self._name = suite, name
        self._known: dict[str, str] = {}
        self.ids: list[str] = []
        self.samples: list[int] = []
        self.clusters: list[str] = []
        self.slices: list[str] = []
        self.labels: list[str] = []
        self.judges: set[str] = set()
        self.foreign = False  # an item belongs to another suite or arm
        self.unfit = False  # an item has no label, or a score outside 0 to 1

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, item: Item, other: Item | None = None) -> None:
        """Take in one more item. Equal labels, slices and clusters are kept once, and so is the id of the `other` arm's
        item where it is the same."""
        known = self._known
        self.ids.append(other.item_id if other is not None and other.item_id == item.item_id else item.item_id)
        self.samples.append(item.sample)
        self.clusters.append(known.setdefault(item.cluster, item.cluster))
        self.slices.append(known.setdefault(item.slice, item.slice))
        self.labels.append(known.setdefault(item.label, item.label))
        self.judges.add(item.judge)
        self.foreign = self.foreign or item.suite != self._suite or item.arm != self._name
        self.unfit = self.unfit or not item.label or not 0 <= item.judge_score <= 1

    @property
    def doubled(self) -> bool:
        """Whether an item is there twice with the same sample."""
        return len(set(self.ids)) != len(self) and len(set(self.keys())) != len(self)

    def keys(self) -> Iterator[tuple[str, int]]:
        """Return what tells items apart: id and sample."""
        return zip(self.ids, self.samples, strict=True)

    def cluster_keys(self) -> Sequence[str]:
        """Return the cluster of every item; an item without one, with its samples, is its own."""
        if not any(self.clusters):
            return self.ids
        return [f"cluster {c}" if c else f"item {i}" for c, i in zip(self.clusters, self.ids, strict=True)]


class Reading:
    """Both arms of one suite, how many items each must have, and whether both were asked `the_same`."""

    __slots__ = ("before", "expected", "now", "the_same")

    def __init__(self, evidence: SuiteEvidence) -> None:
        self.expected = evidence.expected
        self.now, self.before = Arm(evidence.suite, CANDIDATE), Arm(evidence.suite, BASELINE)
        aligned, rest = True, iter(evidence.baseline)
        for now in evidence.candidate:
            before = next(rest, None)
            self.now.add(now)
            if before is not None:
                self.before.add(before, now)
            aligned = aligned and before is not None and _asked(now) == _asked(before)
        for before in rest:
            self.before.add(before)
            aligned = False
        self.the_same = aligned or (len(self.now) == len(self.before) and _both_asked(evidence))

    def matched(self) -> Iterator[tuple[int, int]]:
        """Return the positions of the same item in the candidate's arm and in the baseline's, in candidate's order."""
        now, before = self.now, self.before
        if now.ids == before.ids and now.samples == before.samples and not now.doubled:
            return zip(range(len(now)), range(len(now)), strict=True)
        where = {key: n for n, key in enumerate(before.keys())}
        return ((n, where[key]) for n, key in enumerate(now.keys()) if key in where)


def _both_asked(evidence: SuiteEvidence) -> bool:
    """Say whether both arms were asked the same, in whatever order."""
    return set(map(_asked, evidence.candidate)) == set(map(_asked, evidence.baseline))


def _asked(item: Item) -> tuple[str, int, str, str, str]:
    return (item.item_id, item.sample, item.prompt_digest, item.cluster, item.slice)
