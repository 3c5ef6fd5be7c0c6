"""Whether sprints met their objectives, by the gate results that the ledger holds. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from safetune.core.events import Event
from safetune.core.plan import Facts, PlannedStage, evidence_basis, suites_of
from safetune.core.playbook import Playbook, Sprint, Stage
from safetune.core.standing import Standing
from safetune.core.verdict import Verdict, worst

MET, NOT_MET, NOT_KNOWN = "met", "not met", "not known"


@dataclass(frozen=True, slots=True)
class Objective:
    """What became of a sprint's objective: `outcome` is met, not met or not known, and `why` says by what."""

    sprint: str
    objective: str
    outcome: str
    why: str


@dataclass(frozen=True, slots=True)
class History:
    """What the ledger holds: its events, and what they add up to."""

    events: Sequence[Event]
    standing: Standing


def objectives(
    playbook: Playbook, planned: Iterable[PlannedStage], facts: Facts, history: History
) -> tuple[Objective, ...]:
    """Return one objective per sprint, in playbook order.

    A success guardrail is judged by the last stage of its sprint whose gate names it, and by all of its limits; those
    that only warn count like the others. FAIL is not met. Whatever is neither PASS nor FAIL, was gated by another gate
    than the one of now, or was not gated is not known. With PASS throughout, the last stage must stand promoted too.
    """
    keys = {(p.sprint, p.stage): p.key for p in planned}
    return tuple(_objective(playbook, sprint, keys, (facts, history)) for sprint in playbook.sprints)


def _objective(
    playbook: Playbook, sprint: Sprint, keys: Mapping[tuple[str, str], str], world: tuple[Facts, History]
) -> Objective:
    facts, history = world
    if not sprint.success:
        return Objective(sprint.name, sprint.objective, NOT_KNOWN, "`success` names no guardrail")
    found: dict[str, Verdict | None] = {}
    for stage in sprint.stages:  # a later stage overrules an earlier one
        basis = evidence_basis(playbook.gate_of(stage), suites_of(playbook, stage), facts)
        verdicts = _verdicts(history, keys.get((sprint.name, stage.name), ""), basis)
        found |= {name: verdicts.get(name) for name in stage.gate if name in sprint.success}
    outcome, why = _outcome({name: found.get(name) for name in sprint.success})
    if outcome == MET and not _promoted(history.standing, keys.get((sprint.name, _last(sprint).name), "")):
        outcome, why = NOT_MET, f"{why}, but stage {_last(sprint).name} is not promoted"
    return Objective(sprint.name, sprint.objective, outcome, why)


def _last(sprint: Sprint) -> Stage:
    return sprint.stages[-1]


def _outcome(found: Mapping[str, Verdict | None]) -> tuple[str, str]:
    """Return the outcome and its reason: the worst guardrails of all, by name."""
    failed = [name for name, verdict in found.items() if verdict is Verdict.FAIL]
    if failed:
        return NOT_MET, f"FAIL: {', '.join(failed)}"
    unknown = [f"{n}: {v.value if v else 'not gated'}" for n, v in found.items() if v is not Verdict.PASS]
    return (NOT_KNOWN, ", ".join(unknown)) if unknown else (MET, f"PASS: {', '.join(found)}")


def _promoted(standing: Standing, key: str) -> bool:
    stage = standing.stages.get(key)
    checkpoint = standing.checkpoints.get(stage.checkpoint) if stage else None
    return checkpoint is not None and checkpoint.status == "promoted" and checkpoint.passed


def _verdicts(history: History, key: str, basis: str) -> Mapping[str, Verdict]:
    """Return the verdict of each guardrail in the last gate of a stage; none when that gate was another one."""
    stage = history.standing.stages.get(key)
    if stage is None or not stage.gate or stage.basis != basis:
        return {}
    rows = next((event.data.get("results") for event in history.events if event.seq == stage.gate), None)
    found: dict[str, list[Verdict]] = {}
    for row in rows if isinstance(rows, list | tuple) else ():
        if isinstance(row, Mapping):
            word = str(row.get("verdict"))
            verdict = Verdict(word) if word in Verdict.__members__ else Verdict.ERROR
            found.setdefault(str(row.get("guardrail")), []).append(verdict)
    return {name: worst(tuple(verdicts)) for name, verdicts in found.items()}
