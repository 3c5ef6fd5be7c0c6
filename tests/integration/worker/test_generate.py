"""Generation jobs on the tiny model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from safetune.worker.generate import Asked, answered, batches

PROMPTS = [(f"Say {'very ' * (n * 5 % 7)}much about {n}", 6 if n % 3 else 9) for n in range(11)]


def responses(folder: Any) -> dict[str, Any]:
    rows = [json.loads(line) for line in (folder / "responses.jsonl").read_bytes().splitlines()]
    found = {row["digest"]: row for row in rows}
    assert len(found) == len(rows)
    return found


def test_every_request_is_answered_once_and_the_same_in_any_batch(workshop: Any) -> None:
    batched, alone = workshop.generate("batched", PROMPTS), workshop.generate("alone", PROMPTS, batch_size=1)
    outcome = workshop.run(batched)
    assert workshop.run(alone)["status"] == "ok"

    assert outcome["status"] == "ok"
    assert outcome["done"] == 11
    assert len(responses(batched)) == 11
    assert responses(batched) == responses(alone)
    assert outcome["tokens"] == sum(row["tokens"] for row in responses(batched).values())
    done = [row["done"] for row in workshop.progress(batched)]
    assert done == [0, 4, 8, 11]


def test_a_cut_off_run_goes_on_where_it_stopped(workshop: Any) -> None:
    whole, cut = workshop.generate("whole", PROMPTS), workshop.generate("cut", PROMPTS)
    workshop.run(whole)
    lines = (whole / "responses.jsonl").read_bytes().splitlines(keepends=True)
    (cut / "responses.jsonl").write_bytes(b"".join(lines[:4]) + lines[4][:20])
    outcome = workshop.run(cut)

    assert outcome["status"] == "ok"
    assert (cut / "responses.jsonl").read_bytes() == (whole / "responses.jsonl").read_bytes()
    assert workshop.progress(cut)[0]["done"] == 4


def test_nothing_is_loaded_when_everything_is_answered(workshop: Any) -> None:
    folder = workshop.generate("done", PROMPTS[:2])
    workshop.run(folder)
    job = json.loads((folder / "job.json").read_bytes())
    job["model"]["base"] = str(workshop.root / "gone")
    (folder / "job.json").write_text(json.dumps(job))

    assert workshop.run(folder)["status"] == "ok"


def test_an_answer_ends_at_its_end_token_and_padding_is_not_counted(workshop: Any) -> None:
    torch = pytest.importorskip("torch")
    from safetune.worker.generate import Answerer
    from safetune.worker.model import load

    model, tokenizer = load({"base": str(workshop.model), "adapters": []})
    answerer = Answerer(model, tokenizer)
    asked = [answerer.ask(_request(n, "word " * n)) for n in (1, 6)]
    spoken = [row["tokens"] for row in answerer.answer(asked)]
    assert spoken == [12, 12]

    # Make the model say the end token where the second request said its fourth token.
    module: Any = torch.nn.Module

    class Ending(module):  # type: ignore[misc]
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner, self.calls, self.weight = inner, 0, inner.weight

        def forward(self, hidden: Any) -> Any:
            logits = self.inner(hidden)
            self.calls += 1
            if self.calls == 4:
                logits[1, -1, tokenizer.eos_token_id] = 1e9
            return logits

    model.lm_head = Ending(model.lm_head)
    first, second = answerer.answer(asked)
    assert first["tokens"] == 12
    assert second["tokens"] == 4
    assert "<|im_end|>" not in str(second["output"])


def test_adapters_are_merged_in_order(workshop: Any) -> None:
    one = workshop.train("one", {"learning_rate": 0.05})
    workshop.run(one)
    model = {"base": str(workshop.model), "base_digest": "tiny", "adapters": [str(one / "candidate")]}
    two = workshop.train("two", {"learning_rate": 0.05}, model=model)
    workshop.run(two)

    from safetune.worker.model import load

    paths = [str(one / "candidate"), str(two / "candidate")]
    merged, _ = load({"base": str(workshop.model), "adapters": paths})
    start, _ = load({"base": str(workshop.model), "adapters": []})
    name = "model.layers.1.mlp.down_proj"
    expected = start.get_submodule(name).weight.detach().clone()
    for path in paths:
        from safetensors.torch import load_file

        weights = load_file(f"{path}/adapter_model.safetensors")
        a, b = (weights[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
        expected += 2.0 * b @ a  # alpha / rank = 8 / 4
    found = merged.get_submodule(name).weight
    assert found.allclose(expected, atol=1e-6)
    assert not found.allclose(start.get_submodule(name).weight, atol=1e-4)
    assert all(weight.requires_grad for weight in merged.parameters())


def test_a_foreign_or_torn_line_is_asked_again(tmp_path: Any) -> None:
    target = tmp_path / "responses.jsonl"
    target.write_bytes(b'{"digest":"a","output":"","tokens":1}\nnot json\n{"output":"x"}\n{"digest":"b","out')

    assert answered(target) == {"a"}
    assert target.read_bytes().endswith(b'{"output":"x"}\n')


def test_batches_are_of_one_limit_with_the_longest_prompts_first() -> None:
    asked = [Asked(str(n), (0,) * (n * 7 % 10), 4 if n % 2 else 8) for n in range(9)]
    found = [[(len(one.ids), one.max_new_tokens) for one in batch] for batch in batches(asked, 3)]

    assert [limits for batch in found for limits in {limit for _, limit in batch}] == [8, 8, 4, 4]
    assert [length for batch in found[:2] for length, _ in batch] == sorted((0, 4, 8, 2, 6), reverse=True)


def test_requests_that_cannot_be_read_are_one_clear_message(workshop: Any) -> None:
    folder = workshop.generate("broken", PROMPTS[:1])
    (folder / "requests.jsonl").write_text("{")

    outcome = workshop.run(folder)
    assert outcome["status"] == "error"
    assert "requests.jsonl cannot be read" in outcome["message"]


def _request(number: int, prompt: str) -> dict[str, Any]:
    return {"digest": str(number), "prompt": prompt, "system_prompt": "", "max_new_tokens": 12}
