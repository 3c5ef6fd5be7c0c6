"""Verify a store from its bytes alone: chain, rules, objects, evidence, gates, pointers. Nothing is written.

Every gate is decided again on the labels in its evidence, and the line must say the same. The judge is not run again:
that the labels fit the responses is taken from the evidence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from safetune.core.alpha import is_amount
from safetune.core.digest import short
from safetune.core.errors import IntegrityError, SafetuneError, UsageError
from safetune.core.events import ROW, Event
from safetune.core.evidence import EvaluationReport
from safetune.core.standing import Standing, fold
from safetune.core.withdrawal import texts_of
from safetune.engine.checkpoints import lineage
from safetune.engine.data.mixture import read_mixture
from safetune.engine.data.withdraw import SAW, saw_row
from safetune.engine.evidence_files import read_evidence
from safetune.engine.regate import differences, guardrails_of
from safetune.engine.shapes import misshapen
from safetune.state.look import Look, look
from safetune.state.objects import is_digest
from safetune.state.store import OldStore, Store, check_format

_BACKUP = "restore it from a backup, then: safetune verify"
_GATE_AGAIN = "do not trust this verdict; gate the checkpoint again"
_MOST_VIOLATIONS = 50
_STATUS = "nothing is lost: safetune status mends it"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be: where, what, and what to do about it."""

    where: str
    what: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was checked and what was found.

    `ledger_lines` and `objects` count what could be checked, `bytes_checked` the bytes that were hashed. `findings` are
    damage; `notes` are leftovers that nothing depends on.
    """

    ledger_lines: int
    objects: int
    bytes_checked: int
    findings: tuple[Finding, ...]
    notes: tuple[Finding, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether there is no damage."""
        return not self.findings


def verify(root: Path) -> VerifyReport:
    """Check everything in a store and return all that is wrong; damage is reported, never raised.

    Raises:
        UsageError: when there is no store in `root`, or one of an earlier format.
    """
    ledger = any((root / name).is_file() for name in ("ledger.jsonl", "ledger.head"))
    try:
        check_format(root)
    except OldStore:
        raise
    except UsageError:
        if not ledger:
            raise
    return _Verifier(root).run()


class _Verifier:
    """One pass over one store; each step adds to what was found."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._store = Store(root)
        self._findings: list[Finding] = []
        self._notes: list[Finding] = []
        self._sound: set[str] = set()
        self._seen: set[str] = set()
        self._bytes = 0
        self._lines = 0
        self._events: Sequence[Event] = ()

    def run(self) -> VerifyReport:
        self._try("format", self._format)
        found = self._ledger()
        events = found.chain.events
        self._lines, self._events = len(events), events
        standing = self._rules(events)
        for event in events:
            self._try(f"ledger line {event.seq} ({event.kind})", partial(self._event, event))
        self._gates(events)
        self._refs(standing, found.refs)
        self._try("objects", lambda: self._strangers())
        self._leftovers()
        return VerifyReport(len(events), len(self._sound), self._bytes, tuple(self._findings), tuple(self._notes))

    def _try(self, where: str, step: Callable[[], object]) -> bool:
        """Do one step; whatever stops it becomes a finding."""
        try:
            step()
        except SafetuneError as error:
            self._found(where, error.message, error.hint or _BACKUP)
        except OSError as error:
            self._found(where, f"cannot be read: {error.strerror or error}", "check the disk and who owns the store")
        except Exception as error:  # damaged bytes may break any reader, and what cannot be read is damage
            self._found(where, f"cannot be read: {type(error).__name__}: {error}", _BACKUP)
        else:
            return True
        return False

    def _found(self, where: str, what: str, hint: str) -> None:
        self._findings.append(Finding(where, what, hint))

    # -- ledger ------------------------------------------------------------------------------------------------------

    def _format(self) -> None:
        try:
            check_format(self._root)
        except UsageError as error:
            raise IntegrityError(
                f"the store's format file is missing or wrong: {error.message}", hint=_BACKUP
            ) from None

    def _ledger(self) -> Look:
        """Look at the ledger: the lines up to the first broken one, and the pointers of the same moment."""
        found = look(self._root)
        if found.problem:
            self._found("ledger", found.problem.message, found.problem.hint)
        elif found.unfinished:
            self._found("ledger", found.unfinished, _STATUS)
        return found

    def _rules(self, events: Sequence[Event]) -> Standing:
        """Apply the rules to every line; a line that breaks one is left out and the lines after it are still judged."""
        standing, left = Standing(), tuple(events)
        for _ in range(_MOST_VIOLATIONS):
            reached: list[Event] = []
            try:
                return fold(_noting(left, reached), standing)
            except Exception as error:  # a line may hold anything
                bad = reached.pop()
                what = error.message if isinstance(error, SafetuneError) else f"it cannot be understood: {error}"
                self._found(f"ledger line {bad.seq}", what, "it was written past the rules; do not use this store")
                standing, left = fold(reached, standing), left[len(reached) + 1 :]
        self._found("ledger", "more lines break the rules; these are not listed", "do not use this store")
        return standing

    # -- objects -----------------------------------------------------------------------------------------------------

    def _event(self, event: Event) -> None:
        """Check the shape of one line and every object that it names."""
        if wrong := misshapen(event):
            what = f"missing or of another type: {', '.join(wrong)}"
            self._found(
                f"ledger line {event.seq} ({event.kind})", what, "it was written past the rules; do not use this store"
            )
        for field in ("checkpoint", "evidence", "target", "previous", "mixture", "lineage", "scores"):
            if event.text(field):
                self._object(event, event.text(field))
        if event.kind == "trained":
            self._lineage(event)
        elif event.kind == "admitted":
            self._rows(event)
        elif event.kind == "withdrawn" and event.text("what") == ROW:
            self._withdrawn(event)

    def _rows(self, event: Event) -> None:
        """The rows of a mixture are objects of their own, and must be those that it names."""
        mixture = event.text("mixture")
        if mixture not in self._sound:
            return
        for part in read_mixture(self._store.objects, mixture).parts:
            self._object(event, part.data)

    def _withdrawn(self, event: Event) -> None:
        """The rules hold the withdrawal of a source against the ledger; who saw a row only the records of runs say."""
        before = [one for one in self._events if one.seq < event.seq]
        saw = saw_row(self._store.objects, before, event.text("name"))
        for digest in sorted(saw.keys() - texts_of(event, "checkpoints")):
            if saw[digest].startswith(SAW):
                what = f"{short(digest)} saw the row that is withdrawn, and is not named"
                self._found(f"ledger line {event.seq} (withdrawn)", what, "do not use that checkpoint")

    def _object(self, event: Event, digest: str) -> None:
        if digest not in self._seen:
            self._seen.add(digest)
            where = f"object {short(digest)} (ledger line {event.seq}, {event.kind})"
            self._try(where, lambda: self._hash(digest))

    def _hash(self, digest: str) -> None:
        self._bytes += self._store.objects.verify(digest)
        self._sound.add(digest)

    def _lineage(self, event: Event) -> None:
        """A checkpoint is only as sound as what it was built on, and its card must name the same parent."""
        checkpoint = event.text("checkpoint")
        if checkpoint not in self._sound:
            return
        *ancestors, own = found = lineage(self._store.objects, checkpoint).objects
        # A checkpoint with all its weights rests on no parent, and its lineage ends there.
        if ancestors and ancestors[-1] != event.text("parent"):
            raise IntegrityError(
                f"checkpoint {short(own)} was built on another parent than the line says", hint=_BACKUP
            )
        for digest in found:
            self._object(event, digest)

    # -- gates -------------------------------------------------------------------------------------------------------

    def _gates(self, events: Sequence[Event]) -> None:
        measured: set[tuple[str, str, str]] = set()
        spent: dict[str, float] = defaultdict(float)
        for event in events:
            if event.kind == "evaluated":
                measured.add((event.text("subject"), event.text("baseline"), event.text("evidence")))
                self._try(f"ledger line {event.seq} (evaluated)", partial(self._evidence, event, "subject"))
            elif event.kind == "gated":
                where = f"ledger line {event.seq} (gated)"
                if (event.text("checkpoint"), event.text("baseline"), event.text("evidence")) not in measured:
                    what = "its evidence was never recorded as an evaluation of that checkpoint"
                    self._found(where, what, _GATE_AGAIN)
                self._try(where, partial(self._gate, event, spent[event.text("playbook")]))
                paid = event.data.get("spent")
                spent[event.text("playbook")] += paid if is_amount(paid) else 0.0

    def _evidence(self, event: Event, subject: str) -> EvaluationReport | None:
        """Return the evidence that a line names; None when its bytes are already known to be damaged."""
        digest = event.text("evidence")
        if digest not in self._sound:
            return None
        report = read_evidence(self._store.objects.path(digest))
        if (report.subject, report.baseline) != (event.text(subject), event.text("baseline")):
            raise IntegrityError(f"evidence {short(digest)} is about other models than the line says")
        return report

    def _gate(self, event: Event, spent_before: float) -> None:
        """Decide the gate again; every way in which the line says something else is a finding."""
        guardrails = guardrails_of(event.data)
        report = self._evidence(event, "checkpoint")
        for what in differences(event.data, guardrails, report, spent_before) if report else ():
            self._found(f"ledger line {event.seq} (gated)", what, _GATE_AGAIN)

    # -- caches and leftovers ----------------------------------------------------------------------------------------

    def _refs(self, standing: Standing, refs: Mapping[str, str]) -> None:
        """Compare each pointer with the standing."""
        wanted = {name: channel.current for name, channel in standing.channels.items()}
        for name in sorted(wanted.keys() | refs.keys()):
            is_now, should = refs.get(name, ""), wanted.get(name, "")
            if is_now != should:
                what = f"points to {_shown(is_now)}, the ledger says {_shown(should)}"
                decides = "the ledger decides: safetune status derives it again"
                lost = "restore the ledger first; nothing else says where the channel stood"
                self._found(f"refs/{name}", what, decides if self._lines else lost)

    def _strangers(self) -> None:
        for name in self._store.objects.names():
            if name not in self._seen:
                what = "is not named by the ledger" if is_digest(name) else "is not an object"
                # A ledger that is gone or broken names nothing: whatever lies there may be all that is left.
                whole = self._lines and not self._findings
                hint = "harmless; nothing depends on it" if whole else "keep it: a restored ledger may name it"
                self._notes.append(Finding(f"objects/{short(name)}", what, hint))

    def _leftovers(self) -> None:
        for path in self._store.leftovers():
            where = path.relative_to(self._root).as_posix()
            self._notes.append(Finding(where, "was left by an interrupted command", "harmless"))


def _noting(events: Iterable[Event], reached: list[Event]) -> Iterator[Event]:
    for event in events:
        reached.append(event)
        yield event


def _shown(checkpoint: str) -> str:
    return repr(short(checkpoint)) if checkpoint else "nothing"
