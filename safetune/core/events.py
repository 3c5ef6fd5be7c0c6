"""Events: the lines of the ledger. A draft becomes an event when the ledger gives it a place, a time and a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from safetune.core.digest import JSON


@dataclass(frozen=True, slots=True)
class Draft:
    """What happened, before it has a place in the ledger."""

    kind: str
    data: Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the ledger. `seq` counts from 1; `prev` is the sha256 of the line before; `at` is UTC, ISO 8601."""

    seq: int
    prev: str
    at: str
    by: str
    kind: str
    data: Mapping[str, JSON]

    @property
    def row(self) -> Mapping[str, JSON]:
        """The JSON object of this line."""
        return {name: getattr(self, name) for name in self.__slots__}

    def text(self, name: str) -> str:
        """Return a text field, empty when absent."""
        value = self.data.get(name, "")
        return value if isinstance(value, str) else ""


GATED, AGAIN, EXTENDED = "gated", "again", "extended"  # the acts that a gate can be


@dataclass(frozen=True, slots=True)
class Spending:
    """What a gate took of the alpha budget of a playbook, and by which act.

    `spent` is its cost and `budget` the one in force. `act` is `gated`, `again` or `extended`; empty stands for what
    the attempt says. `extended` are the suites that were asked more, with how many clusters. `channel` is what the
    playbook promotes to: budgets belong to playbooks by name, and a channel sees through another name. `changed` says
    how guardrails differ from those of the gate before.
    """

    playbook: str = ""
    spent: float = 0.0
    budget: float = 0.0
    act: str = ""
    extended: Mapping[str, int] = field(default_factory=dict)
    channel: str = ""
    changed: Sequence[JSON] = ()


@dataclass(frozen=True, slots=True)
class GateRecord:
    """What the ledger keeps of a gate: which checkpoint, against what, on which evidence, with which verdict.

    `definitions` are the guardrails in full, as they enter their digest `guardrails`, so that the verdict can be
    reached again from the evidence alone. `basis` identifies guardrails, suites and judges together; `attempt` counts
    from 1; later ones need a `reason`.
    """

    stage_key: str
    checkpoint: str
    baseline: str
    guardrails: str
    evidence: str
    basis: str
    verdict: str
    attempt: int
    reason: str
    results: Sequence[JSON]
    definitions: Sequence[JSON] = ()
    spending: Spending = Spending()


def started(run: str, playbook: str, playbook_digest: str, plan: str) -> Draft:
    """A run began."""
    return Draft("started", {"run": run, "playbook": playbook, "playbook_digest": playbook_digest, "plan": plan})


def finished(run: str, exit_code: int) -> Draft:
    """A run ended, with its exit code."""
    return Draft("finished", {"run": run, "exit_code": exit_code})


def admitted(stage_key: str, mixture: str, sources: Sequence[JSON]) -> Draft:
    """Rows may train a stage: `mixture` is the object that names them, `sources` say where they are from."""
    return Draft("admitted", {"stage_key": stage_key, "mixture": mixture, "sources": list(sources)})


def screened(place: tuple[str, str], scores: str, counts: tuple[int, int], screen: Mapping[str, JSON]) -> Draft:
    """The rows of a stage were scored by its model; `place` is (stage key, mixture), `counts` (scored, flagged)."""
    (key, mixture), (scored, flagged) = place, counts
    data: dict[str, JSON] = {"stage_key": key, "mixture": mixture, "scores": scores, "scored": scored}
    return Draft("screened", {**data, "flagged": flagged, "share": flagged / scored, "screen": screen})


def trained(
    place: tuple[str, str, str], checkpoint: str, parent: str, figures: Mapping[str, JSON], lineage: str = ""
) -> Draft:
    """A candidate was made; `place` is (stage key, sprint, stage), `lineage` the object that says which rows it saw."""
    key, sprint, stage = place
    data: dict[str, JSON] = {"stage_key": key, "sprint": sprint, "stage": stage, "checkpoint": checkpoint}
    return Draft("trained", {**data, "parent": parent, "figures": figures, "lineage": lineage})


def failed(stage_key: str, step: str, message: str) -> Draft:
    """A step of a stage could not be done."""
    return Draft("failed", {"stage_key": stage_key, "step": step, "message": message})


def evaluated(subject: str, baseline: str, evidence: str, suites: Sequence[str], stage_key: str = "") -> Draft:
    """A model was measured; the evidence is an object in the store."""
    data: dict[str, JSON] = {"subject": subject, "baseline": baseline, "evidence": evidence, "suites": list(suites)}
    return Draft("evaluated", {**data, "stage_key": stage_key})


def for_gate(draft: Draft, playbook: str) -> Draft:
    """Mark an evaluation that served a gate of a playbook, by name, and so read the sealed part of its suites."""
    return Draft(draft.kind, {**draft.data, "gate": True, "playbook": playbook})


def gated(record: GateRecord) -> Draft:
    """A gate gave its verdict."""
    paid = record.spending
    data: dict[str, JSON] = {name: getattr(record, name) for name in record.__slots__ if name != "spending"}
    data |= {"results": list(record.results), "definitions": list(record.definitions)}
    data |= {"playbook": paid.playbook, "spent": paid.spent, "budget": paid.budget, "channel": paid.channel}
    data["act"] = paid.act or (GATED if record.attempt == 1 else AGAIN)
    also: dict[str, JSON] = {"extended": dict(paid.extended)} if paid.extended else {}
    also |= {"changed": list(paid.changed)} if paid.changed else {}
    return Draft("gated", {**data, **also})


def approved(checkpoint: str, evidence: str, gate: int, role: str, note: str) -> Draft:
    """Somebody agrees, in a role, that a checkpoint whose gate did not pass may be used; `gate` is its ledger line."""
    data: dict[str, JSON] = {"checkpoint": checkpoint, "evidence": evidence, "gate": gate}
    return Draft("approved", {**data, "role": role, "note": note})


def overridden(checkpoint: str, evidence: str, gate: int, reason: str) -> Draft:
    """Somebody decides to use a checkpoint although its gate, in ledger line `gate`, did not pass."""
    return Draft("overridden", {"checkpoint": checkpoint, "evidence": evidence, "gate": gate, "reason": reason})


def promoted(channel: str, checkpoint: str, previous: str, gate: int, stage_key: str) -> Draft:
    """A channel moved to a checkpoint that passed, or was overridden; `gate` is the ledger line of its last gate."""
    data: dict[str, JSON] = {"channel": channel, "checkpoint": checkpoint, "previous": previous, "gate": gate}
    return Draft("promoted", {**data, "stage_key": stage_key})


def demanding(draft: Draft, basis: str) -> Draft:
    """Bind a promotion to the gate that the plan demands: guardrails, suites and judges by their digest `basis`."""
    return Draft(draft.kind, {**draft.data, "basis": basis})


def rejected(checkpoint: str, stage_key: str, verdict: str, rule: str) -> Draft:
    """A candidate that never was current was refused."""
    return Draft("rejected", {"checkpoint": checkpoint, "stage_key": stage_key, "verdict": verdict, "rule": rule})


def held(checkpoint: str, stage_key: str, verdict: str) -> Draft:
    """A candidate is kept aside, neither promoted nor rejected."""
    return Draft("held", {"checkpoint": checkpoint, "stage_key": stage_key, "verdict": verdict})


SOURCE, ROW = "source", "row"  # what can be withdrawn


def withdrawn(what: str, name: str, sha256: str, reason: str, checkpoints: Sequence[str]) -> Draft:
    """Nobody may train on a source or a row any more; `checkpoints` are those that did, and all that came from them.

    `name` is that of a source, or the id of a row. `sha256` pins the bytes of a source; without it all of that name is
    meant.
    """
    data: dict[str, JSON] = {"what": what, "name": name, "sha256": sha256, "reason": reason}
    return Draft("withdrawn", {**data, "checkpoints": list(checkpoints)})


def as_of(draft: Draft, line: int, stages: Sequence[str]) -> Draft:
    """Bind the withdrawal of a row to the ledger line up to which rows were looked at.

    `stages` are those, by key, that were being trained on the row: whatever they make is withdrawn too.
    """
    return Draft(draft.kind, {**draft.data, "as_of": line, "stages": list(stages)})


BY_A_PERSON = "a person"  # the trigger of a rollback that no rule asked for


def rolled_back(move: tuple[str, str, str], reason: str, trigger: str, quarantined: Sequence[str]) -> Draft:
    """A channel moved away from a promoted checkpoint; `move` is (channel, from, to)."""
    channel, previous, target = move
    data: dict[str, JSON] = {"channel": channel, "previous": previous, "target": target, "reason": reason}
    return Draft("rolled_back", {**data, "trigger": trigger, "quarantined": list(quarantined)})
