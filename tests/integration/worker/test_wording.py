"""Prompt templates in the worker, by token ids: what is trained on, where the loss begins, what a model is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

SYSTEM = "You are the tutor of class 3b."
# Roles between square brackets, an end token after every message.
BRACKETS = (
    "{% for m in messages %}{{ '[' + m['role'] + ']\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]\n' }}{% endif %}"
)
OWN = [{"role": "system", "content": "You are somebody else."}, {"role": "user", "content": "What is 1 plus 1?"}]
ANSWER = [{"role": "assistant", "content": "It is 2."}]


@pytest.fixture
def tokenizer(workshop: Any) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(workshop.model)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The (token ids, labels) of every row that entered the loss."""
    from safetune.builtin.trainers import sft

    seen: list[Any] = []

    class Watching(sft._SFTTrainer):
        def training_step(self, model: Any, inputs: Any, *rest: Any) -> Any:
            seen.extend(zip(inputs["input_ids"].tolist(), inputs["labels"].tolist(), strict=True))
            return super().training_step(model, inputs, *rest)

    monkeypatch.setattr(sft, "_SFTTrainer", Watching)
    return seen


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return [int(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]


def learnt(tokenizer: Any, labels: list[int]) -> str:
    return str(tokenizer.decode([label for label in labels if label >= 0]))


def job(workshop: Any, prompt: Mapping[str, str], rows: list[Any] | None = None, **changes: Any) -> Path:
    content = rows if rows is not None else [*workshop.questions("sums", 6), {"prompt": OWN, "completion": ANSWER}]
    folder: Path = workshop.train("stage", {"max_steps": 2}, sources=[workshop.source("lessons", content)], **changes)
    (folder / "job.json").write_text(json.dumps({**json.loads((folder / "job.json").read_bytes()), "prompt": prompt}))
    return folder


# -- training ----------------------------------------------------------------------------------------------------------


def test_the_system_message_is_in_the_tokens_of_every_row_that_has_none(
    workshop: Any, tokenizer: Any, batches: list[Any]
) -> None:
    folder = job(workshop, {"system": SYSTEM, "chat_template": ""})
    outcome = workshop.run(folder)
    assert outcome["status"] == "ok", outcome
    given = ids_of(tokenizer, f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n")
    own = ids_of(tokenizer, "<|im_start|>system\nYou are somebody else.<|im_end|>\n<|im_start|>user\n")
    begins = [ids[: len(given)] == given for ids, _ in batches]
    kept = [ids[: len(own)] == own for ids, _ in batches]
    assert len(batches) == 8
    assert all(a != b for a, b in zip(begins, kept, strict=True))
    assert sum(kept) >= 1
    assert all(learnt(tokenizer, labels).startswith("It is ") for _, labels in batches)
    assert (outcome["metrics"]["system_given"], outcome["metrics"]["system_kept"]) == (6, 1)
    notes = [row["text"] for row in workshop.progress(folder) if row["kind"] == "note"]
    assert "6 rows get the system message of the stage's template, 1 keep their own" in notes


def test_without_a_template_rows_stay_as_they_are(workshop: Any, tokenizer: Any, batches: list[Any]) -> None:
    outcome = workshop.run(job(workshop, {}))
    assert outcome["status"] == "ok"
    assert not any(SYSTEM in tokenizer.decode(ids) for ids, _ in batches)
    assert "system_given" not in outcome["metrics"]


def test_a_chat_template_marks_the_roles_and_the_loss_begins_at_the_answer(
    workshop: Any, tokenizer: Any, batches: list[Any]
) -> None:
    assert workshop.run(job(workshop, {"system": SYSTEM, "chat_template": BRACKETS}))["status"] == "ok"
    begin = ids_of(tokenizer, f"[system]\n{SYSTEM}<|im_end|>\n[user]\n")
    assert sum(ids[: len(begin)] == begin for ids, _ in batches) >= 6
    for ids, labels in batches:
        assert "<|im_start|>" not in tokenizer.decode(ids)
        said = learnt(tokenizer, labels)
        assert said.startswith("It is ")
        assert said.endswith("<|im_end|>\n")


def test_rows_of_messages_and_preferences_get_it_too(workshop: Any, tokenizer: Any, batches: list[Any]) -> None:
    rows = [{"messages": [*row["prompt"], *row["completion"]]} for row in workshop.questions("sums", 6)]
    assert workshop.run(job(workshop, {"system": SYSTEM}, rows))["status"] == "ok"
    begin = ids_of(tokenizer, f"<|im_start|>system\n{SYSTEM}<|im_end|>\n")
    assert all(ids[: len(begin)] == begin for ids, _ in batches)
    pairs = job(workshop, {"system": SYSTEM, "chat_template": BRACKETS}, workshop.pairs(6), trainer="dpo")
    outcome = workshop.run(pairs)
    assert outcome["status"] == "ok", outcome
    assert outcome["metrics"]["system_given"] == 6


def test_rows_of_a_technique_are_put_into_the_same_words(
    workshop: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetune.builtin.techniques import kl_regularization as kl

    encoded, real = [], kl.encode
    monkeypatch.setattr(kl, "encode", lambda tok, row: encoded.append(real(tok, row)) or encoded[-1])  # type: ignore[func-returns-value]
    folder = job(workshop, {"system": SYSTEM, "chat_template": BRACKETS}, techniques=[workshop.anchors()])
    outcome = workshop.run(folder)
    assert outcome["status"] == "ok", outcome
    begin = ids_of(tokenizer, f"[system]\n{SYSTEM}<|im_end|>\n[user]\n")
    assert len(encoded) >= 3
    assert all(ids[: len(begin)] == begin for ids, _ in encoded)


def test_a_whole_model_keeps_its_own_chat_template(workshop: Any) -> None:
    folder = job(workshop, {"system": SYSTEM, "chat_template": BRACKETS}, adapter=None)
    assert workshop.run(folder)["status"] == "ok"
    own = (workshop.model / "chat_template.jinja").read_text()
    assert (folder / "candidate" / "chat_template.jinja").read_text() == own


def test_a_model_without_a_chat_template_can_be_trained_with_that_of_the_stage(workshop: Any, tmp_path: Path) -> None:
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(workshop.model, bare)
    (bare / "chat_template.jinja").unlink()
    model = {"base": str(bare), "base_digest": "tiny", "adapters": []}
    assert "no chat template" in workshop.run(job(workshop, {"system": SYSTEM}, model=model))["message"]
    folder = job(workshop, {"chat_template": BRACKETS}, model=model, adapter=None)
    assert workshop.run(folder)["status"] == "ok"
    assert not (folder / "candidate" / "chat_template.jinja").exists()


@pytest.mark.parametrize(
    ("chat_template", "train", "message"),
    [
        (
            BRACKETS.replace("messages", "messages[1:]"),
            {},
            "the chat template of the stage leaves out a message of the",
        ),
        (BRACKETS.replace("messages", "messages[:2]"), {}, "leaves out a message of the role assistant"),
        (BRACKETS.replace("'[assistant]\n'", "'[answer]\n'"), {}, "the loss would begin in the wrong place"),
        (BRACKETS.replace("]\n'", "] '"), {}, "ends a prompt within a token"),
        ("{{ raise_exception('not like this') }}", {}, "refuses a row: not like this"),
        ("{% if %}", {}, "refuses a row: "),
        (BRACKETS, {"assistant_only_loss": True}, "marks the assistant's words with {% generation %}"),
    ],
)
def test_a_template_that_cannot_be_trained_with_is_one_clear_message(
    workshop: Any, chat_template: str, train: Mapping[str, Any], message: str
) -> None:
    folder = job(workshop, {"system": SYSTEM, "chat_template": chat_template})
    content = json.loads((folder / "job.json").read_bytes())
    (folder / "job.json").write_text(json.dumps({**content, "train": {**content["train"], **train}}))
    outcome = workshop.run(folder)
    assert (outcome["status"], outcome["usage"]) == ("error", True)
    assert message in outcome["message"]
    assert outcome["hint"]


def test_the_own_template_of_a_model_may_not_lose_the_system_message(workshop: Any, tmp_path: Path) -> None:
    import shutil

    deaf = tmp_path / "deaf"
    shutil.copytree(workshop.model, deaf)
    (deaf / "chat_template.jinja").write_text(BRACKETS.replace("messages", "messages[1:]"))
    model = {"base": str(deaf), "base_digest": "tiny", "adapters": []}
    outcome = workshop.run(job(workshop, {"system": SYSTEM}, model=model))
    assert "the model's own chat template leaves out a message of the role system" in outcome["message"]


# -- asking ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every request as token ids, as the model was given it."""
    from safetune.worker import asking

    seen, real = [], asking.Asker.ask
    monkeypatch.setattr(asking.Asker, "ask", lambda self, row: seen.append(real(self, row)) or seen[-1])  # type: ignore[func-returns-value]
    return seen


def questions(workshop: Any, changes: Sequence[Mapping[str, Any]], **job: Any) -> Path:
    folder: Path = workshop.generate("asked", [("Say it", 3)] * len(changes), **job)
    rows = [json.loads(line) for line in (folder / "requests.jsonl").read_bytes().splitlines()]
    lines = [json.dumps({**row, **change}) + "\n" for row, change in zip(rows, changes, strict=True)]
    (folder / "requests.jsonl").write_text("".join(lines))
    return folder


def test_a_request_is_asked_with_its_system_message_and_the_chat_template_it_names(
    workshop: Any, tokenizer: Any, asked: list[Any]
) -> None:
    changes = [
        {},
        {"system": SYSTEM},
        {"system": SYSTEM, "chat_template": "t"},
        {"chat_template": "t", "prefill": "No"},
    ]
    outcome = workshop.run(questions(workshop, changes, chat_templates={"t": BRACKETS}))
    assert outcome["status"] == "ok", outcome
    by = {one.digest: list(one.ids) for one in asked}
    end = "<|im_end|>\n"
    assert by["0001"] == ids_of(
        tokenizer, f"<|im_start|>system\n{SYSTEM}{end}<|im_start|>user\nSay it{end}<|im_start|>assistant\n"
    )
    assert by["0002"] == ids_of(tokenizer, f"[system]\n{SYSTEM}{end}[user]\nSay it{end}[assistant]\n")
    assert by["0003"] == ids_of(tokenizer, f"[user]\nSay it{end}[assistant]\nNo")
    assert len({one.header for one in asked}) == 4
    assert SYSTEM not in tokenizer.decode(by["0000"])


@pytest.mark.parametrize(
    ("change", "templates", "message"),
    [
        ({"chat_template": "gone"}, {}, "names a chat template that the job does not have"),
        ({"system": SYSTEM, "chat_template": "t"}, {"t": "{{ messages[1].content }}"}, "leaves the system message out"),
        ({"chat_template": "t"}, {"t": "{{ raise_exception('no') }}"}, "the serving template refuses a request: no"),
        ({"chat_template": "t"}, {"t": "{{ messages.__class__.__mro__ }}"}, "the serving template refuses a request"),
    ],
)
def test_a_serving_template_that_cannot_be_asked_with_is_one_clear_message(
    workshop: Any, change: Mapping[str, Any], templates: Mapping[str, str], message: str
) -> None:
    outcome = workshop.run(questions(workshop, [change], chat_templates=templates))
    assert (outcome["status"], outcome["usage"]) == ("error", True)
    assert message in outcome["message"]


def test_choices_are_scored_after_the_serving_template(workshop: Any, tokenizer: Any, asked: list[Any]) -> None:
    change = {"kind": "likelihood", "choices": [" yes", " no"], "system": SYSTEM, "chat_template": "t"}
    assert workshop.run(questions(workshop, [change], chat_templates={"t": BRACKETS}))["status"] == "ok"
    (one,) = asked
    assert tokenizer.decode(one.ids).startswith(f"[system]\n{SYSTEM}")


def test_an_exported_model_carries_the_chat_template_and_the_system_message(workshop: Any) -> None:
    folder = workshop.root / "merge"
    folder.mkdir()
    model = {"base": str(workshop.model), "base_digest": "tiny", "adapters": []}
    content = {"job": "merge", "model": model, "output": str(folder / "model"), "threads": 1}
    for prompt in ({"system": SYSTEM, "chat_template": BRACKETS}, {}):
        (folder / "job.json").write_text(json.dumps({**content, "prompt": prompt}))
        assert workshop.run(folder)["status"] == "ok"
        if prompt:
            assert (folder / "model" / "chat_template.jinja").read_text() == BRACKETS
            assert (folder / "model" / "system_prompt.txt").read_text() == SYSTEM
            (folder / "model" / "system_prompt.txt").unlink()
    assert (folder / "model" / "chat_template.jinja").read_text() != BRACKETS
    assert not (folder / "model" / "system_prompt.txt").exists()
