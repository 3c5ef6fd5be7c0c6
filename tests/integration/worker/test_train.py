"""Training jobs on the tiny model: what comes out, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest


def test_lora_training_writes_an_adapter_and_nothing_else(workshop: Any) -> None:
    folder = workshop.train("lora")
    outcome = workshop.run(folder)

    assert outcome["status"] == "ok"
    assert outcome["kind"] == "lora"
    assert outcome["resumed_from"] is None
    assert outcome["metrics"]["steps"] == 6
    assert outcome["metrics"]["tokens"] > 0
    assert set(outcome["versions"]) == {"torch", "transformers", "trl", "peft", "accelerate"}
    assert {p.name for p in (folder / "candidate").iterdir()} == {"adapter_model.safetensors", "adapter_config.json"}
    config = json.loads((folder / "candidate" / "adapter_config.json").read_bytes())
    assert config["base_model_name_or_path"] == "tiny"
    assert config["target_modules"] == sorted(config["target_modules"])
    rows = workshop.progress(folder)
    assert [row["kind"] for row in rows] == ["start"] + ["step"] * 6
    losses = [row["loss"] for row in rows if row["kind"] == "step"]
    assert losses[-1] < losses[0]


def test_the_same_job_gives_the_same_bytes_and_another_seed_does_not(workshop: Any, weights_digest: Any) -> None:
    first, again, other = workshop.train("first"), workshop.train("again"), workshop.train("other", seed=18)
    for folder in (first, again, other):
        assert workshop.run(folder)["status"] == "ok"

    assert weights_digest(first) == weights_digest(again)
    assert weights_digest(first) != weights_digest(other)
    configs = [(f / "candidate" / "adapter_config.json").read_bytes() for f in (first, again)]
    assert configs[0] == configs[1]


def test_full_training_writes_a_whole_model_without_pickles(workshop: Any, tiny_model: Any) -> None:
    folder = workshop.train("full", adapter=None)
    outcome = workshop.run(folder)

    assert outcome["status"] == "ok"
    assert outcome["kind"] == "full"
    names = {p.name for p in (folder / "candidate").iterdir()}
    assert {
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "chat_template.jinja",
    } <= names
    assert not [n for n in names if n.endswith((".bin", ".pt", ".pth", ".pkl", ".md"))]
    assert (folder / "candidate" / "model.safetensors").read_bytes() != (tiny_model / "model.safetensors").read_bytes()
    again = workshop.generate("again", [("Hello", 3)], model={"base": str(folder / "candidate"), "adapters": []})
    assert workshop.run(again)["status"] == "ok"


def test_every_optimizer_step_reads_the_sources_in_their_shares(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetune.builtin.trainers import sft

    read: list[list[list[int]]] = []

    class Watching(sft._SFTTrainer):
        def training_step(self, model: Any, inputs: Any, *rest: Any) -> Any:
            read.append(inputs["input_ids"].tolist())
            return super().training_step(model, inputs, *rest)

    monkeypatch.setattr(sft, "_SFTTrainer", Watching)
    assert workshop.run(workshop.train("shares"))["status"] == "ok"

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(workshop.model)
    for batch in read:
        texts = tokenizer.batch_decode(batch)
        assert sum("sums:" in text for text in texts) == 3
        assert sum("chat:" in text for text in texts) == 1


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"learning_rte": 1e-4}, 'no argument "learning_rte"; did you mean "learning_rate"?'),
        ({"output_dir": "elsewhere"}, '"output_dir": safetune sets it'),
        ({"push_to_hub": True}, '"push_to_hub"'),
        ({"learning_rate": "3e-4"}, "learning_rate must be a number, not '3e-4'"),
        ({"max_steps": "ten"}, "max_steps must be a whole number"),
        ({"lr_scheduler_type": "sideways"}, "TRL refuses the training arguments"),
        ({"max_length": 20}, "24 of 24 rows have a prompt that fills max_length"),
    ],
)
def test_a_wrong_argument_is_one_clear_message(workshop: Any, train: dict[str, Any], message: str) -> None:
    outcome = workshop.run(workshop.train("wrong", train))

    assert outcome["status"] == "error"
    assert message in outcome["message"]
    assert "\n" not in outcome["message"]


def test_an_unknown_target_module_is_one_clear_message(workshop: Any) -> None:
    adapter = {"kind": "lora", "rank": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["nonsense"]}
    outcome = workshop.run(workshop.train("wrong", adapter=adapter))

    assert outcome["status"] == "error"
    assert "TRL refuses this stage" in outcome["message"]
    assert "nonsense" in outcome["message"]


def test_changed_rows_are_refused(workshop: Any) -> None:
    folder = workshop.train("changed")
    with (workshop.root / "sums.jsonl").open("a") as stream:
        stream.write("\n")
    outcome = workshop.run(folder)

    assert outcome["status"] == "error"
    assert "source sums has sha256" in outcome["message"]


def test_a_missing_source_is_named(workshop: Any) -> None:
    folder = workshop.train("missing")
    (workshop.root / "chat.jsonl").unlink()

    assert "source chat: chat.jsonl cannot be read" in workshop.run(folder)["message"]


def test_rows_of_both_shapes_cannot_be_mixed(workshop: Any) -> None:
    talk = workshop.source("talk", [{"messages": [{"role": "assistant", "content": "Hello."}]}], 0.5)
    folder = workshop.train("mixed", sources=[workshop.source("mine", workshop.questions("sums", 3), 0.5), talk])

    assert "cannot be mixed" in workshop.run(folder)["message"]


def test_a_row_of_the_wrong_shape_is_named_by_line(workshop: Any) -> None:
    rows = [*workshop.questions("sums", 2), {"prompt": [{"role": "user", "content": "x"}], "chosen": []}]
    folder = workshop.train("wrong", sources=[workshop.source("mine", rows)])

    assert workshop.run(folder)["message"].startswith("source mine: mine.jsonl:3: a row here needs")


def test_a_loss_that_is_not_finite_stops_the_run(workshop: Any) -> None:
    folder = workshop.train("diverged", {"learning_rate": 1e30, "max_grad_norm": 0.0}, adapter=None)
    outcome = workshop.run(folder)

    assert outcome["status"] == "error"
    assert "is not a finite number" in outcome["message"]
    assert not (folder / "candidate").exists()


def test_another_world_size_than_asked_for_is_refused(workshop: Any) -> None:
    outcome = workshop.run(workshop.train("world", world_size=2))

    assert outcome["status"] == "error"
    assert "started 1 process(es), the playbook asks for 2" in outcome["message"]


def test_another_kind_of_distribution_than_asked_for_is_refused(workshop: Any) -> None:
    outcome = workshop.run(workshop.train("kind", distributed="MULTI_CPU"))

    assert outcome["status"] == "error"
    assert "asks for 1 as MULTI_CPU" in outcome["message"]


def test_dpo_with_lora_starts_from_no_preference_and_learns_one(workshop: Any) -> None:
    pairs = [workshop.source("pairs", workshop.pairs(9))]
    folder = workshop.train("dpo", trainer="dpo", sources=pairs)
    outcome = workshop.run(folder)

    assert outcome["status"] == "ok"
    steps = [row for row in workshop.progress(folder) if row["kind"] == "step"]
    assert steps[0]["loss"] == pytest.approx(0.6931, abs=1e-4)  # log 2: policy and reference are the same
    assert steps[-1]["loss"] < 0.6
    assert steps[-1]["metrics"]["rewards/accuracies"] > 0.5


def test_full_dpo_refers_to_the_start_of_the_stage_and_not_to_the_base(workshop: Any) -> None:
    pairs = [workshop.source("pairs", workshop.pairs(9))]
    sprint = workshop.train("sprint", {"learning_rate": 0.05})
    assert workshop.run(sprint)["status"] == "ok"
    model = {"base": str(workshop.model), "base_digest": "tiny", "adapters": [str(sprint / "candidate")]}
    folder = workshop.train("dpo", {"max_steps": 2}, trainer="dpo", sources=pairs, adapter=None, model=model)
    assert workshop.run(folder)["status"] == "ok"

    steps = [row for row in workshop.progress(folder) if row["kind"] == "step"]
    assert steps[0]["loss"] == pytest.approx(0.6931, abs=1e-4)
