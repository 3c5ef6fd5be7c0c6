"""Gradients of rows beside that of an answer, at a LoRA checkpoint, told also by autograd on another way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")


@pytest.fixture
def checkpoint(workshop: Any) -> Path:
    """A LoRA checkpoint, trained for six steps."""
    folder = workshop.train("made")
    assert workshop.run(folder)["status"] == "ok"
    return Path(folder / "candidate")


def job(
    workshop: Any,
    adapters: list[Path],
    rows: list[dict[str, Any]],
    answer: dict[str, Any],
    name: str,
    prompt: dict[str, str] | None = None,
    train: dict[str, Any] | None = None,
) -> Path:
    folder = workshop.root / name
    folder.mkdir(exist_ok=True)
    content = {
        "job": "attribute",
        "model": {"base": str(workshop.model), "base_digest": "tiny", "adapters": [str(path) for path in adapters]},
        "answer": answer,
        "prompt": prompt or {},
        "sources": [
            {**workshop.source("candidates", rows, first=4), "prompt": prompt or {}, "train": train or {}},
        ],
        "threads": 1,
        "output": str(folder / "gradients.jsonl"),
    }
    (folder / "job.json").write_text(json.dumps(content))
    return Path(folder)


def scores(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "gradients.jsonl").read_bytes().splitlines()]


def gradient(workshop: Any, adapter: Path, row: dict[str, Any]) -> Any:
    """The gradient as transformers' own loss with labels gives it, adapter matrix by adapter matrix in their names."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(workshop.model)
    base = AutoModelForCausalLM.from_pretrained(workshop.model, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(adapter), is_trainable=True)
    ids = tokenizer.apply_chat_template([*row["prompt"], *row["completion"]])["input_ids"]
    begin = len(tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"])
    labels = torch.tensor([[-100] * begin + ids[begin:]])
    model(input_ids=torch.tensor([ids]), labels=labels).loss.backward()
    found = [weight.grad.flatten() for name, weight in model.named_parameters() if "lora_" in name]
    assert found
    return torch.cat(found)


def test_scores_are_those_of_the_gradients(workshop: Any, checkpoint: Path) -> None:
    rows = [*workshop.questions("sums", 3), *workshop.questions("chat", 2)]
    folder = job(workshop, [checkpoint], rows, rows[1], "compare")
    outcome = workshop.run(folder)

    assert outcome["status"] == "ok", outcome
    assert (outcome["n"], outcome["resumed_from"]) == (5, 0)
    found = scores(folder)
    assert [one["number"] for one in found] == [4, 5, 6, 7, 8]
    target = gradient(workshop, checkpoint, rows[1])
    for one, row in zip(found, rows, strict=True):
        other = gradient(workshop, checkpoint, row)
        assert one["dot"] == pytest.approx(float(target @ other), rel=1e-3, abs=1e-6)
        assert one["cosine"] == pytest.approx(
            float(torch.nn.functional.cosine_similarity(target, other, dim=0)), abs=1e-4
        )
    assert found[1]["cosine"] == pytest.approx(1.0, abs=1e-5)
    assert workshop.progress(folder)[-1]["done"] == 5


def test_a_small_step_on_a_row_changes_the_loss_of_the_answer_as_the_score_says(
    workshop: Any, checkpoint: Path
) -> None:
    """TracIn's promise: the loss of the answer falls by the rate times the dot product."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rows = workshop.questions("sums", 4)
    folder = job(workshop, [checkpoint], rows, rows[0], "step")
    assert workshop.run(folder)["status"] == "ok"
    tokenizer = AutoTokenizer.from_pretrained(workshop.model)
    base = AutoModelForCausalLM.from_pretrained(workshop.model, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(checkpoint), is_trainable=True).double()

    def loss(row: dict[str, Any]) -> Any:
        ids = tokenizer.apply_chat_template([*row["prompt"], *row["completion"]])["input_ids"]
        begin = len(tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"])
        return model(input_ids=torch.tensor([ids]), labels=torch.tensor([[-100] * begin + ids[begin:]])).loss

    def moved(by: float) -> float:
        with torch.no_grad():
            for weight, step in zip(weights, steps, strict=True):
                weight += by * step
            found = float(loss(rows[0]))
            for weight, step in zip(weights, steps, strict=True):
                weight -= by * step
        return found

    rate, weights = 1e-3, [w for n, w in model.named_parameters() if "lora_" in n]
    for one, row in zip(scores(folder), rows, strict=True):
        steps = torch.autograd.grad(loss(row), weights)
        fell = (moved(rate) - moved(-rate)) / (2 * rate)  # from both sides, so that the curvature drops out
        assert fell == pytest.approx(one["dot"], rel=0.02, abs=0.02)


def test_what_was_computed_before_is_not_computed_again(workshop: Any, checkpoint: Path) -> None:
    rows = workshop.questions("sums", 4)
    whole = job(workshop, [checkpoint], rows, rows[0], "whole")
    assert workshop.run(whole)["status"] == "ok"
    again = job(workshop, [checkpoint], rows, rows[0], "again")
    lines = (whole / "gradients.jsonl").read_bytes().splitlines(keepends=True)
    (again / "gradients.jsonl").write_bytes(lines[0].replace(b'"sums', b'"x') + lines[1] + lines[2][:20])
    outcome = workshop.run(again)

    assert outcome["resumed_from"] == 2
    assert (again / "gradients.jsonl").read_bytes() == b"".join([lines[0].replace(b'"sums', b'"x'), *lines[1:]])


def test_earlier_adapters_are_merged_and_the_last_lies_open(workshop: Any, checkpoint: Path) -> None:
    rows = workshop.questions("sums", 2)
    model = {"base": str(workshop.model), "base_digest": "tiny", "adapters": [str(checkpoint)]}
    later = workshop.train("later", model=model, seed=3)
    assert workshop.run(later)["status"] == "ok"
    both = job(workshop, [checkpoint, later / "candidate"], rows, rows[0], "both")
    alone = job(workshop, [later / "candidate"], rows, rows[0], "alone")
    assert workshop.run(both)["status"] == workshop.run(alone)["status"] == "ok"
    assert scores(both)[1]["cosine"] != pytest.approx(scores(alone)[1]["cosine"], abs=1e-4)


@pytest.mark.parametrize(
    ("adapters", "answer", "message"),
    [
        (0, {"messages": [{"role": "assistant", "content": "Yes."}]}, "this checkpoint is not LoRA"),
        (1, {"messages": [{"role": "user", "content": "x " * 1500}, {"role": "assistant", "content": "y"}]}, "1024"),
    ],
)
def test_what_cannot_be_compared_is_one_clear_message(
    workshop: Any, checkpoint: Path, adapters: int, answer: dict[str, Any], message: str
) -> None:
    rows = workshop.questions("sums", 2)
    outcome = workshop.run(job(workshop, [checkpoint] * adapters, rows, answer, "refused"))
    assert outcome["status"] == "error"
    assert message in outcome["message"]


def test_an_answer_alone_and_a_row_of_preferences_are_read(workshop: Any, checkpoint: Path) -> None:
    answer = {"messages": [{"role": "assistant", "content": "It is 7."}]}
    folder = job(workshop, [checkpoint], [*workshop.pairs(2), *workshop.questions("sums", 1)], answer, "alone")
    assert workshop.run(folder)["status"] == "ok"
    assert all(-1.001 <= one["cosine"] <= 1.001 for one in scores(folder))


SYSTEM = "Answer in one short sentence."
TEMPLATE = (
    "{% for m in messages %}<<{{ m.role }}>> {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<<assistant>> {% endif %}"
)


def trainers_gradient(
    workshop: Any, adapter: Path, row: dict[str, Any], prompt: dict[str, str], train: dict[str, Any]
) -> Any:
    """The gradient of the loss that the trainer itself makes of a row: its own tokens, masks and loss."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(workshop.model)
    tokenizer.chat_template = prompt.get("chat_template") or tokenizer.chat_template
    column = "messages" if "messages" in row else "prompt"
    if prompt.get("system"):
        row = {**row, column: [{"role": "system", "content": prompt["system"]}, *row[column]]}
    base = AutoModelForCausalLM.from_pretrained(workshop.model, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(adapter), is_trainable=True)
    from datasets import Dataset

    args = SFTConfig(
        output_dir=str(workshop.root / "trl"),
        report_to=[],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        **train,
    )
    trainer = SFTTrainer(model, args, train_dataset=Dataset.from_list([row]), processing_class=tokenizer)
    batch = trainer.data_collator([trainer.train_dataset[0]])
    model.eval()
    trainer.compute_loss(model, batch).backward()
    found = [weight.grad.flatten() for name, weight in model.named_parameters() if "lora_" in name]
    return torch.cat(found)


def chats(count: int) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"What is {n}?"},
                {"role": "assistant", "content": f"A number, {n}."},
                {"role": "user", "content": "Sure?"},
                {"role": "assistant", "content": "Yes." * (n + 1)},
            ]
        }
        for n in range(count)
    ]


@pytest.mark.parametrize("kind", ["messages", "completion", "every token", "cut"])
@pytest.mark.parametrize("prompt", [{}, {"system": SYSTEM, "chat_template": TEMPLATE}], ids=["own", "template"])
def test_the_loss_of_a_row_is_that_of_its_trainer(
    workshop: Any, checkpoint: Path, kind: str, prompt: dict[str, str]
) -> None:
    arguments: dict[str, dict[str, Any]] = {
        "every token": {"completion_only_loss": False},
        "cut": {"max_length": 24},
    }
    train = arguments.get(kind, {})
    rows = chats(2) if kind in ("messages", "cut") else workshop.questions("sums", 2)
    answer = workshop.questions("chat", 2)[1]
    folder = job(workshop, [checkpoint], rows, answer, "trl", prompt, train)
    outcome = workshop.run(folder)
    assert outcome["status"] == "ok", outcome
    target = trainers_gradient(workshop, checkpoint, answer, prompt, {})
    for one, row in zip(scores(folder), rows, strict=True):
        other = trainers_gradient(workshop, checkpoint, row, prompt, train)
        assert one["dot"] == pytest.approx(float(target @ other), rel=1e-3, abs=1e-5)
