"""The action and the snippets of docs/ci.md: their very shell steps, run against recorded responses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol
from xml.etree import ElementTree as Xml

import pytest
import yaml

from safetune.core.errors import EXIT_CODE_MEANINGS

_ROOT = Path(__file__).resolve().parents[3]
_ACTION = yaml.safe_load((_ROOT / "action.yml").read_text())
_DOC = (_ROOT / "docs" / "ci.md").read_text()
_ENDS = [(0, 40, 0, "PASS"), (40, 40, 3, "FAIL"), (20, 40, 4, "INCONCLUSIVE"), (0, 39, 6, "ERROR")]
_SHELL = ["bash", "--noprofile", "--norc", "-eo", "pipefail"]  # what a build server of GitHub calls `bash`


class Desk(Protocol):
    root: Path
    playbook: Path
    store: Path

    def write(self, **changes: Any) -> None: ...
    def recorded(self, name: str, refusals: int, items: int = 40) -> str: ...
    def promote_two(self) -> tuple[str, str]: ...


def _environment(desk: Desk) -> dict[str, str]:
    """A machine with `safetune` and `python3` on its path, and nothing of this session's build server."""
    tools = desk.root / "tools"
    tools.mkdir(exist_ok=True)
    for name in ("safetune", "python3"):
        module = "-m safetune " if name == "safetune" else ""
        (tools / name).write_text(f'#!/bin/sh\nexec {sys.executable} {module}"$@"\n')
        (tools / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "SAFETUNE_"))}
    return {**kept, "PATH": f"{tools}:{kept['PATH']}"}


class _Step:
    """How the action's step ended: exit code, log, outputs and summary."""

    def __init__(self, desk: Desk, **inputs: str) -> None:
        (step,) = _ACTION["runs"]["steps"]
        assert step["shell"] == "bash"
        given = {**{name: about.get("default", "") for name, about in _ACTION["inputs"].items()}, **inputs}
        variables = {name: self._filled(text, given) for name, text in step["env"].items()}
        script = desk.root / "step.sh"
        script.write_text(step["run"])
        output, summary = desk.root / "github-output", desk.root / "github-summary"
        for path in (output, summary):
            path.write_text("")
        known = {**_environment(desk), **variables}
        known |= {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary)}
        done = subprocess.run([*_SHELL, script], cwd=desk.root, env=known, capture_output=True, text=True, timeout=120)
        self.code, self.log, self.error = done.returncode, done.stdout, done.stderr
        self.outputs = dict(line.split("=", 1) for line in output.read_text().splitlines())
        self.summary = summary.read_text()

    @staticmethod
    def _filled(text: str, given: dict[str, str]) -> str:
        (name,) = re.fullmatch(r"\$\{\{ inputs\.([a-z-]+) \}\}", text).groups()  # type: ignore[union-attr]
        return given[name]


# -- the action --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("refusals", "items", "code", "verdict"), _ENDS)
def test_the_action_keeps_the_exit_code_and_tells_the_verdict(
    desk: Desk, refusals: int, items: int, code: int, verdict: str
) -> None:
    found = _Step(desk, playbook="playbook.yaml", recorded=desk.recorded("responses.jsonl", refusals, items))
    assert found.code == code, found.error
    assert set(found.outputs) == set(_ACTION["outputs"])
    assert found.outputs["verdict"] == verdict
    assert found.outputs["exit-code"] == str(code)
    assert re.fullmatch("[0-9a-f]{64}", found.outputs["evidence"])
    assert found.summary.startswith(f"## safetune: {verdict}\n")
    assert found.summary in found.log
    assert (desk.root / found.outputs["markdown"]).read_text() == found.summary
    Xml.fromstring((desk.root / found.outputs["junit"]).read_text())
    assert json.loads((desk.root / found.outputs["json"]).read_text())["evidence"] == found.outputs["evidence"]


def test_the_action_tells_the_mistakes_of_a_playbook(desk: Desk) -> None:
    desk.write(purpos="x")
    found = _Step(desk, playbook="playbook.yaml", recorded=desk.recorded("responses.jsonl", 0))
    assert found.code == 2
    assert (found.outputs["verdict"], found.outputs["exit-code"], found.outputs["evidence"]) == ("ERROR", "2", "")
    assert "SP201" in found.summary
    assert "SP201" in found.log


def test_a_result_that_does_not_fit_its_exit_code_is_never_pass(desk: Desk) -> None:
    """The program says PASS and ends with something else, or says nothing at all."""
    _environment(desk)
    for said, code in (('{"gate": {"verdict": "PASS"}}', 7), ("", 0), ("[]", 0), ('{"gate": {"verdict": "FAIL"}}', 0)):
        fake = desk.root / "first"
        fake.mkdir(exist_ok=True)
        (fake / "safetune").write_text(f"#!/bin/sh\nprintf '%s' '{said}'\nexit {code}\n")
        (fake / "safetune").chmod(0o755)
        (step,) = _ACTION["runs"]["steps"]
        script = f'export PATH="{fake}:$PATH"\n{step["run"]}'
        inputs = dict.fromkeys(step["env"], "") | {"SAFETUNE_GATE": "true", "SAFETUNE_REPORTS": "out"}
        output = desk.root / "output"
        output.write_text("")
        known = {**_environment(desk), **inputs, "GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": "/dev/null"}
        done = subprocess.run([*_SHELL, "-c", script], cwd=desk.root, env=known, capture_output=True, timeout=60)
        assert done.returncode == (code or 1)
        told = output.read_text().splitlines()
        assert (told[0], told[2]) == ("verdict=ERROR", f"exit-code={code or 1}")


def test_the_action_passes_on_everything_that_it_is_given(desk: Desk) -> None:
    now, before = desk.recorded("now file.jsonl", 0), desk.recorded("before.jsonl", 2)
    more = "--stage=one/sft\n\n--workers=1"
    found = _Step(
        desk,
        **{"playbook": "playbook.yaml", "recorded": now, "baseline-recorded": before, "arguments": more},
        **{"store": "my store", "reports": "my reports"},
    )
    assert found.code == 0, found.error
    assert (desk.root / "my store").is_dir()
    assert found.outputs["junit"] == "my reports/safetune.xml"
    assert json.loads((desk.root / found.outputs["json"]).read_text())["baseline"]


def test_the_action_gates_a_target(desk: Desk) -> None:
    found = _Step(desk, playbook="playbook.yaml", target="no-such-channel", baseline="base")
    assert found.code == 2
    assert "no-such-channel" in found.summary


def test_without_a_gate_the_action_only_measures(desk: Desk) -> None:
    found = _Step(desk, playbook="playbook.yaml", recorded=desk.recorded("responses.jsonl", 40), gate="false")
    assert found.code == 0, found.error
    assert found.outputs == {"exit-code": "0"}
    assert "EVALUATION" in found.log
    assert found.summary == ""


@pytest.mark.parametrize(
    "inputs", [{"gate": "yes"}, {"reports": "a\nverdict=PASS"}, {"reports": ""}, {"reports": "-x"}]
)
def test_the_action_refuses_what_it_cannot_use(desk: Desk, inputs: dict[str, str]) -> None:
    found = _Step(desk, playbook="playbook.yaml", recorded=desk.recorded("responses.jsonl", 0), **inputs)
    assert found.code == 2
    assert found.outputs == {"verdict": "ERROR", "exit-code": "2"}


def test_text_in_an_input_is_never_run(desk: Desk) -> None:
    """Nothing of an input stands in the script; what a shell would obey stays a name."""
    (step,) = _ACTION["runs"]["steps"]
    assert "${{" not in step["run"]
    assert "eval " not in step["run"]
    evil = '$(touch owned); `touch owned`; "; touch owned; \n--json\n&& touch owned #'
    names = [name for name in _ACTION["inputs"] if name not in ("gate", "reports")]
    for name in names:
        inputs = {"playbook": "playbook.yaml", "recorded": desk.recorded("responses.jsonl", 0), name: evil}
        found = _Step(desk, **inputs)
        assert not (desk.root / "owned").exists(), name
        assert found.outputs["verdict"] in ("ERROR", "PASS") if name == "store" else found.outputs["verdict"] == "ERROR"


# -- the document ------------------------------------------------------------------------------------------------------


def _snippet(first_key: str) -> Any:
    """Return the YAML block of the document that begins with this key."""
    (block,) = re.findall(rf"^```yaml\n({first_key}:.*?)^```", _DOC, re.MULTILINE | re.DOTALL)
    return yaml.safe_load(block)


def _script(desk: Desk, lines: list[str]) -> subprocess.CompletedProcess[str]:
    script = "\n".join(lines)
    known = _environment(desk)
    return subprocess.run(
        [*_SHELL, "-c", script], cwd=desk.root, env=known, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(("refusals", "items", "code", "verdict"), _ENDS)
def test_the_gitlab_job_keeps_the_exit_code_and_leaves_its_reports(
    desk: Desk, refusals: int, items: int, code: int, verdict: str
) -> None:
    job = _snippet("safetune-gate")["safetune-gate"]
    desk.recorded("responses.jsonl", refusals, items)
    done = _script(desk, job["script"])
    assert done.returncode == code, done.stderr
    assert f"   {verdict}" in done.stdout
    Xml.fromstring((desk.root / job["artifacts"]["reports"]["junit"]).read_text())
    assert job["artifacts"]["when"] == "always"
    (folder,) = job["artifacts"]["paths"]
    assert (desk.root / folder / "safetune.md").read_text().startswith(f"## safetune: {verdict}\n")


def test_the_gitlab_job_leaves_its_reports_for_a_wrong_playbook(desk: Desk) -> None:
    job = _snippet("safetune-gate")["safetune-gate"]
    desk.write(purpos="x")
    desk.recorded("responses.jsonl", 0)
    assert _script(desk, job["script"]).returncode == 2
    root = Xml.fromstring((desk.root / job["artifacts"]["reports"]["junit"]).read_text())
    assert root.get("errors") == "1"


def test_the_steps_of_the_github_job_run_and_fit_the_action(desk: Desk) -> None:
    steps = _snippet("name")["jobs"]["gate"]["steps"]
    (own,) = [s for s in steps if "safetune@" in s.get("uses", "")]
    assert set(own["with"]) <= set(_ACTION["inputs"])
    (plan,) = [s["run"] for s in steps if "safetune plan" in s.get("run", "")]
    (upload,) = [s["with"]["sarif_file"] for s in steps if "upload-sarif" in s.get("uses", "")]
    for change, code in ({}, 0), ({"purpos": "x"}, 2):
        desk.write(**change)
        assert _script(desk, [plan]).returncode == code
        assert bool(json.loads((desk.root / upload).read_text())["runs"][0]["results"]) == bool(change)
    desk.write()
    desk.recorded(own["with"]["recorded"], 0)
    desk.recorded(own["with"]["baseline-recorded"], 1)
    found = _Step(desk, **own["with"])
    assert found.code == 0, found.error
    (kept,) = [s["with"]["path"] for s in steps if "upload-artifact" in s.get("uses", "")]
    assert found.outputs["junit"].startswith(f"{kept}/")


def test_the_document_explains_every_exit_code_input_and_output() -> None:
    rows = dict(re.findall(r"^\| (\d+) \| (.+?) \| .+? \|$", _DOC, re.MULTILINE))
    assert rows == {str(int(code)): meaning for code, meaning in EXIT_CODE_MEANINGS.items()}
    for name in (*_ACTION["inputs"], *_ACTION["outputs"]):
        assert f"`{name}`" in _DOC, name
