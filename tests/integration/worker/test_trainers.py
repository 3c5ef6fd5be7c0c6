"""Our additions to TRL's trainers: the scale of penalties, the labels, the output layer on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from safetune.protocols import TechniqueSetup, TrainingSetup

torch = pytest.importorskip("torch")


@pytest.fixture
def gradients(workshop: Any) -> Callable[..., dict[str, Any]]:
    """A function: the gradient that the first optimizer step sees, by weight."""

    def first_step(trainer_name: str, rows: Any, techniques: Any = (), **arguments: Any) -> dict[str, Any]:
        from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

        from safetune import plugins

        found: dict[str, Any] = {}

        class Catch(TrainerCallback):  # type: ignore[misc]
            def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
                found.update({n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None})
                control.should_training_stop = True

        model = AutoModelForCausalLM.from_pretrained(workshop.model, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(workshop.model)
        plugin: Any = plugins.load("trainer", trainer_name)
        held: dict[str, Any] = {
            "output_dir": str(workshop.root / "state"),
            "max_steps": 1,
            "report_to": "none",
            "save_strategy": "no",
            "max_grad_norm": 0.0,
            "disable_tqdm": True,
            "train_sampling_strategy": "sequential",
        }
        setup = TrainingSetup(model, tokenizer, rows, {**held, **arguments}, None, techniques, (Catch(),))
        trainer = plugin.build(setup)
        for technique in techniques:
            with torch.no_grad():
                model.model.embed_tokens.weight.mul_(1.5)  # the reference is another model than the policy
            anchors = {"anchors": workshop.questions("anchor", 3)}
            technique.prepare(TechniqueSetup(model, tokenizer, anchors, {"anchors": 1.0}, {"weight": 3.0}, 1, 1))
            with torch.no_grad():
                model.model.embed_tokens.weight.div_(1.5)
        trainer.train()
        return found

    return first_step


def assert_same(one: Mapping[str, Any], other: Mapping[str, Any], tolerance: float) -> None:
    assert set(one) == set(other)
    assert one
    for name in one:
        scale = float(one[name].abs().max())
        assert float((one[name] - other[name]).abs().max()) <= tolerance * max(scale, 1e-6), name


@pytest.mark.parametrize("trainer", ["sft", "dpo"])
def test_one_step_of_8_rows_equals_8_accumulated_rows_with_a_penalty(
    workshop: Any, gradients: Callable[..., dict[str, Any]], trainer: str
) -> None:
    from safetune.builtin.techniques.kl_regularization import KLRegularization

    rows = workshop.questions("sums", 8) if trainer == "sft" else workshop.pairs(8)
    together = gradients(trainer, rows, [KLRegularization()], per_device_train_batch_size=8)
    apart = gradients(trainer, rows, [KLRegularization()], per_device_train_batch_size=1, gradient_accumulation_steps=8)
    without = gradients(trainer, rows, per_device_train_batch_size=8)

    assert_same(together, apart, 1e-5)
    largest = max(float((together[n] - without[n]).abs().max()) for n in without)
    assert largest > 1e-3  # the penalty is really in there


def test_scoring_only_labels_changes_no_gradient(
    workshop: Any, gradients: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import trl.trainer.utils as fused

    from safetune.builtin.trainers import lm_head, penalties

    rows = workshop.questions("sums", 4)
    assert lm_head.score_labels_only()
    compact = gradients("sft", rows, per_device_train_batch_size=4)
    assert fused._use_triton(torch.device("cpu"))
    monkeypatch.setattr(fused, "_use_triton", lambda device: False)
    monkeypatch.setattr(penalties, "score_labels_only", lambda: False)
    every = gradients("sft", rows, per_device_train_batch_size=4)

    assert_same(compact, every, 1e-5)


def test_the_end_token_is_learnt_and_padding_is_not(workshop: Any) -> None:
    """In SmolLM2 the padding token is the end token; labels made by padding id would erase the end of every answer."""
    trainer, tokenizer = _built(workshop)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id

    batch = trainer.data_collator([trainer.train_dataset[n] for n in range(4)])
    lengths = batch["attention_mask"].sum(dim=1)
    assert len(set(lengths.tolist())) > 1  # something is padded
    for ids, labels, length in zip(batch["input_ids"], batch["labels"], lengths.tolist(), strict=True):
        assert (labels[length:] == -100).all()
        learnt = ids[labels != -100]
        assert tokenizer.decode(learnt).startswith("It is ")
        assert tokenizer.eos_token_id in learnt.tolist()
        assert (labels[: length - len(learnt)] == -100).all()


def test_a_prompt_is_read_alike_in_training_and_in_generation(workshop: Any) -> None:
    from safetune.worker.generate import Answerer

    trainer, tokenizer = _built(workshop)
    row = workshop.questions("sums", 1)[0]
    request = {"digest": "", "prompt": row["prompt"][0]["content"], "system": None, "max_new_tokens": 1}
    asked = Answerer(trainer.model, tokenizer).asker.ask(request)

    ids, labels = trainer.train_dataset[0]["input_ids"], trainer.train_dataset[0]["labels"]
    prompt = tuple(token for token, label in zip(ids, labels, strict=True) if label == -100)
    assert asked.ids == prompt
    assert "You are a helpful AI assistant" in tokenizer.decode(prompt)


def _built(workshop: Any) -> tuple[Any, Any]:
    from safetune import plugins
    from safetune.worker.model import load

    model, tokenizer = load({"base": str(workshop.model), "adapters": []})
    plugin: Any = plugins.load("trainer", "sft")
    arguments: dict[str, Any] = {"output_dir": str(Path(workshop.root) / "state"), "max_steps": 1, "report_to": "none"}
    setup = TrainingSetup(model, tokenizer, workshop.questions("sums", 4), arguments, None, (), ())
    return plugin.build(setup), tokenizer
