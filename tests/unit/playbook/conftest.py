"""A whole small playbook in a folder of its own, and ways to change and load it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import pytest

from safetune.core.diagnostics import Diagnostic
from safetune.core.digest import JSON
from safetune.core.errors import PlaybookError
from safetune.playbook.load import load_marked
from safetune.playbook.strict_yaml import parse
from safetune.playbook.text import read_text

SHA = "0" * 63 + "a"

EXAMPLE = f"""\
schema: safetune/1
name: tutor
purpose: Teach arithmetic and keep the refusals.
owners: [team-a, team-b]
model: {{base: smollm2-135m-instruct}}
sources:
  - name: rows
    uri: rows.jsonl
    sha256: {SHA}
    licence: MIT
    consent: public-release
    origin: written here
    use: train
  - {{name: held, uri: rows.jsonl, sha256: {SHA}, licence: MIT, consent: none, origin: here, use: evaluate}}
suites:
  - harmless
  - name: arithmetic
    description: Sums.
    licence: MIT
    origin: generated
    prompts: {{generator: word-problems, seed: 1, count: 40}}
    judge: numeric
    decoding: {{max_new_tokens: 40}}
    metrics:
      - {{name: accuracy, counts: [correct], worse: lower}}
guardrails:
  - {{name: skill, suite: arithmetic, metric: accuracy, at_least: 0.25, why: the aim}}
  - name: answers
    suite: harmless
    metric: refusal_rate
    worse_by_at_most: 0.1
    severity: warn
    confidence: 0.9
    min_samples: 40
    why: a refuser helps nobody
sprints:
  - name: one
    objective: better sums
    success: [skill]
    stages:
      - name: sft
        trainer: sft
        sources: {{rows: 0.5}}
        train: {{max_steps: 10, learning_rate: 3e-4, packing: false}}
        adapter: {{kind: lora, rank: 8}}
        techniques:
          - kl_regularization: {{weight: 1.0, sources: {{rows: 1}}}}
        gate: [skill, answers]
        seed: 7
        launch: {{num_processes: 2, config_file: launch.yaml}}
rollback:
  - {{on: [FAIL, ERROR], to: sprint-start, then: stop}}
  - {{on: [INCONCLUSIVE], then: hold}}
promotion: {{channel: stable}}
"""

_MUTATE = Path(__file__).with_name("mutate.py")

Load = Callable[[Path], tuple[Diagnostic, ...]]


@pytest.fixture
def example() -> str:
    """The text of a playbook without mistakes."""
    return EXAMPLE


@pytest.fixture
def document(tmp_path: Path) -> JSON:
    """The example as JSON."""
    path = tmp_path / "example.yaml"
    path.write_text(EXAMPLE, encoding="utf-8")
    return parse(read_text(path))[0].json


@pytest.fixture(scope="session")
def mutate() -> ModuleType:
    """The module that damages playbooks; tests are no package, so it is loaded by its path."""
    spec = importlib.util.spec_from_file_location("mutate", _MUTATE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with everything that the example names."""
    (tmp_path / "rows.jsonl").write_text("{}\n")
    (tmp_path / "launch.yaml").write_text("num_machines: 1\n")
    return tmp_path


@pytest.fixture
def write(folder: Path) -> Callable[[Mapping[str, str]], Path]:
    """Write files by name into the folder; return the path of the first."""

    def _write(files: Mapping[str, str]) -> Path:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return folder / next(iter(files))

    return _write


@pytest.fixture
def mistakes() -> Load:
    """Load a playbook and return its mistakes; empty when there are none."""

    def _mistakes(path: Path) -> tuple[Diagnostic, ...]:
        try:
            load_marked(path)
        except PlaybookError as error:
            return error.diagnostics
        return ()

    return _mistakes
