"""Answers to three questions: which checkpoints saw this row, what may have taught this checkpoint, which rows are near
this answer. Every row comes with its source, licence and consent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetune.core.digest import JSON, short
from safetune.core.errors import IntegrityError, UsageError
from safetune.core.events import Event
from safetune.core.rollback import find_checkpoint
from safetune.engine.data.excerpts import excerpt
from safetune.engine.data.file_lines import ids_of_line
from safetune.engine.data.lineage import Library, Placed, Training, ancestry, part_of, rows, sightings, trainings
from safetune.engine.data.mixture import Mixture, Part, read_mixture
from safetune.engine.data.nearest import nearest
from safetune.engine.data.texts import texts_of
from safetune.engine.evidence_files import read_evidence
from safetune.state.store import Store

_SHORTEST = 8  # digits of a row id
_ROW_ID = re.compile(r"[0-9a-f]+")
_FILE_LINE = re.compile(r"(.+\.jsonl):([1-9][0-9]*)")
STEPS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a row is from: its source and what that says of itself; `line` counts the rows that were kept, from 1.

    `role` is `train`, or `technique:NAME` or `anchor:...` for rows that something else than training reads.
    """

    source: str
    role: str
    line: int
    licence: str
    consent: str
    basis: str
    publisher: str


@dataclass(frozen=True, slots=True)
class SeenBy:
    """A checkpoint that saw a row: how often, in which optimizer steps (the first few), of how many.

    `via` is the ancestor in whose training that was; empty when it was the checkpoint's own.
    """

    checkpoint: str
    status: str
    place: str
    origin: Origin
    times: int
    steps: tuple[int, ...]
    steps_in_all: int
    via: str


@dataclass(frozen=True, slots=True)
class RowTrace:
    """One row: where it was admitted, and who saw it. `unrecorded` are checkpoints of which nobody can say.

    `withdrawn` names the ledger lines in which the row or its source was withdrawn.
    """

    row: str
    origins: tuple[Origin, ...]
    seen: tuple[SeenBy, ...]
    unrecorded: tuple[str, ...]
    excerpt: str = ""
    withdrawn: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceTrace:
    """A source that a training drew on: rows that were kept, how many of them were seen, and how often in all."""

    origin: Origin
    sha256: str
    share: float
    kept: int
    seen: int
    times: int


@dataclass(frozen=True, slots=True)
class StageTrace:
    """One training in the chain of a checkpoint; `recorded` is False when nobody wrote down what it saw."""

    checkpoint: str
    status: str
    place: str
    parent: str
    recorded: bool
    steps: int = 0
    mixture: str = ""
    sources: tuple[SourceTrace, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckpointTrace:
    """All that may have taught a checkpoint, its own training first."""

    checkpoint: str
    status: str
    stages: tuple[StageTrace, ...]


@dataclass(frozen=True, slots=True)
class NearRow:
    """A row near an answer: who saw it (the checkpoint or the ancestor nearest to it), how near it is.

    `gradient` is the cosine of its gradient with that of the answer, and None where nobody asked for it.
    """

    row: str
    origin: Origin
    seen_by: str
    times: int
    score: float
    shared: float
    gradient: float | None = None
    excerpt: str = ""


@dataclass(frozen=True, slots=True)
class OutputTrace:
    """The rows near an answer, of all the rows that its checkpoint and its ancestors saw.

    `notes` say where a comparison by gradients is not that of what was trained.
    """

    checkpoint: str
    status: str
    characters: int
    compared: int
    near: tuple[NearRow, ...]
    unrecorded: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Tracer:
    """Looks things up in one store."""

    def __init__(self, root: Path) -> None:
        self.store = Store.open(root)
        self._standing, self._events = self.store.standing(), self.store.events()
        self.shelf = Library(self.store.objects)
        self.made = trainings(self._events)

    # -- a row ---------------------------------------------------------------------------------------------------------

    def row(self, named: str, show: bool = False) -> RowTrace:
        """Return who saw a row, by its id or the beginning of it, or by `FILE.jsonl:LINE`.

        Raises:
            UsageError: when it names no row of any mixture, or several.
            IntegrityError: when a record is damaged: then nobody can say who saw what.
        """
        prefixes = row_named(named, self._events)
        placed = [row for mixture in self._mixtures() for row in _with_prefix(self.shelf, mixture, prefixes)]
        ids = sorted({row.id for _, row in placed})
        if not ids:
            raise UsageError(
                f"no mixture of this store has the row {prefixes[0][:16]}",
                hint="an id has 32 digits, of which 8 are enough; or name FILE.jsonl:LINE",
            )
        if len(ids) > 1:
            listed = ", ".join(i[:16] for i in ids[:5])
            raise UsageError(f"{named[:80]!r} is ambiguous: {listed}", hint="give more digits of one id")
        seen = tuple(
            SeenBy(
                checkpoint=one.checkpoint,
                status=self._status(one.checkpoint),
                place=one.training.place,
                origin=_origin(self.shelf.mixture(one.training.lineage), one.row.part, one.row.line),
                times=one.times,
                steps=one.steps[:STEPS_SHOWN],
                steps_in_all=len(one.steps),
                via=one.via,
            )
            for one in sightings(self.shelf, self._events, frozenset(ids))
        )
        origins = dict.fromkeys(_origin(mixture, row.part, row.line) for mixture, row in placed)
        text = excerpt(placed[0][1].content) if show else ""
        gone = self._withdrawn(ids[0], [mixture.sources[row.part.name] for mixture, row in placed])
        return RowTrace(ids[0], tuple(origins), seen, self._unrecorded(self.made), text, gone)

    def _withdrawn(self, row: str, sources: Sequence[Mapping[str, JSON]]) -> tuple[int, ...]:
        """Return the ledger lines that withdraw a row or a source of it."""
        names, digests = ({str(said.get(key, "")) for said in sources} for key in ("name", "sha256"))
        lines = []
        for event in self._events:
            sha256, name = event.text("sha256"), event.text("name")
            of_source = sha256 in digests if sha256 else name in names
            if event.kind == "withdrawn" and (name == row if event.text("what") == "row" else of_source):
                lines.append(event.seq)
        return tuple(lines)

    def _mixtures(self) -> Iterator[Mixture]:
        """Yield all mixtures that the ledger names, each once; a damaged one is an error, not a gap."""
        named = dict.fromkeys(e.text("mixture") for e in self._events if e.kind == "admitted")
        lineages = [run.lineage for runs in self.made.values() for run in runs if run.lineage]
        named |= dict.fromkeys(self.shelf.record(lineage).mixture for lineage in lineages)
        for digest in named:
            if digest:
                yield read_mixture(self.store.objects, digest)

    # -- a checkpoint --------------------------------------------------------------------------------------------------

    def named(self, target: str) -> str:
        """Return the digest of a channel's checkpoint, or of the one that begins with `target`.

        Raises:
            UsageError: when there is none.
        """
        channel = self._standing.channels.get(target)
        return channel.current if channel else find_checkpoint(self._standing, target, "trace")

    def is_checkpoint(self, target: str) -> bool:
        """Say whether `target` names a channel, or begins the digest of a checkpoint."""
        return target in self._standing.channels or any(d.startswith(target) for d in self._standing.checkpoints)

    def checkpoint(self, digest: str) -> CheckpointTrace:
        """Return what may have taught a checkpoint.

        Raises:
            IntegrityError: when a record or a mixture is missing or damaged.
        """
        stages = tuple(self._stage(run) for run in self._runs(digest))
        return CheckpointTrace(digest, self._status(digest), stages)

    def _runs(self, digest: str) -> Iterator[Training]:
        for ancestor in ancestry(self.made, digest):
            yield from self.made.get(ancestor, ())

    def _stage(self, run: Training) -> StageTrace:
        found = StageTrace(run.checkpoint, self._status(run.checkpoint), run.place, run.parent, bool(run.lineage))
        if not run.lineage:
            return found
        mixture, record = self.shelf.mixture(run.lineage), self.shelf.record(run.lineage)
        seen: dict[Part, tuple[int, int]] = dict.fromkeys(mixture.parts, (0, 0))
        for number, sight in self.shelf.sights(run.lineage).items():
            part = part_of(mixture.parts, number)
            seen[part] = seen[part][0] + 1, seen[part][1] + sight.times
        sources = tuple(
            SourceTrace(
                origin=_origin(mixture, part, 0),
                sha256=str(mixture.sources[part.name].get("sha256", "")),
                share=part.share,
                kept=part.kept,
                seen=rows_seen,
                times=times,
            )
            for part, (rows_seen, times) in seen.items()
        )
        told = run.checkpoint, found.status, run.place, run.parent
        return StageTrace(*told, recorded=True, steps=record.steps, mixture=record.mixture, sources=sources)

    # -- an answer -----------------------------------------------------------------------------------------------------

    def answer(self, digest: str, item: str) -> str:
        """Return what a checkpoint answered to `SUITE/ITEM`, as the evidence of its last gate has it.

        Raises:
            UsageError: when it was never gated, or was not asked that.
        """
        suite, _, item_id = item.partition("/")
        gates = self._standing.checkpoints[digest].gates
        if not gates:
            raise UsageError(
                f"checkpoint {short(digest)} was never gated, so it has no evidence", hint='--output "TEXT"'
            )
        evidence = gates[-1].evidence
        self.store.objects.verify(evidence)
        found = read_evidence(self.store.objects.path(evidence)).suite(suite)
        output = next((i.output for i in found.candidate if i.item_id == item_id), None) if found else None
        if output is None:
            raise UsageError(f"the last gate of {short(digest)} did not ask {item[:80]!r}", hint="name it SUITE/ITEM")
        return output

    def near(self, digest: str, output: str, count: int, show: bool = False) -> OutputTrace:
        """Return the rows nearest to an answer, of all that the checkpoint and its ancestors saw.

        Raises:
            UsageError: when the answer is empty, or nobody wrote down what they saw.
            IntegrityError: when a record or a mixture is damaged.
        """
        if not output.strip():
            raise UsageError("the answer is empty: nothing is near to it")
        found, compared = nearest(output, lambda: self._texts(digest), count)
        near = tuple(self._near_row(*one.key, (one.score, one.shared), show) for one in found)
        chain = ancestry(self.made, digest)
        return OutputTrace(digest, self._status(digest), len(output), compared, near, self._unrecorded(chain))

    def far_row(self, run: Training, row: Placed) -> NearRow:
        """Return a row that was seen and is not near the answer."""
        return self._near_row(run, row, (0.0, 0.0), False)

    def _near_row(self, run: Training, row: Placed, figures: tuple[float, float], show: bool) -> NearRow:
        return NearRow(
            row=row.id,
            origin=_origin(self.shelf.mixture(run.lineage), row.part, row.line),
            seen_by=run.checkpoint,
            times=self.shelf.sights(run.lineage)[row.number].times,
            score=round(figures[0], 4),
            shared=round(figures[1], 4),
            excerpt=excerpt(row.content) if show else "",
        )

    def _texts(self, digest: str) -> Iterator[tuple[tuple[Training, Placed], str]]:
        for run, row in self.seen_rows(digest):
            yield (run, row), "\n".join(text.text for text in texts_of(row.content))

    def seen_rows(self, digest: str) -> Iterator[tuple[Training, Placed]]:
        """Yield every row that a checkpoint or an ancestor saw, each id once, the nearest training first.

        Raises:
            UsageError: when there is no record at all.
        """
        runs = [run for run in self._runs(digest) if run.lineage]
        if not runs:
            raise UsageError(f"nobody wrote down which rows {short(digest)} was trained on")
        known: set[str] = set()
        for run in runs:
            mixture, seen = self.shelf.mixture(run.lineage), self.shelf.sights(run.lineage)
            for part in mixture.parts:
                for row in rows(self.store.objects, part):
                    if row.number in seen and row.id not in known:
                        known.add(row.id)
                        yield run, row

    def _status(self, digest: str) -> str:
        found = self._standing.checkpoints.get(digest)
        return found.status if found else ""

    def _unrecorded(self, checkpoints: Sequence[str] | Mapping[str, object]) -> tuple[str, ...]:
        return tuple(c for c in checkpoints if not any(run.lineage for run in self.made.get(c, ())))


def row_named(named: str, events: Sequence[Event] = ()) -> tuple[str, ...]:
    """Return the id of a row, or the beginning of it, from what a person wrote: an id, or `FILE.jsonl:LINE`.

    There are several where the ledger (`events`) admitted the file as several sources that read a line differently.

    Raises:
        UsageError: when it is neither, or the line makes no row.
    """
    told = _FILE_LINE.fullmatch(named)
    if told:
        return ids_of_line(Path(told[1]), int(told[2]), events)
    if len(named) < _SHORTEST or not _ROW_ID.fullmatch(named.lower()):
        raise UsageError(
            f"{named[:80]!r} is neither the id of a row (at least 8 hex digits) nor FILE.jsonl:LINE, "
            "nor a channel or a checkpoint",
            hint="safetune status lists channels and checkpoints",
        )
    return (named.lower(),)


def _with_prefix(library: Library, mixture: Mixture, prefixes: tuple[str, ...]) -> Iterator[tuple[Mixture, Placed]]:
    needles = [prefix.encode() for prefix in prefixes]
    for part in mixture.parts:
        for row in rows(library.objects, part, lambda line: any(needle in line for needle in needles)):
            if row.id.startswith(prefixes):
                yield mixture, row


def _origin(mixture: Mixture, part: Part, line: int) -> Origin:
    said = mixture.sources.get(part.name)
    if said is None:
        raise IntegrityError(f"mixture {short(mixture.digest)} says nothing of {part.name}", hint="safetune verify")
    words = {name: str(said.get(name, "")) for name in ("licence", "consent", "basis", "publisher")}
    return Origin(part.name, part.role, line, **words)
