"""Generation jobs on the tiny model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from safetune.worker.batching import Batch
from safetune.worker.generate import answered

PROMPTS = [(f"Say {'very ' * (n * 5 % 7)}much about {n}", 6 if n % 3 else 9) for n in range(11)]


def responses(folder: Any) -> dict[str, Any]:
    rows = [json.loads(line) for line in (folder / "responses.jsonl").read_bytes().splitlines()]
    found = {row["digest"]: row for row in rows}
    assert len(found) == len(rows)
    return found


def test_every_request_is_answered_once_and_the_same_in_any_batch(workshop: Any) -> None:
    batched, alone = workshop.generate("batched", PROMPTS), workshop.generate("alone", PROMPTS, batch_rows=1)
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
    job["subjects"][0]["model"]["base"] = str(workshop.root / "gone")
    (folder / "job.json").write_text(json.dumps(job))

    assert workshop.run(folder)["status"] == "ok"


def test_an_answer_ends_at_its_end_token_and_padding_is_not_counted(workshop: Any) -> None:
    torch = pytest.importorskip("torch")
    from safetune.worker.generate import Answerer
    from safetune.worker.model import load

    model, tokenizer = load({"base": str(workshop.model), "adapters": []})
    answerer = Answerer(model, tokenizer)
    batch = Batch((), tuple(answerer.asker.ask(_request(n, "word " * n)) for n in (1, 6)))
    spoken = [row["tokens"] for row in answerer.answer(batch)]
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
    first, second = answerer.answer(batch)
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


def test_requests_that_cannot_be_read_are_one_clear_message(workshop: Any) -> None:
    folder = workshop.generate("broken", PROMPTS[:1])
    (folder / "requests.jsonl").write_text("{")

    outcome = workshop.run(folder)
    assert outcome["status"] == "error"
    assert "requests.jsonl cannot be read" in outcome["message"]


def test_a_job_without_subjects_is_no_generation_job(workshop: Any) -> None:
    folder = workshop.generate("older", PROMPTS[:1])
    job = json.loads((folder / "job.json").read_bytes())
    (subject,) = job.pop("subjects")
    (folder / "job.json").write_text(json.dumps({**job, **subject, "batch_size": 4}))

    assert workshop.run(folder)["status"] == "error"
    assert not (folder / "responses.jsonl").exists()


def _request(number: int, prompt: str) -> dict[str, Any]:
    return {"digest": str(number), "prompt": prompt, "system": None, "max_new_tokens": 12}


def test_a_killed_process_loses_at_most_one_batch(workshop: Any) -> None:
    prompts = [(f"Say {'very ' * (n % 7)}much about {n}", 40) for n in range(60)]
    whole, killed = workshop.generate("whole", prompts), workshop.generate("killed", prompts)
    process = workshop.start(killed)
    workshop.kill_when(process, lambda: any(row["done"] >= 8 for row in workshop.progress(killed)))
    said = workshop.progress(killed)[-1]["done"]
    kept = [line for line in (killed / "responses.jsonl").read_bytes().split(b"\n")[:-1] if json.loads(line)]

    assert said <= len(kept) <= said + 4 < 60
    assert workshop.run(killed)["status"] == workshop.run(whole)["status"] == "ok"
    assert (killed / "responses.jsonl").read_bytes() == (whole / "responses.jsonl").read_bytes()


def test_a_batch_that_was_written_in_part_goes_on_with_the_same_answers(workshop: Any) -> None:
    whole, cut = workshop.generate("whole", PROMPTS), workshop.generate("cut", PROMPTS)
    workshop.run(whole)
    lines = (whole / "responses.jsonl").read_bytes().splitlines(keepends=True)
    (cut / "responses.jsonl").write_bytes(b"".join(lines[:6]))
    workshop.run(cut)

    assert responses(cut) == responses(whole)
    assert [row["done"] for row in workshop.progress(cut)] == [6, 8, 11]


DEFAULT = "You are a helpful AI assistant"
FORMS = [
    ({}, [DEFAULT, "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"]),
    ({"system": None}, [DEFAULT]),
    ({"system": "Be brief."}, ["<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello"]),
    ({"system": ""}, ["<|im_start|>system\n<|im_end|>\n<|im_start|>user\nHello"]),
    ({"prefill": "Sure, here"}, [DEFAULT, "<|im_start|>assistant\nSure, here"]),
]


@pytest.fixture
def asker(workshop: Any) -> Any:
    """What puts requests into the words of the tiny model."""
    pytest.importorskip("torch")
    from safetune.worker.asking import Asker
    from safetune.worker.model import load

    return Asker(*load({"base": str(workshop.model), "adapters": []}))


@pytest.mark.parametrize(("given", "found"), FORMS)
def test_a_request_is_put_into_the_chat_template(asker: Any, given: Any, found: list[str]) -> None:
    row = {"digest": "0", "prompt": "Hello", "max_new_tokens": 3, **given}
    text = asker._tokenizer.decode(asker.ask(row).ids)

    assert all(piece in text for piece in found)
    assert text.endswith(found[-1]) or "prefill" not in given
    assert (DEFAULT in text) == (DEFAULT in found)


def test_without_a_template_the_bare_text_is_the_input(asker: Any) -> None:
    row = {"digest": "0", "prompt": "Once upon", "prefill": " a time", "template": "none", "max_new_tokens": 3}
    tokenizer = asker._tokenizer

    assert tokenizer.decode(asker.ask(row).ids) == "Once upon a time"
    assert asker.ask({**row, "prompt": "", "prefill": ""}).ids == (tokenizer.bos_token_id,)


def test_a_prefill_is_not_part_of_the_output(workshop: Any) -> None:
    folder = workshop.generate("prefilled", [("Hello", 4)])
    row = {"digest": "0", "prompt": "Hello", "prefill": "Sure, here is", "max_new_tokens": 4}
    (folder / "requests.jsonl").write_text(json.dumps(row) + "\n")
    assert workshop.run(folder)["status"] == "ok"

    assert responses(folder)["0"]["tokens"] == 4
    assert "Sure" not in responses(folder)["0"]["output"]


CANNOT = [
    ({"kind": "dream"}, "requests.jsonl cannot be read: request 0 is dream"),
    ({"template": "own"}, "requests.jsonl cannot be read: request 0 is generate with template own"),
    ({"prompt": None}, "requests.jsonl cannot be read: request 0 has no prompt"),
    ({"max_new_tokens": 0}, "request 0 asks for 0 tokens"),
    ({"template": "none", "system": "Be brief."}, "a system message and no template to put it in"),
    ({"prompt": "long " * 1030}, "positions, the model has 1024"),
    ({"kind": "likelihood", "choices": []}, "a choice without a token that can be scored"),
]


@pytest.mark.parametrize(("given", "message"), CANNOT)
def test_a_request_that_cannot_be_asked_is_one_clear_message(workshop: Any, given: Any, message: str) -> None:
    folder = workshop.generate("cannot", [])
    row = {"digest": "0", "prompt": "Hello", "max_new_tokens": 3, **given}
    (folder / "requests.jsonl").write_text(json.dumps(row) + "\n")
    outcome = workshop.run(folder)

    assert outcome["status"] == "error"
    assert message in outcome["message"]


def test_a_template_that_refuses_a_system_message_is_one_clear_message(asker: Any) -> None:
    from safetune.core.errors import UsageError

    row = {"digest": "0", "prompt": "Hello", "system": "Be brief.", "max_new_tokens": 3}
    asker._tokenizer.chat_template = "{{ raise_exception('no system role') if messages|length > 1 }}x"
    with pytest.raises(UsageError, match="template refuses a request: no system role"):
        asker.ask(row)
    asker._tokenizer.chat_template = None
    with pytest.raises(UsageError, match="no chat template"):
        asker.ask(row)
    assert asker._tokenizer.decode(asker.ask({**row, "system": None}).ids) == "Hello"


class EarlyJudge:
    """Has seen enough, when first asked, of answers to prompts about 1."""

    def decided(self, prompt: str, partial: str) -> bool:
        """Return whether the label is settled."""
        assert partial
        return prompt.endswith(" 1")


def test_a_judge_that_has_seen_enough_ends_an_answer(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetune.worker import generate

    judges = {"early": EarlyJudge(), "patient": object()}
    monkeypatch.setattr(generate, "load_plugin", lambda kind, name: judges[name] if kind == "judge" else None)
    folder = workshop.generate("judged", [])
    rows = [
        {"digest": f"{n}{judge}", "prompt": f"Tell me about {n}", "max_new_tokens": 20, "judge": judge}
        for n in range(3)
        for judge in ("", "early", "patient")
    ]
    (folder / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert workshop.run(folder)["status"] == "ok"

    found = {digest: row["tokens"] for digest, row in responses(folder).items()}
    assert found == {row["digest"]: 8 if row["digest"] == "1early" else 20 for row in rows}
