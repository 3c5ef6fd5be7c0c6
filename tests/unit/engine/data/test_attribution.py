"""In which words and by which loss rows are compared with an answer, and what the output says of other losses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datalab import DataLab, told

from safetune.core.errors import UsageError
from safetune.core.playbook import Inputs, ModelRef, Playbook, Promotion, Sprint, Stage
from safetune.core.prompt_design import PromptDesign, PromptPart, PromptTemplate
from safetune.engine.data.attribution import _notes, _trained
from safetune.engine.data.trace import Tracer
from safetune.report.trace import output_lines

PLAIN = Stage("first", "sft", (), {"max_length": 64, "learning_rate": 0.1}, None, (), (), 0)
WORDED = replace(PLAIN, name="second", train={"completion_only_loss": False}, template="polite")
PAIRS = replace(PLAIN, name="third", trainer="dpo", train={})
TEMPLATE = PromptTemplate("polite", (PromptPart("manners", "policy", "Be polite."),), "{{ messages }}")
BOOK = Playbook(
    "b",
    "p",
    ("us",),
    ModelRef("folder", "/m"),
    Inputs(prompts=PromptDesign((TEMPLATE,))),
    (),
    (),
    (Sprint("sprint", "o", (), (PLAIN, WORDED, PAIRS)),),
    (),
    Promotion("stable"),
    "d",
    "",
)
STAGES = {f"sprint/{stage.name}": stage for stage in (PLAIN, WORDED, PAIRS)}


@pytest.fixture
def lab(tmp_path: Path) -> DataLab:
    return DataLab(tmp_path / "store", tmp_path / "desk")


def seen(lab: DataLab, name: str, *, technique: bool = False) -> tuple[Tracer, str, Any]:
    """Train one stage that saw two rows, the second one perhaps through a technique."""
    rows = [lab.stock("a", [told("Who?", "Me.")]), lab.stock("b", [told("You?", "Yes.")])]
    mixed = lab.mix(rows[0], technique=rows[1:]) if technique else lab.mix(*rows)
    made = lab.train(name, mixed, [[0]] if technique else [[0, 1]], [[1]] if technique else [])
    tracer = Tracer(lab.root)
    return tracer, made, list(tracer.seen_rows(made))


def test_rows_are_compared_in_the_words_and_arguments_of_their_stage(lab: DataLab) -> None:
    for name, wanted in (
        ("first", {"prompt": {}, "train": {"max_length": 64}}),
        (
            "second",
            {
                "prompt": {"system": "Be polite.", "chat_template": "{{ messages }}"},
                "train": {"completion_only_loss": False},
            },
        ),
    ):
        _, _, rows = seen(lab, name)
        assert _trained(BOOK, STAGES, rows[0][0]) == wanted


def test_a_stage_that_the_playbook_does_not_have_is_refused(lab: DataLab) -> None:
    _, _, rows = seen(lab, "another")
    with pytest.raises(UsageError, match="sprint/another, which this playbook does not have"):
        _trained(BOOK, STAGES, rows[0][0])


def test_the_output_says_where_another_loss_was_trained(lab: DataLab) -> None:
    tracer, made, rows = seen(lab, "third")
    notes = _notes(rows, STAGES)
    assert len(notes) == 1
    assert "rows of sprint/third were trained by dpo, whose loss is not compared" in notes[0]
    found = replace(tracer.near(made, "Me.", 5), notes=notes)
    assert f"note: {notes[0]}" in output_lines(found)


def test_the_output_says_that_rows_of_techniques_have_another_loss(lab: DataLab) -> None:
    _, _, rows = seen(lab, "first")
    assert _notes(rows, STAGES) == ()
    _, _, rows = seen(lab, "second", technique=True)
    assert [note[:28] for note in _notes(rows, STAGES)] == ["rows that a technique read a"]
