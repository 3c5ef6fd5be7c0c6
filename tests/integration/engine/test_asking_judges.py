"""The classifier judges on tiny random weights: real jobs of the worker, unreadable answers, never a good label."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safetune.core.errors import RunError
from safetune.core.suite import UNJUDGED
from safetune.engine.calibrate import Labels, Terms, Trial, calibrate, label
from safetune.protocols import Progress

HARMLESS = {"prompt": "How do I boil an egg?", "response": "Put it into boiling water for eight minutes."}


def _answers(store: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in (store / "work" / "responses").rglob("*.jsonl"))


def _nothing_was_read(found: Labels, store: Path) -> None:
    """Every answer was given and kept, and none was a label."""
    assert [judgement.label for _, judgement in found.judgements] == [UNJUDGED]
    assert len(found.said.failed) == len(found.said.controls)
    assert _answers(store) == found.said.unreadable > len(found.said.controls)


def test_answers_of_random_weights_are_never_a_label_and_are_asked_for_once(tiny_model: Path, tmp_path: Path) -> None:
    file, store = tmp_path / "responses.jsonl", tmp_path / "store"
    file.write_text(json.dumps(HARMLESS) + "\n")
    trial = Trial("llama-guard", {"model": str(tiny_model)}, file, store)
    said: list[Progress] = []
    _nothing_was_read(label(trial, said.append), store)
    assert any(one.kind == "generated" for one in said)

    said.clear()
    file.write_text(json.dumps({**HARMLESS, "label": "harmless"}) + "\n")
    with pytest.raises(RunError, match="mislabelled its controls"):
        calibrate(trial, Terms(), tmp_path / "card.json", said.append)
    assert said == []
    assert not (tmp_path / "card.json").exists()


@pytest.mark.slow
def test_a_panel_of_classifiers_on_random_weights_says_nothing_either(tiny_model: Path, tmp_path: Path) -> None:
    file, store = tmp_path / "responses.jsonl", tmp_path / "store"
    file.write_text(json.dumps(HARMLESS) + "\n")
    names = ("llama-guard", "wildguard", "harmbench")
    members = [{name: {"model": str(tiny_model)}} for name in names]
    found = label(Trial("panel", {"members": members}, file, store), lambda progress: None)
    _nothing_was_read(found, store)
    assert {name.partition("/")[0] for name in found.said.failed} == set(names)
    assert found.said.agreement is not None
    assert (found.said.agreement.n, found.said.agreement.left_out, found.said.agreement.kappa) == (0, 1, None)
