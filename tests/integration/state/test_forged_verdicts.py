"""F1: a verdict that its evidence does not give is found, though chain, rules and objects are all in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from storelab import damage
from storelab.story import BASE, CHANNEL, GUARDRAILS, Story, gate_record, measured
from storelab.trials import copied

from safetune.core.alpha import Terms, cost
from safetune.core.events import Spending, approved, evaluated, gated, overridden, promoted, trained
from safetune.core.gate import decide
from safetune.core.playbook import guardrails_digest
from safetune.core.result import LimitResult, Rate, Seen
from safetune.core.verdict import Verdict
from safetune.engine.gating import gate_row, gate_rows
from safetune.engine.verify import Finding, verify
from safetune.state.store import Store

Data = dict[str, Any]


def _changed(template: Path, place: Path, change: Callable[[Data], object]) -> tuple[str, list[Finding]]:
    """Change the last gate of a sound store, with a chain that fits; return where it is and what verify finds."""
    root, _ = copied(template, place / "trial")
    rows = damage.rows(root)
    row = [r for r in rows if r["kind"] == "gated"][-1]
    change(row["data"])
    damage.forge(root, rows)
    return f"ledger line {row['seq']} (gated)", list(verify(root).findings)


def test_a_forged_pass_on_harmful_answers_is_found(template: Path, place: Path) -> None:
    """All is written as an honest PASS would be; only the stored labels say something else."""
    root, desk = copied(template, place / "trial")
    story = Story(Store.open(root), desk)
    before = story.store.standing().channels[CHANNEL].current
    checkpoint = story.adopt("harmful", before)
    story.commit(trained(("key", "sprint", "harmful"), checkpoint, before, {}))
    evidence = story.evidence(checkpoint, "complied")
    story.commit(evaluated(checkpoint, BASE, evidence, ["harmful"], "key"))
    line = story.commit(gated(gate_record("key", checkpoint, evidence, "refused")))
    story.commit(promoted(CHANNEL, checkpoint, before, line, "key"))
    found = verify(root).findings
    assert {f.where for f in found} == {f"ledger line {line} (gated)"}
    assert found[0].what == "the verdict is PASS, but the evidence gives FAIL"
    assert "harmful-requests" in found[1].what
    assert all("gate the checkpoint again" in f.hint for f in found)


def test_an_honest_refusal_to_pass_is_clean(template: Path, place: Path) -> None:
    root, desk = copied(template, place / "trial")
    story = Story(Store.open(root), desk)
    before = story.store.standing().channels[CHANNEL].current
    checkpoint = story.adopt("harmful", before)
    story.commit(trained(("key", "sprint", "harmful"), checkpoint, before, {}))
    evidence = story.evidence(checkpoint, "complied")
    story.commit(evaluated(checkpoint, BASE, evidence, ["harmful"], "key"))
    record = gate_record("key", checkpoint, evidence, "complied")
    story.commit(gated(record))
    assert record.verdict == "FAIL"
    assert verify(root).findings == ()


def _rename_with_digest(data: Data) -> None:
    """Other guardrails, with the digest that fits them: the results do not."""
    weaker = tuple(replace(g, min_samples=1, confidence=0.6) for g in GUARDRAILS)
    data["definitions"] = [{**g.identity, "limits": dict(g.limits.identity)} for g in weaker]
    data["guardrails"] = guardrails_digest(weaker)


CHANGES: dict[str, tuple[Callable[[Data], object], str]] = {
    "a bound": (
        lambda d: d["results"][0]["bounds"].__setitem__(1, 0.01),
        "(<= 50%): not what the evidence gives: bounds",
    ),
    "a bound by little": (
        lambda d: d["results"][0]["bounds"].__setitem__(1, d["results"][0]["bounds"][1] - 1e-6),
        "not what the evidence gives: bounds",
    ),
    "bounds that are none": (lambda d: d["results"][0].update(bounds=None), "gives: bounds"),
    "the verdict": (
        lambda d: d.update(verdict="INCONCLUSIVE"),
        "the verdict is INCONCLUSIVE, but the evidence gives PASS",
    ),
    "the verdict of a warning": (lambda d: d["results"][1].update(verdict="FAIL"), "guardrail no-worse"),
    "what it spent": (lambda d: d.update(spent=0.01), "it spent 0.01, but a gate of these guardrails costs 0.05"),
    "what it spent, by little": (lambda d: d.update(spent=d["spent"] - 1e-6), "a gate of these guardrails costs"),
    "an amount beyond all floats": (lambda d: d.update(spent=10**400), "which are no amounts"),
    "a budget beyond all floats": (lambda d: d.update(budget=10**400), "which are no amounts"),
    "an attempt beyond all floats": (lambda d: d.update(attempt=10**400), "does not follow 0 earlier one(s)"),
    "a size beyond all floats": (lambda d: d.update(extended={"harmful": 10**400}), "an extended gate, and no other"),
    "an amount that is none": (lambda d: d.update(spent=None), "which are no amounts"),
    "a budget that is none": (lambda d: d.update(budget=-1.0), "which are no amounts"),
    "a budget that would not have paid": (lambda d: d.update(budget=0.07), "the evidence gives INCONCLUSIVE"),
    "the playbook that paid": (lambda d: d.update(playbook=""), "the budget of no playbook"),
    "an attempt that is none": (lambda d: d.update(attempt=0), "which is no count"),
    "the act": (lambda d: d.update(act="again"), "cannot be called 'again'"),
    "sizes of an extension": (lambda d: d.update(extended={"harmful": 9}), "an extended gate, and no other"),
    "the severity in a result": (lambda d: d["results"][0].update(severity="warn"), "gives: severity"),
    "the reason of a limit": (lambda d: d["results"][0].update(why="none"), "gives: why"),
    "the estimate in a result": (lambda d: d["results"][0].update(estimate=0.2), "gives: estimate"),
    "a result without its estimate": (lambda d: d["results"][0].pop("estimate"), "gives: estimate"),
    "the notes of a result": (lambda d: d["results"][0].update(notes=["corrected"]), "gives: notes"),
    "a result without its notes": (lambda d: d["results"][0].pop("notes"), "gives: notes"),
    "whether a result is critical": (lambda d: d["results"][0].update(critical=True), "gives: critical"),
    "a count that is True": (lambda d: d["results"][0].update(paired=0), "gives: paired"),
    "a field more": (lambda d: d["results"][0].update(note="fine"), "gives: note"),
    "a field less": (lambda d: d["results"][0].pop("reason"), "gives: reason"),
    "a row less": (lambda d: d["results"].pop(), "the line has 1 results, but the evidence gives 2"),
    "a row more": (lambda d: d["results"].append(d["results"][0]), "the line has 3 results"),
    "a row that is none": (lambda d: d["results"].__setitem__(0, "PASS"), "the whole result"),
    "rows in another order": (lambda d: d["results"].reverse(), "guardrail harmful-requests"),
    "rows that are none": (lambda d: d.update(results="PASS"), "results"),
    "a limit": (lambda d: d["definitions"][0]["limits"].update(at_most=0.9), "not the one that it names"),
    "the severity in a definition": (
        lambda d: d["definitions"][0].update(severity="warn"),
        "not the one that it names",
    ),
    "a definition less": (lambda d: d["definitions"].pop(), "not the one that it names"),
    "definitions and their digest": (_rename_with_digest, "not what the evidence gives: confidence, bounds"),
    "the digest": (lambda d: d.update(guardrails="0" * 64), "not the one that it names"),
    "a definition that is none": (lambda d: d["definitions"][0].pop("limits"), "a guardrail that is none"),
    "no definitions": (lambda d: d.update(definitions=[]), "does not hold the guardrails"),
    "definitions left out": (lambda d: d.pop("definitions"), "does not hold the guardrails"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_gate_that_was_changed_is_found(template: Path, place: Path, what: str) -> None:
    change, said = CHANGES[what]
    where, found = _changed(template, place, change)
    assert any(f.where.startswith(where.split(" (")[0]) and said in f.what for f in found), found


def test_a_row_of_the_ledger_holds_what_a_result_says() -> None:
    seen, notes = Seen(Rate(3, 9), estimate=0.25), ("the judge's error is taken out",)
    result = LimitResult("g", "s", "block", "<= 5%", Verdict.FAIL, "too many", "why", seen, 0.95, True, notes)
    row = gate_row(result)
    assert (row["estimate"], row["notes"], row["critical"]) == (0.25, [*notes], True)


def test_a_severity_that_is_none_blocks(template: Path, place: Path) -> None:
    """A guardrail with a misspelt severity is an ERROR that blocks; a PASS beside it is found."""

    def change(data: Data) -> None:
        odd = (replace(GUARDRAILS[0], severity="wran"), *GUARDRAILS[1:])
        data["definitions"] = [{**g.identity, "limits": dict(g.limits.identity)} for g in odd]
        data["guardrails"] = guardrails_digest(odd)

    _, found = _changed(template, place, change)
    assert found[0].what == "the verdict is PASS, but the evidence gives ERROR"


def test_the_last_digits_of_a_bound_may_differ_between_machines(template: Path, place: Path) -> None:
    def change(data: Data) -> None:
        bounds = data["results"][0]["bounds"]
        bounds[1] *= 1 + 1e-14

    assert _changed(template, place, change)[1] == []


@pytest.mark.parametrize(("counted", "clean"), [(2, True), (1, False)])
def test_a_second_attempt_is_held_against_its_own_confidence(
    template: Path, place: Path, counted: int, clean: bool
) -> None:
    root, desk = copied(template, place / "trial")
    story = Story(Store.open(root), desk)
    checkpoint = story.store.standing().channels[CHANNEL].current
    result = decide(GUARDRAILS, measured(checkpoint), Terms(counted))
    record = gate_record("key-second", checkpoint, story.evidence(checkpoint))
    second = Spending("playbook", cost(GUARDRAILS, 2), 9.0)
    story.commit(gated(replace(record, attempt=2, reason="to be sure", results=gate_rows(result), spending=second)))
    assert verify(root).clean == clean


@pytest.mark.parametrize(("who", "clean"), [("bob", True), ("ann", False)])
def test_an_override_on_ones_own_approval_is_found(template: Path, place: Path, who: str, clean: bool) -> None:
    """Both names are written into the ledger; one that is changed afterwards, with a chain that fits, is found."""
    root, desk = copied(template, place / "trial")
    story = Story(Store.open(root), desk)
    before = story.store.standing().channels[CHANNEL].current
    checkpoint = story.adopt("harmful", before)
    story.commit(trained(("key", "sprint", "harmful"), checkpoint, before, {}))
    evidence = story.evidence(checkpoint, "complied")
    story.commit(evaluated(checkpoint, BASE, evidence, ["harmful"], "key"))
    line = story.commit(gated(gate_record("key", checkpoint, evidence, "complied")))
    for name, draft in (
        ("bob", approved(checkpoint, evidence, line, "safety", "")),
        ("ann", overridden(checkpoint, evidence, line, "a dialect")),
    ):
        story.store.ledger.author = lambda name=name: name  # type: ignore[misc]
        story.commit(draft)
    story.commit(promoted(CHANNEL, checkpoint, before, line, "key"))
    rows = damage.rows(root)
    next(r for r in rows if r["kind"] == "approved")["by"] = who
    damage.forge(root, rows)
    found = verify(root).findings
    assert (not found) == clean
    assert clean or "needs the approval of somebody else" in found[0].what
