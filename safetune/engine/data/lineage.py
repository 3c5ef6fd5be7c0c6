"""From a checkpoint to the rows that it saw, and back: the ledger says which run, its record says which rows.

A checkpoint learnt from the rows of its own training and, through its parents, from those of theirs.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safetune.core.digest import JSON, short
from safetune.core.errors import IntegrityError
from safetune.core.events import Event
from safetune.engine.data.mixture import Mixture, Part, read_mixture
from safetune.engine.data.staging import ROWS
from safetune.state.files import open_regular, read_regular
from safetune.state.objects import ObjectStore
from safetune.state.seen import ABOUT, FORMAT, SEEN, SeenRows, read_seen


@dataclass(frozen=True, slots=True)
class Training:
    """One run that made a checkpoint: ledger line, stage, parent (empty: the base model), and the record of its rows.

    `lineage` is empty for a checkpoint of before rows were recorded, and for one that came from elsewhere.
    """

    checkpoint: str
    seq: int
    stage_key: str
    place: str
    parent: str
    lineage: str


@dataclass(frozen=True, slots=True)
class Sight:
    """How often a row was seen, and in which optimizer steps first and last, counted from 1."""

    times: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Record:
    """What one run wrote down: the mixture that numbers rows, the number of steps, and what they saw."""

    mixture: str
    stage_key: str
    steps: int
    seen: SeenRows


@dataclass(frozen=True, slots=True)
class Placed:
    """A row of a mixture: its number, the part it belongs to, its line in the kept rows (from 1), id and content."""

    number: int
    part: Part
    line: int
    id: str
    content: Mapping[str, JSON]


def trainings(events: Iterable[Event]) -> Mapping[str, tuple[Training, ...]]:
    """Return, by checkpoint and in order, the runs that made it: equal bytes made twice are one checkpoint."""
    found: dict[str, tuple[Training, ...]] = {}
    for event in events:
        if event.kind == "trained":
            checkpoint, place = event.text("checkpoint"), f"{event.text('sprint')}/{event.text('stage')}"
            told = event.text("stage_key"), place, event.text("parent"), event.text("lineage")
            known = found.get(checkpoint, ())
            if told not in [(run.stage_key, run.place, run.parent, run.lineage) for run in known]:
                found[checkpoint] = (*known, Training(checkpoint, event.seq, *told))
    return found


def ancestry(made: Mapping[str, tuple[Training, ...]], checkpoint: str) -> tuple[str, ...]:
    """Return a checkpoint and all that it was trained from, nearest first."""
    found: dict[str, None] = {}
    waiting = [checkpoint]
    while waiting:
        current = waiting.pop(0)
        if current and current not in found:
            found[current] = None
            waiting += [training.parent for training in made.get(current, ())]
    return tuple(found)


def read_record(objects: ObjectStore, lineage: str) -> Record:
    """Read what a run wrote down.

    Raises:
        IntegrityError: when it is missing, damaged or is no such record.
    """
    objects.verify(lineage)
    seen = read_seen(objects.path(lineage) / SEEN)
    try:
        about = json.loads(read_regular(objects.path(lineage) / ABOUT))
        if about["format"] != FORMAT or int(about["steps"]) != len(seen.rows):
            raise ValueError("its parts do not belong together")
        return Record(str(about["mixture"]), str(about["stage_key"]), int(about["steps"]), seen)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(f"lineage {short(lineage)} cannot be read: {error}", hint="safetune verify") from error


def rows_seen(objects: ObjectStore, lineage: str) -> Mapping[int, Sight]:
    """Return every row that a run saw, by its number in the run's mixture; rows of techniques too.

    Raises:
        IntegrityError: when the record is missing or damaged.
    """
    return sights(read_record(objects, lineage).seen)


def sights(seen: SeenRows) -> Mapping[int, Sight]:
    """Return how often, first and last each row was seen."""
    times: Counter[int] = Counter()
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for steps in (seen.rows, seen.technique):
        for step, numbers in enumerate(steps, 1):
            times.update(numbers)
            for number in numbers:
                first.setdefault(number, step)
                last[number] = step
    return {number: Sight(count, first[number], last[number]) for number, count in times.items()}


def steps_that_saw(seen: SeenRows, wanted: frozenset[int]) -> Mapping[int, tuple[int, ...]]:
    """Return the optimizer steps, from 1, that saw each of the wanted rows; a step that saw one twice is named once."""
    found: dict[int, dict[int, None]] = {number: {} for number in wanted}
    for steps in (seen.rows, seen.technique):
        for step, numbers in enumerate(steps, 1):
            for number in wanted.intersection(numbers):
                found[number][step] = None
    return {number: tuple(steps) for number, steps in found.items()}


def part_of(parts: Sequence[Part], number: int) -> Part:
    """Return the part of a mixture that a row belongs to.

    Raises:
        IntegrityError: when there is no such row.
    """
    place = bisect_right([part.first for part in parts], number) - 1
    if place < 0 or number >= parts[place].first + parts[place].kept:
        raise IntegrityError(f"the mixture has no row {number}", hint="safetune verify")
    return parts[place]


def rows(objects: ObjectStore, part: Part, wanted: Callable[[bytes], bool] | None = None) -> Iterator[Placed]:
    """Yield the rows of a part in order, those whose line is `wanted`; a line is looked at before it is parsed.

    Raises:
        IntegrityError: when the rows cannot be read, or are not as many as the mixture says.
    """
    count = 0
    try:
        with open_regular(objects.path(part.data) / ROWS) as stream:
            for count, line in enumerate(stream, 1):
                if wanted is None or wanted(line):
                    found: Any = json.loads(line)
                    yield Placed(part.first + count - 1, part, count, str(found["id"]), found["row"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(f"row {count} of {part.name} cannot be read: {error}", hint="safetune verify") from error
    if count != part.kept:
        raise IntegrityError(f"{part.name} has {count} rows, its mixture says {part.kept}", hint="safetune verify")


def find_rows(objects: ObjectStore, mixture: Mixture, prefix: str) -> tuple[Placed, ...]:
    """Return the rows of a mixture whose id begins with `prefix`; one that is in several parts is found in each."""
    needle = prefix.encode()
    found = (row for part in mixture.parts for row in rows(objects, part, lambda line: needle in line))
    return tuple(row for row in found if row.id.startswith(prefix))


class Library:
    """Mixtures and records of one store, each read and verified once."""

    def __init__(self, objects: ObjectStore) -> None:
        self.objects = objects
        self._records: dict[str, Record] = {}
        self._sights: dict[str, Mapping[int, Sight]] = {}
        self._mixtures: dict[str, Mixture] = {}

    def record(self, lineage: str) -> Record:
        """Return what a run wrote down."""
        if lineage not in self._records:
            self._records[lineage] = read_record(self.objects, lineage)
        return self._records[lineage]

    def sights(self, lineage: str) -> Mapping[int, Sight]:
        """Return the rows that a run saw."""
        if lineage not in self._sights:
            self._sights[lineage] = sights(self.record(lineage).seen)
        return self._sights[lineage]

    def mixture(self, lineage: str) -> Mixture:
        """Return the mixture of a run, its rows verified.

        Raises:
            IntegrityError: when a stored row is not what was admitted, or the record counts beyond the rows.
        """
        digest = self.record(lineage).mixture
        if digest not in self._mixtures:
            found = read_mixture(self.objects, digest)
            for data in {part.data for part in found.parts}:
                self.objects.verify(data)
            self._mixtures[digest] = found
        found = self._mixtures[digest]
        part_of(found.parts, max(self.sights(lineage), default=0))
        return found


@dataclass(frozen=True, slots=True)
class Sighting:
    """A checkpoint that saw a row: in its own training, or through the ancestor `via`."""

    checkpoint: str
    training: Training
    row: Placed
    steps: tuple[int, ...]
    times: int
    via: str = ""


def sightings(library: Library, events: Sequence[Event], wanted: frozenset[str]) -> tuple[Sighting, ...]:
    """Return every checkpoint that saw any of the rows with the ids `wanted`, itself or through an ancestor.

    Raises:
        IntegrityError: when a record or a mixture is missing or damaged: then nobody can say who saw what.
    """
    made = trainings(events)
    needles = tuple(row_id.encode() for row_id in wanted)
    own: dict[str, list[Sighting]] = {}
    for checkpoint, runs in made.items():
        for run in runs:
            if run.lineage:
                own.setdefault(checkpoint, []).extend(_own(library, run, wanted, needles))
    found = []
    for checkpoint in made:
        for ancestor in ancestry(made, checkpoint):
            via = "" if ancestor == checkpoint else ancestor
            found += [
                Sighting(checkpoint, one.training, one.row, one.steps, one.times, via) for one in own.get(ancestor, ())
            ]
    return tuple(found)


def _own(library: Library, run: Training, wanted: frozenset[str], needles: Sequence[bytes]) -> Iterator[Sighting]:
    mixture, seen = library.mixture(run.lineage), library.sights(run.lineage)
    placed = {
        row.number: row
        for part in mixture.parts
        for row in rows(library.objects, part, lambda line: any(needle in line for needle in needles))
        if row.id in wanted and row.number in seen
    }
    if not placed:
        return
    steps = steps_that_saw(library.record(run.lineage).seen, frozenset(placed))
    for number, row in placed.items():
        yield Sighting(run.checkpoint, run, row, steps[number], seen[number].times)


def checkpoints_of_source(library: Library, events: Sequence[Event], name: str, sha256: str = "") -> tuple[str, ...]:
    """Return every checkpoint that saw a row of a source, by name or by the digest of its bytes, or inherited it.

    Raises:
        IntegrityError: when a record or a mixture is missing or damaged.
    """
    made = trainings(events)
    touched = {
        run.checkpoint
        for runs in made.values()
        for run in runs
        if run.lineage and _saw_source(library, run.lineage, name, sha256)
    }
    return tuple(c for c in made if touched.intersection(ancestry(made, c)))


def _saw_source(library: Library, lineage: str, name: str, sha256: str) -> bool:
    mixture = library.mixture(lineage)
    meant = {
        n for n, said in mixture.sources.items() if (n == name and not sha256) or (sha256 and said["sha256"] == sha256)
    }
    spans = [range(part.first, part.first + part.kept) for part in mixture.parts if part.name in meant]
    return any(number in span for span in spans for number in library.sights(lineage)) if spans else False
