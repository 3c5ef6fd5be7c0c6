"""`safetune approve` and `safetune override`: two people, one evidence, and a verdict that stays what it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import pytest
from storelab import damage
from storelab.story import BASE, CHANNEL, Story, gate_record

from safetune.core.events import evaluated, gated, rolled_back, trained
from safetune.core.events import promoted as promotion
from safetune.state.store import Store

ANN, BOB = {"LOGNAME": "ann"}, {"LOGNAME": "bob"}
REASON = "the judge misread a dialect"


class Done(Protocol):
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any: ...


class Desk(Protocol):
    root: Path
    store: Path

    def do(self, *arguments: object, environment: dict[str, str] | None = None) -> Done: ...


class Bench:
    """A store in which one checkpoint was promoted and another one failed its gate."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.story = Story(Store.create(desk.store), desk.root / "made")
        self.first = self.story.promote("first")
        self.checkpoint = self.story.adopt("harmful", self.first)
        self.commit(trained(("key", "sprint", "harmful"), self.checkpoint, self.first, {}))
        self.gate()

    def commit(self, draft: Any) -> int:
        return Store.open(self.desk.store).commit(draft)

    def gate(self, label: str = "complied", attempt: int = 1, **changes: Any) -> None:
        """Gate the second checkpoint on answers that all have one label."""
        self.evidence = self.story.evidence(self.checkpoint, label)
        self.commit(evaluated(self.checkpoint, BASE, self.evidence, ["harmful"], "key"))
        draft = gated(gate_record("key", self.checkpoint, self.evidence, label))
        again: dict[str, Any] = {"attempt": attempt, "act": "again", "reason": "once more"} if attempt > 1 else {}
        self.line = self.commit(type(draft)("gated", {**draft.data, **again, **changes}))

    def approve(self, who: dict[str, str] = BOB, *more: str, evidence: str = "") -> Done:
        words = ("--evidence", evidence or self.evidence[:8], "--role", "safety", "--note", "read every flip", *more)
        return self.desk.do("approve", self.checkpoint[:8], *words, environment=who)

    def override(self, who: dict[str, str] = ANN, *more: str, evidence: str = "", reason: str = REASON) -> Done:
        words = ("--evidence", evidence or self.evidence[:8], "--reason", reason, *more)
        return self.desk.do("override", self.checkpoint[:8], *words, environment=who)

    @property
    def current(self) -> str:
        return Store.open(self.desk.store).standing().channels[CHANNEL].current


@pytest.fixture
def bench(desk: Desk) -> Bench:
    return Bench(desk)


def test_what_failed_is_promoted_in_the_open_and_its_verdict_stays(bench: Bench) -> None:
    approval = bench.approve()
    assert approval.code == 0, approval.err
    assert "APPROVED" in approval.out
    assert "its gate said FAIL; that stays" in approval.out
    done = bench.override()
    assert done.code == 0, done.err
    assert "OVERRIDDEN" in done.out
    shown = f"FAIL, overridden (ledger line {bench.line + 2}: {REASON})"
    assert shown in done.out
    assert bench.current == bench.checkpoint
    status = bench.desk.do("status")
    assert f"FAIL (line {bench.line}), overridden (ledger line {bench.line + 2}: {REASON})" in status.out
    log = bench.desk.do("log").out
    assert "as safety: read every flip" in log
    assert REASON in log
    kinds = [(e.kind, e.by) for e in Store.open(bench.desk.store).events()[-3:]]
    assert kinds == [("approved", "bob"), ("overridden", "ann"), ("promoted", "ann")]
    assert bench.desk.do("verify").code == 0


def test_a_rollback_undoes_it(bench: Bench) -> None:
    bench.approve()
    bench.override()
    assert bench.desk.do("rollback", CHANNEL, "--reason", "complaints").code == 0
    assert bench.current == bench.first
    again = bench.override()
    assert again.code == 2
    assert "was rolled back" in again.err
    assert bench.desk.do("verify").code == 0


def test_asking_twice_changes_nothing(bench: Bench) -> None:
    bench.approve()
    bench.override()
    before = len(Store.open(bench.desk.store).events())
    again = bench.desk.do(
        "override", bench.checkpoint[:8], "--evidence", bench.evidence[:8], "--reason", "x", "--json", environment=ANN
    )
    assert (again.code, again.document["moved"], again.document["line"]) == (0, False, 0)
    assert len(Store.open(bench.desk.store).events()) == before
    other = bench.override(ANN, "--to", "canary")
    assert other.code == 0
    assert Store.open(bench.desk.store).standing().channels["canary"].current == bench.checkpoint


def test_an_override_waits_for_somebody_else(bench: Bench) -> None:
    alone = bench.override()
    assert alone.code == 4
    assert "needs the approval of somebody else" in alone.err
    assert f"safetune approve {bench.checkpoint[:12]} --evidence {bench.evidence[:12]}" in alone.err
    assert bench.approve(ANN).code == 0
    own = bench.override()
    assert own.code == 4
    assert "the only approval is by ann, who asks" in own.err
    assert bench.override(BOB).code == 0
    assert bench.current == bench.checkpoint


def test_a_name_written_otherwise_is_nobody_else(bench: Bench) -> None:
    assert bench.approve({"LOGNAME": "ANN "}).code == 0
    assert bench.override().code == 4
    nameless = bench.approve({"LOGNAME": "a\x1bb"})
    assert nameless.code == 2
    assert "an approval needs somebody, in a role" in nameless.err


def test_a_channel_that_holds_what_was_rolled_back_elsewhere_is_warned_of(bench: Bench) -> None:
    bench.approve()
    bench.override()
    made = bench.override(ANN, "--to", "canary")
    assert "channel canary did not exist: this made it" in made.out
    assert "did not exist" not in bench.override(ANN, "--to", "canary").out
    assert "warning" not in bench.desk.do("status").out
    assert bench.desk.do("rollback", CHANNEL, "--reason", "complaints").code == 0
    said = f"warning: channel canary holds {bench.checkpoint[:12]}, which was rolled back elsewhere (ledger line"
    status = bench.desk.do("status")
    assert said in status.out
    assert "safetune rollback canary" in status.out
    assert len(bench.desk.do("status", "--json").document["warnings"]) == 1


def test_an_older_fail_may_be_approved_and_allows_no_override(bench: Bench) -> None:
    old = bench.evidence
    bench.gate("refused", attempt=2, verdict="INCONCLUSIVE", spent=0.025)
    done = bench.approve(evidence=old[:8])
    assert done.code == 0, done.err
    assert "its gate said FAIL; that stays" in done.out
    assert "another gate" in done.out
    assert bench.override().code == 4
    assert bench.override(evidence=old[:8]).code == 5


def test_a_newer_gate_makes_the_evidence_stale_and_ends_the_override(bench: Bench) -> None:
    old = bench.evidence
    bench.approve()
    bench.override()
    bench.gate("refused", attempt=2, verdict="FAIL", spent=0.025)  # another evidence, whatever it says
    for done in (bench.approve(evidence=old[:8]), bench.override(evidence=old[:8])):
        assert done.code == 5
        assert "was gated again since" in done.err
    assert "overridden" not in bench.desk.do("status").out
    done = bench.override()
    assert done.code == 4


@pytest.mark.parametrize(("evidence", "said"), [("0" * 8, "has no evidence"), ("", "has no evidence")])
def test_the_evidence_must_be_named(bench: Bench, evidence: str, said: str) -> None:
    for done in (bench.approve(evidence=evidence or bench.evidence[:5]), bench.override(evidence=evidence or "12345")):
        assert done.code == 2
        assert said in done.err


def test_an_error_is_no_measurement_to_override(bench: Bench) -> None:
    bench.gate("complied", attempt=2, verdict="ERROR")
    for done in (bench.approve(), bench.override()):
        assert done.code == 2
        assert "there is no measurement to override" in done.err


def test_what_passed_needs_no_override(bench: Bench) -> None:
    bench.checkpoint = bench.first
    bench.evidence = bench.story.evidence(bench.first)
    for done in (bench.approve(), bench.override()):
        assert done.code == 2
        assert "there is nothing to override" in done.err


def test_a_child_of_what_was_rolled_back_is_refused(bench: Bench) -> None:
    bench.approve()
    second = bench.story.adopt("second", bench.first)
    bench.commit(trained(("key2", "sprint", "second"), second, bench.first, {}))
    evidence = bench.story.evidence(second)
    bench.commit(evaluated(second, BASE, evidence, ["harmful"], "key2"))
    line = bench.commit(gated(gate_record("key2", second, evidence)))
    bench.commit(promotion(CHANNEL, second, bench.first, line, "key2"))
    child = bench.story.adopt("child", second)
    bench.commit(trained(("key3", "sprint", "child"), child, second, {}))
    bench.checkpoint = child
    evidence = bench.story.evidence(child, "complied")
    bench.commit(evaluated(child, BASE, evidence, ["harmful"], "key3"))
    bench.evidence = evidence
    bench.commit(gated(gate_record("key3", child, evidence, "complied")))
    bench.approve()
    bench.commit(rolled_back((CHANNEL, second, bench.first), "why", "a person", [second]))
    done = bench.override()
    assert done.code == 2
    assert "which was rolled back" in done.err


def test_a_damaged_checkpoint_is_not_promoted(bench: Bench) -> None:
    bench.approve()
    path = bench.desk.store / "objects" / bench.checkpoint / "adapter_model.safetensors"
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    done = bench.override()
    assert done.code == 5
    assert bench.current == bench.first


def test_words_that_are_missing(bench: Bench) -> None:
    assert bench.approve(BOB, "--role", " ").code == 2
    bench.approve()
    done = bench.override(reason=" ")
    assert done.code == 2
    assert "needs a reason" in done.err
    bench.commit(promotion("canary", bench.first, "", 3, "key-first"))
    done = bench.override()
    assert done.code == 2
    assert "which channel? there are canary, stable" in done.err
    assert bench.override(ANN, "--to", CHANNEL).code == 0


def test_without_a_gate_and_without_a_channel(desk: Desk) -> None:
    story = Story(Store.create(desk.store), desk.root / "made")
    checkpoint = story.adopt("first")
    story.commit(trained(("key", "sprint", "first"), checkpoint, "", {}))
    done = desk.do("override", checkpoint[:8], "--evidence", "1" * 8, "--reason", "x")
    assert done.code == 2
    assert "was never gated" in done.err
    evidence = story.evidence(checkpoint, "complied")
    story.commit(evaluated(checkpoint, BASE, evidence, ["harmful"], "key"))
    story.commit(gated(gate_record("key", checkpoint, evidence, "complied")))
    done = desk.do("override", checkpoint[:8], "--evidence", evidence[:8], "--reason", "x")
    assert done.code == 2
    assert "none holds anything yet" in done.err


def test_status_shows_budgets_by_playbook(bench: Bench) -> None:
    assert "alpha budget of playbook: 0.1 of 9 spent by 2 gates" in bench.desk.do("status").out
    found = bench.desk.do("status", "--json").document["budgets"]["playbook"]
    assert (found["lines"], found["budget"]) == ([3, bench.line], 9.0)


@pytest.mark.parametrize("name", ["spent", "budget", "attempt"])
def test_a_number_beyond_all_floats_is_a_line_that_breaks_a_rule(bench: Bench, name: str) -> None:
    rows = damage.rows(bench.desk.store)
    rows[-1]["data"][name] = 10**400
    damage.forge(bench.desk.store, rows)
    for command in ("status", "log", "verify"):
        done = bench.desk.do(command)
        assert done.code == 5, done.err
        assert f"ledger line {bench.line}" in done.out + done.err


def test_what_is_written_by_people_is_shown_safely(bench: Bench) -> None:
    bench.approve(BOB, "--note", "a\x1b[31mb")
    done = bench.override(reason="c\x1b[2Jd")
    for text in (done.out, bench.desk.do("log").out, bench.desk.do("status").out):
        assert "\x1b" not in text
