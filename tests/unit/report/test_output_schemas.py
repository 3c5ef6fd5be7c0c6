"""The published schemas: what is printed keeps to them, and a field that they do not name is found."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from gate_samples import SEEN, flip, gate, limit
from jsonschema import Draft202012Validator

from safetune.core.diagnostics import Diagnostic
from safetune.core.digest import JSON
from safetune.core.errors import ExitCode, PlaybookError, RunError, StalePlanError
from safetune.core.evidence import EvaluationReport, Item, SuiteEvidence
from safetune.core.objective import Objective
from safetune.core.result import Rate, Seen
from safetune.core.suite import Metric
from safetune.core.verdict import Verdict
from safetune.engine.evaluate import EvaluateResult
from safetune.engine.run import RunResult, StageOutcome
from safetune.report.errors import error_json
from safetune.report.evaluation import evaluate_json
from safetune.report.gate import GateView, gate_json
from safetune.report.json_view import json_text
from safetune.report.run import run_json
from safetune.report.schemas import NAMES, output_schema


def _mistakes(name: str, document: Mapping[str, Any]) -> list[str]:
    validator = Draft202012Validator(output_schema(name))
    written = json.loads(json_text(document))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(written)]


def _objects(schema: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for value in schema.values():
            yield from _objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _objects(value)


def _gate(verdict: Verdict) -> Any:
    rich = replace(limit(verdict, place="hate"), critical=True, notes=("corrected",), seen=replace(SEEN, estimate=0.1))
    bare = replace(limit(verdict, "warn"), seen=Seen(), confidence=None)
    odd = replace(limit(verdict, "observe"), seen=Seen(Rate(math.nan, 0), estimate=math.inf))
    return gate(verdict, rich, bare, odd, flips=(flip("p1"),), reason="a reason")


def _evaluation(verdict: Verdict | None) -> Mapping[str, Any]:
    items = tuple(Item(f"i{n}", "asks", "hate", "", "now", 0, "p", "x", "j@1", 1.0, "refusal") for n in range(3))
    metric = Metric("refusal_rate", ("refusal",), "lower")
    told: dict[str, JSON] = {"figures": {"candidate": {"mean": 0.5}}, "calibration": {"kind": "definition"}}
    suite = SuiteEvidence("asks", "d", "refusal", "3", (metric,), 3, items, (), ("refusal",), told=told)
    decided = _gate(verdict) if verdict else None
    code = verdict.exit_code if verdict else ExitCode.DONE
    found = EvaluateResult("stable", "", EvaluationReport("a", "", (suite,)), decided, "e" * 64, code, "note")
    return {**evaluate_json(found), "exit_code": int(code)}


def _run(verdict: Verdict | None) -> Mapping[str, Any]:
    code = verdict.exit_code if verdict else ExitCode.ROLLED_BACK
    decided = _gate(verdict) if verdict else None
    stage = StageOutcome("one", "sft", "rejected", "a" * 64, decided, "note")
    met = Objective("one", "sums", "met", "PASS")
    return {**run_json(RunResult("tutor", "stable", "", (stage,), code, (met,))), "exit_code": int(code)}


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_valid_has_an_id_and_closes_every_object(name: str) -> None:
    schema = output_schema(name)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:safetune:schema:{name}:1"
    open_ones = [s for s in _objects(schema) if "properties" in s and s.get("additionalProperties") is not False]
    assert open_ones == []
    forgotten = [s for s in _objects(schema) if set(s.get("properties", ())) - set(s.get("required", ()))]
    assert [set(s["properties"]) - set(s["required"]) for s in forgotten] in ([], [{"changes", "diagnostics"}])


@pytest.mark.parametrize("verdict", list(Verdict))
def test_gates_evaluations_and_runs_of_every_verdict_keep_to_their_schema(verdict: Verdict) -> None:
    view = GateView("sft", _gate(verdict), "e" * 64, (0.1, 0.2), "ann: shipped")
    assert _mistakes("gate", gate_json(view)) == []
    assert _mistakes("gate", gate_json(GateView("sft", _gate(verdict)))) == []
    assert _mistakes("evaluate", _evaluation(verdict)) == []
    assert _mistakes("run", _run(verdict)) == []


def test_what_was_not_gated_and_errors_keep_to_their_schema() -> None:
    assert _mistakes("evaluate", _evaluation(None)) == []
    assert _mistakes("run", _run(None)) == []
    mistake = Diagnostic("p.yaml", 3, 1, "SP101", "wrong")
    for error in (RunError("m", hint="h"), StalePlanError("m", changes=("a",)), PlaybookError((mistake,))):
        for name in ("evaluate", "run"):
            assert _mistakes(name, error_json(error)) == []


def test_a_field_that_the_schema_does_not_name_is_found() -> None:
    document = json.loads(json_text(gate_json(GateView("sft", _gate(Verdict.FAIL)))))
    for place in (document, document["limits"][0], document["flips"][0], document["alpha"]):
        place["new"] = 1
        assert _mistakes("gate", document) != []
        del place["new"]
    assert _mistakes("gate", document) == []
    wrong = dict(_evaluation(Verdict.PASS))
    wrong["gate"]["limits"][0]["new"] = 1
    assert _mistakes("evaluate", wrong) != []
    run = dict(_run(Verdict.PASS))
    run["stages"][0]["new"] = 1
    assert _mistakes("run", run) != []
