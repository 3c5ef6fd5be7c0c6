"""Withdrawn consent: which sources and rows may train no more, and which checkpoints they have trained. Pure.

Nothing frees such a checkpoint: no later gate, no override. What was learnt cannot be unlearnt by measuring.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from safetune.core.checkpoint import CheckpointStanding, Named
from safetune.core.events import ROW, SOURCE, Event
from safetune.core.growing import put

_ROW_ID = re.compile(r"[0-9a-f]{32}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """One `withdrawn` line: since which line, what (`source` or `row`), its name or row id, and why.

    `sha256` is that of the bytes of a source; empty where everything of that name is meant.
    """

    seq: int
    what: str
    name: str
    sha256: str
    reason: str

    @property
    def text(self) -> str:
        """What was withdrawn, in words."""
        return f"row {self.name}" if self.what == ROW else f"source {self.name}"


@dataclass(frozen=True, slots=True)
class DataStanding:
    """What the ledger says of training data.

    `admitted` are the sources of each stage, by stage key, those that a derived mixture was made of included;
    `mixtures` the same by the digest of a mixture. `withdrawn` has keys such as `row ID`, `source NAME` and
    `bytes SHA256`. `tainted` are stages whose training had begun, and had not ended, when a row was withdrawn.
    """

    admitted: Mapping[str, tuple[Named, ...]] = field(default_factory=dict)
    mixtures: Mapping[str, tuple[Named, ...]] = field(default_factory=dict)
    withdrawn: Mapping[str, Withdrawal] = field(default_factory=dict)
    tainted: Mapping[str, Withdrawal] = field(default_factory=dict)

    @property
    def rows(self) -> Mapping[str, Withdrawal]:
        """The rows that were withdrawn, by id."""
        return {found.name: found for found in self.withdrawn.values() if found.what == ROW}

    def of_source(self, name: str, sha256: str) -> Withdrawal | None:
        """Return the withdrawal of a source, be it of everything of its name or of its bytes under any name."""
        return self.withdrawn.get(f"source {name}") or self.withdrawn.get(f"bytes {sha256}")

    def of_any(self, sources: Iterable[Named]) -> Withdrawal | None:
        """Return the first withdrawal of any of some sources."""
        return next((found for name, sha in sources if (found := self.of_source(name, sha))), None)


NO_DATA = DataStanding()


def admit(data: DataStanding, event: Event) -> DataStanding | str:
    """Return the standing after sources were admitted to a stage, or why they may not be."""
    rows = event.data.get("sources")
    named = named_in(rows) if isinstance(rows, Sequence) and not isinstance(rows, str) else []
    inner = [one for _, sha256 in named for one in data.mixtures.get(sha256, ())]
    key, mixture = event.text("stage_key"), event.text("mixture")
    found = tuple(sorted({*data.admitted.get(key, ()), *named, *inner}))
    if gone := data.of_any(found):
        return f"the {gone.text} was withdrawn in line {gone.seq}"
    mixtures = put(data.mixtures, mixture, found) if mixture else data.mixtures
    return DataStanding(put(data.admitted, key, found), mixtures, data.withdrawn, data.tainted)


def named_in(rows: Sequence[object]) -> list[Named]:
    """Return the sources that declarations name, however deep; `of` holds those that a derived mixture was made of."""
    found: list[Named] = []
    for row in rows:
        if isinstance(row, Mapping):
            found.append((_text(row.get("name")), _text(row.get("sha256"))))
            inner = row.get("of")
            found += named_in(inner) if isinstance(inner, list | tuple) else []
    return found


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def withdrawn_from(event: Event) -> Withdrawal | str:
    """Return what a `withdrawn` line withdraws, or why it cannot be one."""
    what, name, sha256 = event.text("what"), event.text("name"), event.text("sha256")
    if what not in (SOURCE, ROW) or not name:
        return "it says neither which source nor which row is withdrawn"
    if what == ROW and not _ROW_ID.match(name):
        return f"{name[:40]!r} is no id of a row"
    if sha256 and (what == ROW or not _SHA256.match(sha256)):
        return "its sha256 is not that of a source"
    if not event.text("reason").strip():
        return "a withdrawal needs a reason"
    return Withdrawal(event.seq, what, name, sha256, event.text("reason"))


def withdraw(data: DataStanding, found: Withdrawal, stages: Iterable[str]) -> DataStanding:
    """Return the standing after a withdrawal; `stages` are those whose training goes on with the row."""
    key = f"{found.what} {found.name}" if not found.sha256 else f"bytes {found.sha256}"
    # Said again, it names those that learnt from it meanwhile; it holds since the first line.
    withdrawn, tainted = put(data.withdrawn, key, data.withdrawn.get(key, found)), data.tainted
    for stage in stages:
        tainted = put(tainted, stage, found)
    return DataStanding(data.admitted, data.mixtures, withdrawn, tainted)


def trained_on(sources: Iterable[Named], name: str, sha256: str) -> bool:
    """Return whether a source is among those of a checkpoint: by its bytes, or without them by its name."""
    return any(one[1] == sha256 if sha256 else one[0] == name for one in sources)


def descendants(parents: Mapping[str, str], roots: Iterable[str]) -> frozenset[str]:
    """Return checkpoints and all that was trained from them; `parents` maps each checkpoint to what it came from."""
    children: dict[str, list[str]] = {}
    for child, parent in parents.items():
        children.setdefault(parent, []).append(child)
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += children.get(one, [])
    return frozenset(found)


def named_by(found: Withdrawal, event: Event, known: Mapping[str, CheckpointStanding]) -> frozenset[str] | str:
    """Return the checkpoints that a `withdrawn` line names, or why they are not those that it must name.

    Which rows a checkpoint saw is not in the ledger, so of a row only what came from the named ones can be told.
    """
    named = texts_of(event, "checkpoints")
    if strange := sorted(named - known.keys()):
        return f"checkpoint {strange[0][:12]} is not in the ledger"
    learnt: Iterable[str] = named
    if found.what == SOURCE:
        learnt = [digest for digest, one in known.items() if trained_on(one.sources, found.name, found.sha256)]
    wanted = descendants({digest: one.parent for digest, one in known.items()}, learnt)
    if left := sorted(wanted - named):
        return f"{left[0][:12]} was trained on what is withdrawn, and is not named"
    if more := sorted(named - wanted):
        return f"{more[0][:12]} was not trained on what is withdrawn"
    return named


def texts_of(event: Event, name: str) -> frozenset[str]:
    """Return the texts of a list in a line; none where there is no list."""
    named = event.data.get(name)
    listed = named if isinstance(named, Sequence) and not isinstance(named, str) else ()
    return frozenset(str(one) for one in listed)


def on_its_data(
    found: CheckpointStanding, event: Event, known: Mapping[str, CheckpointStanding], data: DataStanding
) -> CheckpointStanding:
    """Return a checkpoint that was trained with its sources; withdrawn where any of them was meanwhile."""
    key, parent = event.text("stage_key"), known.get(event.text("parent"))
    found = replace(found, sources=tuple(sorted({*found.sources, *data.admitted.get(key, ())})))
    if data.of_any(found.sources) or data.tainted.get(key) or (parent and parent.withdrawn_at):
        return gone(found, event)
    return found


def gone(found: CheckpointStanding, event: Event) -> CheckpointStanding:
    """Return a checkpoint that nothing frees any more."""
    since = found.withdrawn_at or event.seq
    return replace(found, status="quarantined", quarantined_at=event.seq, withdrawn_at=since)
