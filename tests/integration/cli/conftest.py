"""A folder with a small playbook on a model that is never loaded, and a store with two promotions, made by hand."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from safetune.core.digest import JSON
from safetune.core.events import GateRecord, Spending, evaluated, finished, gated, promoted, started, trained
from safetune.core.evidence import CANDIDATE, EvaluationReport, Item, SuiteEvidence
from safetune.core.gate import decide
from safetune.core.playbook import Guardrail, Limits
from safetune.core.suite import Metric
from safetune.engine.checkpoints import write_card
from safetune.engine.evidence_files import write_evidence
from safetune.engine.gating import gate_rows
from safetune.state.store import Store

REFUSES, ANSWERS = "I'm sorry, but I can't help with that request.", "Sure. The capital of France is Paris."
_ITEMS = 40


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON object on stdout."""
        return json.loads(self.out)


@dataclass
class Desk:
    """The folder in which commands are typed."""

    root: Path

    @property
    def playbook(self) -> Path:
        """The playbook's file."""
        return self.root / "playbook.yaml"

    @property
    def store(self) -> Path:
        """The store's folder."""
        return self.root / ".safetune"

    def do(self, *arguments: object, environment: Mapping[str, str] | None = None, stdin: int | None = None) -> Done:
        """Type a command, without a terminal."""
        command = [sys.executable, "-m", "safetune", *(str(a) for a in arguments)]
        known = {**os.environ, **(environment or {})}
        found = subprocess.run(command, cwd=self.root, env=known, capture_output=True, timeout=120, stdin=stdin)
        return Done(found.returncode, found.stdout.decode(), found.stderr.decode())

    # -- playbook ------------------------------------------------------------------------------------------------------

    def write(self, **changes: Any) -> None:
        """Write the playbook (JSON is YAML too), its rows, its prompts and its model."""
        model = self.root / "model"
        model.mkdir(exist_ok=True)
        (model / "config.json").write_text("{}")
        (model / "model.safetensors").write_bytes(b"never loaded")
        rows = [
            {"prompt": [{"role": "user", "content": f"{n}?"}], "completion": [{"role": "assistant", "content": "!"}]}
            for n in range(8)
        ]
        prompts = [
            {"id": f"p{n}", "prompt": f"What is {n}?", "slice": "even" if n % 2 == 0 else "odd"} for n in range(_ITEMS)
        ]
        content = {
            "schema": "safetune/1",
            "name": "tiny",
            "purpose": "Exercise the command line.",
            "owners": ["tests"],
            "model": {"base": "model"},
            "sources": [
                {"name": "rows", "uri": "rows.jsonl", "sha256": self._lines("rows.jsonl", rows), "licence": "MIT"}
                | {"consent": "made", "origin": "these tests", "use": "train"}
            ],
            "suites": [
                {"name": "asks", "description": "Harmless prompts.", "licence": "MIT", "origin": "these tests"}
                | {"prompts": {"file": "prompts.jsonl", "sha256": self._lines("prompts.jsonl", prompts)}}
                | {"judge": "refusal", "slice": "slice", "decoding": {"max_new_tokens": 8}}
                | {"metrics": [{"name": "refusal_rate", "counts": ["refusal"], "worse": "higher"}]}
            ],
            "guardrails": [
                {"name": "answers", "suite": "asks", "metric": "refusal_rate", "at_most": 0.5, "why": "it must answer"}
            ],
            "sprints": [
                {
                    "name": "one",
                    "objective": "first",
                    "stages": [
                        {"name": "sft", "trainer": "sft", "sources": {"rows": 1}, "train": {"max_steps": 2}}
                        | {"adapter": {"kind": "lora", "rank": 4}, "gate": ["answers"]}
                    ],
                }
            ],
            "rollback": [{"on": ["FAIL", "ERROR"], "then": "stop"}],
            "promotion": {"channel": "stable"},
        }
        self.playbook.write_text(json.dumps({**content, **changes}, indent=1))

    def _lines(self, name: str, rows: list[dict[str, Any]]) -> str:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        (self.root / name).write_bytes(data)
        return hashlib.sha256(data).hexdigest()

    def recorded(self, name: str, refusals: int, items: int = _ITEMS) -> str:
        """Write recorded responses with so many refusals, and return the file's name."""
        outputs = [REFUSES if n < refusals else ANSWERS for n in range(items)]
        rows = [{"suite": "asks", "item_id": f"p{n}", "output": output} for n, output in enumerate(outputs)]
        self._lines(name, rows)
        return name

    # -- store ---------------------------------------------------------------------------------------------------------

    def promote_two(self) -> tuple[str, str]:
        """Make a store in which a first and then a second checkpoint was promoted; return both."""
        store = Store.create(self.store)
        store.commit(started("r1", "tiny", "d" * 64, "e" * 64))
        first = self._promote(store, "first", "")
        second = self._promote(store, "second", first)
        store.commit(finished("r1", 0))
        return first, second

    def _promote(self, store: Store, name: str, parent: str) -> str:
        candidate = self.root / f"candidate-{name}"
        candidate.mkdir()
        header = json.dumps({"__metadata__": {"name": name}}).encode()
        (candidate / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
        write_card(candidate, "adapter", "ba5e", parent)
        checkpoint = store.objects.adopt(candidate)
        key = name.encode().hex().ljust(64, "0")
        store.commit(trained((key, "one", "sft"), checkpoint, parent, {"steps": 2}))
        baseline = parent or "ba5e"
        item = Item("p0", "asks", "", "", CANDIDATE, 0, "p", "x", "refusal@1", 0.0, "compliance")
        metric = Metric("refusal_rate", ("refusal",), "higher")
        exact: dict[str, JSON] = {"calibration": {"kind": "definition"}}
        controls = ("refusal", "compliance")
        suite = SuiteEvidence("asks", "d", "refusal", "1", (metric,), 1, (item,), (), controls, told=exact)
        folder = self.root / f"evidence-{name}"
        report = EvaluationReport(checkpoint, baseline, (suite,))
        write_evidence(report, folder)
        evidence = store.objects.adopt(folder)
        store.commit(evaluated(checkpoint, baseline, evidence, ["asks"], key))
        limit = Guardrail("answers", "asks", "refusal_rate", Limits(at_most=0.99), "it must answer", min_samples=1)
        result = decide((limit,), report)
        told = (result.verdict.value, 1, "", gate_rows(result), [limit.identity])
        paid = Spending("tiny", result.spent, 1.0)
        gate = GateRecord(key, checkpoint, baseline, result.guardrails, evidence, "8" * 64, *told, paid)
        line = store.commit(gated(gate))
        store.commit(promoted("stable", checkpoint, parent, line, key))
        return checkpoint


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A folder with a playbook."""
    found = Desk(tmp_path)
    found.write()
    return found
