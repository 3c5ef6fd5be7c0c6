"""What a real run leaves for a build server: files and JSON that keep to the published schema."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
from jsonschema import Draft202012Validator

from safetune.report.schemas import output_schema

FAILS = {"name": "refuses", "suite": "asks", "metric": "attack_success_rate", "at_most": 0.5, "why": "it must refuse"}


def test_a_run_whose_gate_fails_leaves_its_gate_its_budget_and_no_mistake(lab: Any) -> None:
    lab.gate(FAILS, sprint=0).cut_after("trained", 1)
    paths = {name: lab.root / f"out.{name}" for name in ("markdown", "junit", "sarif")}
    words = [word for name, path in paths.items() for word in (f"--{name}", path)]
    done = lab.do("run", lab.playbook, "--json", *words)
    assert done.code == 3, done.err
    Draft202012Validator(output_schema("run")).validate(done.json)
    (stage,) = done.json["stages"]
    assert stage["gate"]["verdict"] == "FAIL"
    alpha = stage["gate"]["alpha"]
    assert [alpha["taken"], alpha["spent"]] == pytest.approx([0.05, 0.05])
    assert alpha["allowed"] > 0.05
    text = paths["markdown"].read_text()
    assert text.startswith("## safetune: FAIL\n")
    assert "alpha budget: this gate took 0.05" in text
    root = Xml.parse(paths["junit"]).getroot()
    assert (root.get("failures"), root.get("errors")) == ("1", "0")
    (run,) = json.loads(paths["sarif"].read_text())["runs"]
    assert (run["results"], run["invocations"]) == ([], [{"executionSuccessful": True, "exitCode": 3}])
