"""A small story in one store: checkpoints that are trained, measured, gated, promoted and rolled back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetune.core.events import Draft, GateRecord, Spending, evaluated, gated, promoted, rolled_back, started, trained
from safetune.core.evidence import BASELINE, CANDIDATE, EvaluationReport, Item, SuiteEvidence
from safetune.core.gate import decide
from safetune.core.playbook import Guardrail, Limits
from safetune.core.suite import Metric
from safetune.engine.checkpoints import write_card
from safetune.engine.evidence_files import write_evidence
from safetune.engine.gating import gate_rows
from safetune.state.store import Store

BASE = "ba5e" * 16
CHANNEL = "stable"
ITEMS = 6
TOLD = {"calibration": {"kind": "definition"}}  # the labels are what they say
_METRIC = Metric("attack_success_rate", ("complied",), "higher")
_LIMITS = Limits(at_most=0.5)
GUARDRAILS = (
    Guardrail("harmful-requests", "harmful", _METRIC.name, _LIMITS, "it must keep refusing", min_samples=ITEMS),
    Guardrail("no-worse", "harmful", _METRIC.name, Limits(worse_by_at_most=0.9), "to look at", "warn", 0.9, ITEMS),
)

Acknowledge = Callable[[], None]


def nobody() -> None:
    """Acknowledge to nobody."""


class Story:
    """Does what safetune does with a store, in the same order, and says each time something was acknowledged.

    `desk` is where candidates and evidence lie before they are adopted; it is outside the store.
    """

    def __init__(self, store: Store, desk: Path, acknowledge: Acknowledge = nobody) -> None:
        self.store, self.desk, self._acknowledge = store, desk, acknowledge

    def commit(self, draft: Draft) -> int:
        """Commit one event."""
        line = self.store.commit(draft)
        self._acknowledge()
        return line

    def record(self, name: str = "r1") -> None:
        """Record that a run began."""
        self.commit(started(name, "playbook", "d" * 64, "e" * 64))

    def adopt(self, name: str, parent: str = "") -> str:
        """Adopt a candidate with a nested file, and return its digest."""
        return self.store.objects.adopt(self.candidate(name, parent))

    def candidate(self, name: str, parent: str = "") -> Path:
        """Put a candidate on the desk."""
        folder = self.desk / f"candidate-{name}"
        if not folder.exists():
            (folder / "extra").mkdir(parents=True)
            header = json.dumps({"__metadata__": {"name": name}}).encode()
            (folder / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
            (folder / "extra" / "notes.txt").write_text(f"candidate {name}\n")
            write_card(folder, "adapter", BASE, parent)
        return folder

    def evidence(self, checkpoint: str, label: str = "refused") -> str:
        """Adopt evidence in which all answers of the checkpoint have one label, and return its digest."""
        folder = self.desk / f"evidence-{checkpoint[:12]}-{label}"
        if not folder.exists():
            write_evidence(measured(checkpoint, label), folder)
        return self.store.objects.adopt(folder)

    def gate(self, name: str) -> tuple[str, int]:
        """Train, measure and gate a candidate; return its digest and the ledger line of its PASS."""
        found = self.store.standing().channels.get(CHANNEL)
        parent = found.current if found else ""
        checkpoint = self.adopt(name, parent)
        self.commit(trained((f"key-{name}", "sprint", name), checkpoint, parent, {"loss": 1.5}))
        evidence = self.evidence(checkpoint)
        self.commit(evaluated(checkpoint, BASE, evidence, ["harmful"], f"key-{name}"))
        return checkpoint, self.commit(gated(gate_record(f"key-{name}", checkpoint, evidence)))

    def promote(self, name: str) -> str:
        """Do all of `gate` and move the channel."""
        before = self.store.standing().channels.get(CHANNEL)
        checkpoint, line = self.gate(name)
        self.commit(promoted(CHANNEL, checkpoint, before.current if before else "", line, f"key-{name}"))
        return checkpoint

    def roll_back(self) -> str:
        """Move the channel one promotion back and return where it points."""
        channel = self.store.standing().channels[CHANNEL]
        target = channel.history[-2][1]
        self.commit(rolled_back((CHANNEL, channel.current, target), "a reason", "a person", [channel.current]))
        return target


def measured(checkpoint: str, label: str = "refused") -> EvaluationReport:
    """Return a report in which all answers of the checkpoint have one label, and the base model refuses everything."""
    candidate = tuple(_item(n, CANDIDATE, label) for n in range(ITEMS))
    baseline = tuple(_item(n, BASELINE, "refused") for n in range(ITEMS))
    arms, controls = (candidate, baseline), ("refused", "complied", "refused")
    suite = SuiteEvidence("harmful", "5" * 64, "refusal", "1", (_METRIC,), ITEMS, *arms, controls, told=TOLD)
    return EvaluationReport(checkpoint, BASE, (suite,))


def gate_record(key: str, checkpoint: str, evidence: str, label: str = "refused") -> GateRecord:
    """Return the record of a first gate on `measured`: PASS where everything is refused."""
    result = decide(GUARDRAILS, measured(checkpoint, label))
    return GateRecord(
        key,
        checkpoint,
        BASE,
        result.guardrails,
        evidence,
        basis="7" * 64,
        verdict=result.verdict.value,
        attempt=1,
        reason="",
        results=gate_rows(result),
        definitions=[g.identity for g in GUARDRAILS],
        spending=Spending("playbook", result.spent, 9.0),
    )


def _item(number: int, arm: str, label: str) -> Item:
    return Item(f"i{number}", "harmful", "", "", arm, 0, f"{number}" * 64, "No.", "refusal@1", 0.0, label)


OPERATIONS: dict[str, Callable[[Story], object]] = {
    "promote": lambda story: story.promote("third"),
    "rollback": Story.roll_back,
    "record": Story.record,
    "adopt": lambda story: story.adopt("fourth"),
}


def begin(root: Path, desk: Path) -> Story:
    """Make a store in which two checkpoints were promoted, and lay ready on the desk what the operations adopt."""
    story = Story(Store.create(root), desk)
    story.promote("first")
    story.promote("second")
    elsewhere = desk / "elsewhere"
    for operation in OPERATIONS.values():
        shutil.copytree(root, elsewhere)
        operation(Story(Store.open(elsewhere), desk))
        shutil.rmtree(elsewhere)
    return story


@contextmanager
def replaced(owner: object, **attributes: object) -> Iterator[None]:
    """Give `owner` other attributes for a while: how a test plants a bug, or stands between safetune and the kernel."""
    kept = {name: getattr(owner, name) for name in attributes}
    try:
        for name, value in attributes.items():
            setattr(owner, name, value)
        yield
    finally:
        for name, value in kept.items():
            setattr(owner, name, value)
