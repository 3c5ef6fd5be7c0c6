"""Guard sources row by row: what is found, what the policy makes of it, and which rows are kept.

One pass over each source, in the order of the playbook, in batches; memory holds one batch and what guards remember.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from safetune.core.data_policy import BLOCK, DROP, OFF, REDACT, DataPolicy, GuardSettings, most_severe
from safetune.core.digest import JSON, digest
from safetune.core.errors import UsageError
from safetune.core.evidence import Prompt
from safetune.core.finding import Finding, Span
from safetune.core.guarded import Guarded, blocked
from safetune.core.row_id import canonical_row, row_id_of
from safetune.core.rows import shape
from safetune.core.source import Source
from safetune.engine.data.reading import BadRow, Row, read
from safetune.engine.data.staging import Staging
from safetune.engine.data.texts import Cut, learnt, redacted, texts_of
from safetune.plugins import load
from safetune.protocols import DataRow, Found, Guard, GuardSetup, Listener, Progress

_BATCH = 256
_SAID_EVERY = 10_000  # rows between two words of progress
_MARKED_EVERY = 50_000  # rows between two marks to go on from
_PLACES = 3
_FORMAT = "1"  # of what is stored; part of every key

COMPARING = ("contamination", "paraphrases")  # guards that compare with the playbook's suites
BAD_ROW, WITHDRAWN = "unreadable", "withdrawn"  # rules of the pipeline itself
PIPELINE = "rows"


@dataclass(frozen=True, slots=True)
class Scope:
    """What guards are told beside the rows: the policy, the prompts of the playbook's suites, and withdrawn row ids.

    `unreadable` says why a suite could not be read: no guard that compares with suites can work then.
    """

    policy: DataPolicy
    suites: Mapping[str, Sequence[Prompt]] = field(default_factory=dict)
    suites_identity: str = ""
    withdrawn: frozenset[str] = frozenset()
    unreadable: str = ""


@dataclass(frozen=True, slots=True)
class _Active:
    guard: Guard
    settings: GuardSettings


class Guards:
    """The guards of a playbook, which live as long as its sources are gone through one after the other."""

    def __init__(self, scope: Scope, only: Sequence[str] = ()) -> None:
        """Take a policy; with `only`, no other guards than those.

        Raises:
            UsageError: when `only` names a guard that the policy does not have.
        """
        self._scope = scope
        self._only = tuple(only)
        self._made: dict[str, Guard] = {}
        self._chain = ""  # what the sources before said: guards remember them
        self._pending: list[Source] = []  # sources whose outcome was known, and that guards have not seen

    def key(self, source: Source) -> str:
        """Return what the outcome of a source rests on, given the sources before it.

        Raises:
            UsageError: when a guard of it cannot work.
        """
        active = self._active(source)
        blind = next((a.guard.name for a in active if a.guard.name in COMPARING), "")
        if blind and self._scope.unreadable:
            why = f"source {source.name}: the guard {blind} cannot compare it with a suite: {self._scope.unreadable}"
            raise UsageError(why, hint="make the suite readable, or take it out of the playbook")
        return digest(
            {
                "format": _FORMAT,
                "before": self._chain,
                "source": source.identity,
                "kind": source.kind,
                "guards": [[a.settings.identity, a.guard.version] for a in active],
                "max_bad_rows": self._scope.policy.max_bad_rows,
                "max_flagged": self._scope.policy.max_flagged,
                "longest_row": self._scope.policy.longest_row,
                "languages": list(source.about.languages),
                "suites": self._scope.suites_identity,
                "withdrawn": sorted(self._scope.withdrawn),
            }
        )

    def known(self, source: Source, outcome: Guarded) -> None:
        """Take an outcome that was reached before; the rows are looked at again only if a later source needs it."""
        self._pending.append(source)
        self._chain = outcome.key

    def guard(self, source: Source, folder: Path | None, listener: Listener, resume: bool = True) -> Guarded:
        """Go through a source and return what became of it; kept rows and findings are left in `folder`.

        With `resume`, what an interrupted pass left there is taken up: not for rows that are to train a model.

        Raises:
            UsageError: when the source cannot be read, or a guard lacks something.
            IntegrityError: when its bytes are not the pinned ones.
        """
        key = self.key(source)
        self._catch_up()
        active = self._active(source)
        run = _Pass(source, self._scope, active, Staging(folder, key, resume), listener)
        outcome = replace(run.go(), key=key)
        self._chain = key
        return outcome

    def _catch_up(self) -> None:
        """Show the rows of earlier sources to guards that compare across sources; others begin anew with each."""
        for source in self._pending:
            active = [a for a in self._active(source) if getattr(a.guard, "across_sources", False)]
            if active:
                begin(active, source, self._scope)
                for batch in _batches(source, self._scope.policy.longest_row):
                    for one in active:
                        one.guard.check(batch.rows)
                for one in active:
                    one.guard.end()
        self._pending.clear()

    def _active(self, source: Source) -> list[_Active]:
        settings = self._scope.policy.guards_for(source.guards)
        if unknown := [name for name in self._only if name not in {s.name for s in settings}]:
            known = ", ".join(s.name for s in settings)
            raise UsageError(f"the policy has no guard {unknown[0]}", hint=f"known: {known}")
        wanted = [s for s in settings if not self._only or s.name in self._only]
        return [_Active(self._guard(s), s) for s in wanted if {s.action, *s.rules.values()} != {OFF}]

    def _guard(self, settings: GuardSettings) -> Guard:
        """Return the guard; sources with the same options share one, so that it can compare across them."""
        name = f"{settings.name} {digest(dict(settings.options))}"
        if name not in self._made:
            self._made[name] = load("guard", settings.name, settings.options)  # type: ignore[assignment]
        return self._made[name]


def begin(active: Sequence[_Active], source: Source, scope: Scope) -> None:
    """Tell guards which source comes next."""
    for one in active:
        one.guard.begin(GuardSetup(source, scope.suites))


@dataclass(slots=True)
class _Batch:
    """Rows that can be used, each with its canonical form, and those that cannot."""

    rows: list[DataRow] = field(default_factory=list)
    written: list[bytes] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)


def _batches(source: Source, longest: int) -> Iterator[_Batch]:
    """Yield the rows of a source in batches."""
    coming = read(source, longest)
    while some := list(islice(coming, _BATCH)):
        batch = _Batch()
        for one in some:
            if isinstance(one, Row):
                _take_up(one, batch)
            else:
                batch.bad.append(one)
        yield batch


def _take_up(row: Row, batch: _Batch) -> None:
    content = learnt(row.content)
    try:
        written = canonical_row(content)
    except (ValueError, RecursionError):
        why = "has text that UTF-8 cannot hold, or a number that is not finite"
        batch.bad.append(BadRow(row.line, why, row.file, row.at))
        return
    batch.rows.append(DataRow(row.id or row_id_of(written), row.line, texts_of(content), content, row.file))
    batch.written.append(written)


class _Pass:
    """One source going through its guards."""

    def __init__(
        self, source: Source, scope: Scope, active: Sequence[_Active], staging: Staging, listener: Listener
    ) -> None:
        self._source, self._scope, self._active = source, scope, active
        self._staging, self._listener = staging, listener
        self._rows = self._kept = self._bad = self._flagged = 0
        self._counts: Counter[str] = Counter()
        self._places: dict[str, tuple[str, ...]] = {}
        self._first_bad = ""
        self._form: tuple[str, ...] | None = None
        self._lines: list[tuple[str, bytes]] = []  # kept rows and findings that are not written yet
        self._notes: list[Finding] = []

    def go(self) -> Guarded:
        """Read all rows, and say what came of them."""
        begin(self._active, self._source, self._scope)
        done = self._recall()
        said = marked = done
        for batch in _batches(self._source, self._scope.policy.longest_row):
            size = len(batch.rows) + len(batch.bad)
            if done > 0:  # an earlier pass got that far: only guards that compare rows see them again
                done -= size
                for one in self._active:
                    if getattr(one.guard, "remembers", False):
                        one.guard.check(batch.rows)
                continue
            self._take_bad(batch.bad)
            self._take(batch)
            self._write()
            now = self._rows + self._bad
            if now - said >= _SAID_EVERY:
                said = now
                self._listener(Progress("guarded", self._source.name, {"rows": now, "kept": self._kept}))
            if now - marked >= _MARKED_EVERY:
                marked = now
                self._staging.set_mark(self._progress())
        for one in self._active:
            self._whole(one, one.guard.end())
        self._write()
        return self._outcome()

    def _write(self) -> None:
        self._staging.rows(self._lines)
        self._staging.findings(self._notes)
        self._lines.clear()
        self._notes.clear()

    # -- rows ---------------------------------------------------------------------------------------------------------

    def _take_bad(self, bad: Sequence[BadRow]) -> None:
        for one in bad:
            self._bad += 1
            self._first_bad = self._first_bad or one.message
            self._note(Finding(self._source.name, "", one.line, PIPELINE, BAD_ROW, DROP, note=one.why, file=one.file))
            if not self._scope.policy.max_bad_rows:
                raise UsageError(f"source {self._source.name}: {self._first_bad}", hint=_HOW_TO_GO_ON)

    def _take(self, batch: _Batch) -> None:
        rows = batch.rows
        found: dict[int, list[tuple[_Active, Found]]] = {}
        for one in self._active:
            for hit in one.guard.check(rows):
                if hit.row is not None and one.settings.action_of(hit.rule) != OFF:
                    found.setdefault(hit.row, []).append((one, hit))
                elif hit.row is None:
                    self._whole(one, (hit,))
        self._rows += len(rows)
        self._check_forms(rows)
        for number, (row, written) in enumerate(zip(rows, batch.written, strict=True)):
            if number in found or row.id in self._scope.withdrawn:
                self._decide(row, written, found.get(number, []))
            else:
                self._keep(row.id, written)

    def _check_forms(self, rows: Sequence[DataRow]) -> None:
        """Refuse rows of two forms in one source: no trainer can read them together."""
        for row in rows:
            form = shape(row.content)
            if form != self._form:
                if self._form is not None:
                    first, here = (" + ".join(f"`{c}`" for c in columns or ()) for columns in (self._form, form))
                    raise UsageError(
                        f"source {self._source.name}: {row.file}:{row.line}: has {here}; the rows before have {first}",
                        hint="write the rows of one source in one form",
                    )
                self._form = form

    def _decide(self, row: DataRow, written: bytes, hits: Sequence[tuple[_Active, Found]]) -> None:
        """Record what was found in a row and do what the most severe action says."""
        self._flagged += 1
        actions = []
        cuts: dict[str, list[Cut]] = {}
        for one, hit in hits:
            action = one.settings.action_of(hit.rule)
            if action == REDACT and not _can_be_cut(row, hit):
                action = DROP  # there is nothing to put in its place, or no place
            elif action == REDACT:
                cuts.setdefault(hit.path, []).append((hit.start, hit.end, hit.label))
            actions.append(action)
            span = Span(hit.path, hit.start, hit.end) if hit.path else None
            self._say(row, (one.guard.name, hit.rule, action), span, hit.note)
        if row.id in self._scope.withdrawn:
            actions.append(DROP)
            self._say(row, (PIPELINE, WITHDRAWN, DROP))
        worst = most_severe(tuple(actions))
        if worst not in (DROP, BLOCK):
            self._keep(row.id, canonical_row(redacted(row.content, cuts)) if cuts else written)

    def _keep(self, row: str, written: bytes) -> None:
        self._kept += 1
        self._lines.append((row, written))

    # -- what is found ------------------------------------------------------------------------------------------------

    def _whole(self, one: _Active, hits: Sequence[Found]) -> None:
        """Record what is found in the source as a whole: it can be noted or block, nothing can be taken out."""
        for hit in hits:
            action = one.settings.action_of(hit.rule)
            if action == OFF:
                continue
            kept = BLOCK if action == BLOCK else "flag"
            self._note(Finding(self._source.name, "", 0, one.guard.name, hit.rule, kept, note=hit.note))

    def _say(self, row: DataRow, what: tuple[str, str, str], span: Span | None = None, note: str = "") -> None:
        self._note(Finding(self._source.name, row.id, row.line, *what, span, note, row.file))

    def _note(self, finding: Finding) -> None:
        kind = f"{finding.guard}/{finding.rule}/{finding.action}"
        self._counts[kind] += 1
        known = self._places.get(kind, ())
        if len(known) < _PLACES and finding.line:
            self._places[kind] = (*known, f"{finding.file}:{finding.line}")
        self._notes.append(finding)

    # -- the end ------------------------------------------------------------------------------------------------------

    def _progress(self) -> Mapping[str, JSON]:
        places: dict[str, JSON] = {kind: list(found) for kind, found in self._places.items()}
        numbers = {"rows": self._rows, "kept": self._kept, "bad": self._bad, "flagged": self._flagged}
        return {**numbers, "counts": dict(self._counts), "places": places, "first_bad": self._first_bad}

    def _recall(self) -> int:
        """Take up what a mark says, and return how many rows it is about."""
        mark: Mapping[str, object] = self._staging.mark
        if not mark:
            return 0
        self._rows, self._kept, self._bad, self._flagged = (
            int(str(mark[name])) for name in ("rows", "kept", "bad", "flagged")
        )
        counts, places = mark["counts"], mark["places"]
        if isinstance(counts, Mapping) and isinstance(places, Mapping):
            self._counts.update(counts)
            self._places = {kind: tuple(found) for kind, found in places.items()}
        self._first_bad = str(mark["first_bad"])
        return self._rows + self._bad

    def _outcome(self) -> Guarded:
        return Guarded(
            name=self._source.name,
            key="",
            rows_sha256=self._staging.close(),
            rows=self._rows,
            kept=self._kept,
            bad=self._bad,
            flagged=self._flagged,
            counts=dict(sorted(self._counts.items())),
            places=dict(sorted(self._places.items())),
            problem=self._problem(),
        )

    def _problem(self) -> str:
        policy, file = self._scope.policy, Path(self._source.path).name
        everything = self._rows + self._bad
        if not everything:
            return f"{file} has no rows"
        if self._bad > policy.max_bad_rows * everything:
            return f"{self._bad:,} of {everything:,} rows cannot be read, the first at {self._first_bad}"
        if found := blocked(self._counts, self._places):
            return f"guards block it: {found}"
        if policy.max_flagged is not None and self._flagged > policy.max_flagged * self._rows:
            return f"{self._flagged:,} of {self._rows:,} rows have findings, more than {policy.max_flagged:.0%}"
        return "" if self._kept else f"no row of {everything:,} is left after the guards"


def _can_be_cut(row: DataRow, hit: Found) -> bool:
    text = next((text.text for text in row.texts if text.path == hit.path), "")
    return bool(hit.label) and 0 <= hit.start < hit.end <= len(text)


_HOW_TO_GO_ON = "mend the row, or allow some with `max_bad_rows` in the data policy"
