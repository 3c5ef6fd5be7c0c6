"""The data desk: what is known of the playbook's sources under their guards, and their way into the store.

A plan may rest on what an earlier plan remembered. What trains a model may not: it is guarded by the run itself, or was
by a run that the ledger names, and has to be what the plan saw.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from safetune.core.digest import JSON, canonical, digest, short
from safetune.core.errors import IntegrityError, MachineError, SafetuneError, StalePlanError, UsageError
from safetune.core.events import Event
from safetune.core.evidence import Prompt
from safetune.core.guarded import Guarded, guarded_from
from safetune.core.playbook import Playbook
from safetune.core.source import Source
from safetune.core.standing import Standing
from safetune.engine.data.admission import problem_of, refused, warning_of
from safetune.engine.data.declared import declared, named_sources
from safetune.engine.data.guarding import COMPARING, Guards, Scope
from safetune.engine.data.staging import ROWS
from safetune.engine.data.stored_rows import rows_in
from safetune.engine.prompts import ALL, Load
from safetune.protocols import Listener
from safetune.state.atomic import machine_errors, write_atomic
from safetune.state.lock import FileLock
from safetune.state.store import Store

DATA_FORMAT = "safetune-data/1"
_MEMORY = "guarded.json"
_WAIT_SECONDS = 3600.0  # another run that guards the same rows


def scope_of(playbook: Playbook, load: Load, withdrawn: frozenset[str] = frozenset()) -> Scope:
    """Return what the guards of a playbook are told; a suite that cannot be read stops those that compare with it.

    `withdrawn` are the ids of rows that may train nothing any more.
    """
    policy = playbook.inputs.policy
    used = {s.name for source in playbook.sources for s in policy.guards_for(source.guards)}
    if not used & set(COMPARING):
        return Scope(policy, withdrawn=withdrawn)
    suites: dict[str, Sequence[Prompt]] = {}
    unreadable = ""
    for suite in playbook.suites:
        try:
            suites[suite.name] = load(suite, ALL)
        except SafetuneError as error:
            unreadable = unreadable or error.message
    identity = digest({name: [[p.item_id, p.text, p.reference] for p in found] for name, found in suites.items()})
    return Scope(policy, suites, identity, withdrawn, unreadable)


def trained_on(playbook: Playbook) -> tuple[Source, ...]:
    """Return the sources that any stage or technique trains on, in the order of the playbook."""
    stages = [stage for sprint in playbook.sprints for stage in sprint.stages]
    used = {name for stage in stages for name, _ in stage.sources}
    used |= {name for stage in stages for t in stage.techniques for name, _ in t.sources}
    used |= {name for stage in stages if stage.screen for name in stage.screen.anchors if name}
    return tuple(source for source in playbook.sources if source.name in used)


def recorded(events: Iterable[Event]) -> Mapping[str, Guarded]:
    """Return the outcomes that the ledger names, by key; each has its rows in the store."""
    found = {}
    for event in events:
        rows = event.data.get("sources") if event.kind == "admitted" else None
        for row in rows if isinstance(rows, list | tuple) else ():
            outcome = row.get("guarded") if isinstance(row, Mapping) else None
            with suppress(ValueError):
                one = guarded_from(outcome)
                found[one.key] = one
    return found


class Memory:
    """Outcomes that plans remember in the store's folder for scratch work; damage only makes a plan slower."""

    def __init__(self, work: Path | None) -> None:
        self._path = work / _MEMORY if work else None
        self._known: dict[str, Guarded] = {}
        self._dirty = False
        if self._path:
            with suppress(OSError, ValueError, AttributeError, TypeError, RecursionError):
                found = [guarded_from(row) for row in json.loads(self._path.read_bytes())]
                self._known = {one.key: one for one in found}

    def known(self) -> Mapping[str, Guarded]:
        """Return the outcomes by key."""
        return self._known

    def add(self, outcome: Guarded) -> None:
        """Remember an outcome."""
        self._known[outcome.key] = outcome
        self._dirty = True

    def save(self) -> None:
        """Write what was learnt, where there is a store."""
        if self._dirty and self._path:
            with suppress(OSError, MachineError, UnicodeEncodeError, ValueError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(self._path, canonical([one.json for one in self._known.values()]))


def judged(source: Source, outcome: Guarded, playbook: Playbook, standing: Standing) -> Guarded:
    """Return an outcome with what speaks against the source as a whole: its declarations, and a withdrawal.

    Raises:
        UsageError, IntegrityError: when a record of it cannot be read.
    """
    if gone := standing.data.of_any(named_sources(source)):
        return replace(outcome, problem=f"it was withdrawn in ledger line {gone.seq}: {gone.reason}; leave it out")
    found = refused(source, playbook.inputs.policy.admission, source.name in _learnt_from(playbook))
    problem = problem_of(found)
    problem = f"not admitted: {problem}" if problem else outcome.problem
    return replace(outcome, problem=problem, warning=warning_of(found))


def _learnt_from(playbook: Playbook) -> frozenset[str]:
    """Return the sources whose rows enter a loss; a screen only compares with its anchors."""
    stages = [stage for sprint in playbook.sprints for stage in sprint.stages]
    names = {name for stage in stages for name, _ in stage.sources}
    return frozenset(names | {name for stage in stages for t in stage.techniques for name, _ in t.sources})


def survey_data(
    playbook: Playbook, scope: Scope, events: Iterable[Event], standing: Standing, where: tuple[Memory, Listener]
) -> Mapping[str, Guarded]:
    """Return what becomes of every source that is trained on; what is not known yet is guarded now.

    A source that cannot be read, or whose guard cannot work, has a problem, and so have those that come after it.
    """
    memory, listener = where
    known = recorded(events)
    guards = Guards(scope)
    found: dict[str, Guarded] = {}
    broken = ""
    for source in trained_on(playbook):
        if broken:
            found[source.name] = Guarded(source.name, "", problem=f"the source {broken} before it cannot be guarded")
            continue
        try:
            key = guards.key(source)
            outcome = known.get(key) or memory.known().get(key)
            if outcome is None:
                outcome = guards.guard(source, None, listener)
                memory.add(outcome)
            else:
                guards.known(source, outcome)
            found[source.name] = judged(source, outcome, playbook, standing)
        except (UsageError, IntegrityError) as error:
            broken = source.name
            hint = f"; {error.hint}" if error.hint else ""
            found[source.name] = Guarded(source.name, "", problem=_without_name(error.message, source) + hint)
    memory.save()
    return found


def _without_name(message: str, source: Source) -> str:
    return message.removeprefix(f"source {source.name}: ")


@dataclass(frozen=True, slots=True)
class Admitted:
    """A source whose rows lie in the store, and what became of it under the guards."""

    source: Source
    outcome: Guarded


def admit(
    playbook: Playbook, scope: Scope, planned: Mapping[str, Guarded], store: Store, listener: Listener
) -> Mapping[str, Admitted]:
    """Put the guarded rows of every source into the store, and return them by name.

    Raises:
        IntegrityError: when a source is not what the plan saw.
        UsageError: when a source is blocked.
        StalePlanError: when a row was withdrawn since the plan was made.
    """
    refuse_withdrawn(scope, store)
    known = recorded(store.events())
    guards = Guards(scope)
    found = {}
    for source in trained_on(playbook):
        if problem := judged(source, Guarded(source.name, ""), playbook, store.standing()).problem:
            raise UsageError(f"source {source.name}: {problem}", hint=f"safetune plan {playbook.path}")
        key = guards.key(source)
        outcome = known.get(key)
        if outcome is not None and outcome.data and store.objects.path(outcome.data).is_dir():
            store.objects.verify(outcome.data)
            guards.known(source, outcome)
        else:
            outcome = _fresh(guards, source, playbook, (store, listener))
        _check_planned(source, outcome, planned.get(source.name))
        found[source.name] = Admitted(declared(source), outcome)
    return found


def withdrawn_ids(store: Store | None) -> frozenset[str]:
    """Return the ids of all rows that were withdrawn: one by one, or with the source that they were admitted from.

    A withdrawn source does not come back under another name or in another file: its rows are known.

    Raises:
        IntegrityError: when the rows of a withdrawn source cannot be read any more.
    """
    if store is None:
        return frozenset()
    standing = store.standing()
    found = set(standing.withdrawn_rows)
    if len(found) == len(standing.withdrawn):
        return frozenset(found)
    data: set[tuple[str, str]] = set()
    for event in store.events():
        rows = event.data.get("sources") if event.kind == "admitted" else None
        for row in rows if isinstance(rows, list | tuple) else ():
            if isinstance(row, Mapping) and standing.data.of_source(str(row.get("name")), str(row.get("sha256"))):
                data.add((str(row.get("name")), str(row.get("data") or "")))
    for name, digest_of in sorted(data):
        if digest_of:
            found |= {row for row, _ in rows_in(store.objects, digest_of, name)}
    return frozenset(found)


def refuse_withdrawn(scope: Scope, store: Store) -> None:
    """Raise StalePlanError when rows were withdrawn that guards were not told of."""
    missed = withdrawn_ids(Store.open(store.root)) - scope.withdrawn
    if missed:
        raise StalePlanError(
            f"row {min(missed)[:12]} was withdrawn since the plan was made; nothing more was trained",
            hint="run the same command again: the row is then left out",
        )


def _fresh(guards: Guards, source: Source, playbook: Playbook, where: tuple[Store, Listener]) -> Guarded:
    store, listener = where
    key = guards.key(source)
    place = store.root / "work" / "guarding"
    with machine_errors("guard the rows"):
        place.mkdir(parents=True, exist_ok=True)
    with FileLock(place / f"{key[:32]}.lock", _WAIT_SECONDS, f"the rows of source {source.name}"):
        return _guard_and_store(guards, source, playbook, (store, listener), place / key[:32])


def _guard_and_store(
    guards: Guards, source: Source, playbook: Playbook, where: tuple[Store, Listener], folder: Path
) -> Guarded:
    """Look at the rows from the first one on: what lies in the work folder from before is not trusted."""
    store, listener = where
    outcome = guards.guard(source, folder, listener, resume=False)
    if outcome.problem:
        shutil.rmtree(folder, ignore_errors=True)
        raise UsageError(f"source {source.name}: {outcome.problem}", hint="safetune data check PLAYBOOK shows all")
    policy = playbook.inputs.policy
    settings = [guard.identity for guard in policy.guards_for(source.guards)]
    content: Mapping[str, JSON] = {
        "format": DATA_FORMAT,
        "source": declared(source).declarations,
        "guarded": outcome.json,
        "policy": {**policy.identity, "guards": settings},
    }
    write_atomic(folder / "data.json", canonical(content) + b"\n")
    data = store.objects.adopt(folder)
    shutil.rmtree(folder, ignore_errors=True)
    if store.objects.manifest(data)[ROWS][1] != outcome.rows_sha256:
        raise IntegrityError(f"the guarded rows of source {source.name} were changed on their way into the store")
    return replace(outcome, data=data)


def _check_planned(source: Source, outcome: Guarded, planned: Guarded | None) -> None:
    if planned is None or planned.rows_sha256 != outcome.rows_sha256 or planned.key != outcome.key:
        raise IntegrityError(
            f"source {source.name} gives rows {short(outcome.rows_sha256)}, the plan was made for "
            f"{short(planned.rows_sha256) if planned else 'none'}; nothing was trained",
            hint="run the same command again",
        )
