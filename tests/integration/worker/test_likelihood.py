"""Likelihood of choices against one naive forward pass per choice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from safetune.core.errors import UsageError
from safetune.worker.asking import Asker
from safetune.worker.batching import Budget, batches
from safetune.worker.decoding import Engine
from safetune.worker.likelihood import score
from safetune.worker.model import load

CHOICES = [[" A", " B"], [" yes", " no, never at all", " it is hard to say"], ["one", " one"], [" 12 apples", "!"]]


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> Any:
    model, tokenizer = load({"base": str(tiny_model), "adapters": []})
    return model.eval(), tokenizer


def rows(**changes: Any) -> list[dict[str, Any]]:
    return [
        {"digest": str(n), "kind": "likelihood", "prompt": f"Question {n} {'long ' * n}", "choices": choices, **changes}
        for n, choices in enumerate(CHOICES)
    ]


def naive(model: Any, ids: Sequence[int], choice: Sequence[int]) -> float:
    """The sum of the log-probabilities of a choice's tokens, by one pass over everything."""
    whole = torch.tensor([[*ids, *choice]])
    with torch.inference_mode():
        told = model(whole).logits[0].double().log_softmax(-1)
    start = max(1, len(ids))
    return float(sum(told[at - 1, whole[0, at]] for at in range(start, whole.shape[1])))


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("size", [1, 5, 50])
@pytest.mark.parametrize("changes", [{}, {"template": "none"}, {"prefill": "The answer is"}, {"system": "Be brief."}])
def test_scores_are_those_of_a_pass_per_choice(loaded: Any, changes: Any, size: int, cached: bool) -> None:
    model, tokenizer = loaded
    asked = [Asker(model, tokenizer).ask(row) for row in rows(**changes)]
    for batch in batches(asked, Budget(size, 10**6)):
        for one, scored in zip(batch.rows, score(Engine(model), batch, cached), strict=True):
            assert scored.logprobs == pytest.approx([naive(model, one.ids, c) for c in one.choices], abs=1e-4)
            assert scored.tokens == tuple(len(choice) for choice in one.choices)


def test_all_choices_are_scored_after_the_same_tokens_and_spell_the_same_text(loaded: Any) -> None:
    """Where prompt and choice melt into one token, that token belongs to every choice."""
    model, tokenizer = loaded
    row = {"digest": "0", "kind": "likelihood", "prompt": "un", "choices": ["der", "known", " x"], "template": "none"}
    asked = Asker(model, tokenizer).ask(row)

    assert [tokenizer.decode(choice) for choice in asked.choices] == ["under", "unknown", "un x"]
    assert asked.ids == (tokenizer.bos_token_id,)


def test_an_empty_prompt_is_scored_after_the_begin_token(loaded: Any) -> None:
    model, tokenizer = loaded
    row = {"digest": "0", "kind": "likelihood", "prompt": "", "choices": ["One two.", "Two"], "template": "none"}
    asked = Asker(model, tokenizer).ask(row)

    assert asked.ids == (tokenizer.bos_token_id,)
    assert [tokenizer.decode(choice) for choice in asked.choices] == ["One two.", "Two"]


def test_without_a_begin_token_the_first_token_has_no_score(loaded: Any, tiny_model: Path) -> None:
    from safetune.worker.model import load_tokenizer

    model, tokenizer = loaded[0], load_tokenizer(tiny_model)
    tokenizer.bos_token = None
    row = {"digest": "0", "kind": "likelihood", "prompt": "", "choices": ["One two three.", "Two two"]}
    asker = Asker(model, tokenizer)
    asked = asker.ask({**row, "template": "none"})
    (batch,) = batches([asked], Budget(8, 10**6))
    (scored,) = score(Engine(model), batch)

    assert asked.ids == ()
    assert scored.tokens == tuple(len(choice) - 1 for choice in asked.choices)
    assert scored.logprobs == pytest.approx([naive(model, (), choice) for choice in asked.choices], abs=1e-4)
    with pytest.raises(UsageError, match="without a token that can be scored"):
        asker.ask({**row, "template": "none", "choices": ["One two", "One"]})


@pytest.mark.parametrize("choices", [[], ["yes", ""]])
def test_a_choice_without_tokens_is_refused(loaded: Any, choices: list[str]) -> None:
    with pytest.raises(UsageError, match="without a token that can be scored"):
        Asker(*loaded).ask({"digest": "0", "kind": "likelihood", "prompt": "p", "choices": choices})


def test_a_job_writes_scores_as_canonical_text_beside_answers(workshop: Any) -> None:
    folder = workshop.generate("both", [("Hello", 5)])
    with (folder / "requests.jsonl").open("a") as stream:
        stream.writelines(json.dumps({**row, "digest": f"l{row['digest']}"}) + "\n" for row in rows())
    outcome = workshop.run(folder)
    found = {row["digest"]: row for row in map(json.loads, (folder / "responses.jsonl").read_text().splitlines())}

    assert outcome["status"] == "ok"
    assert set(found) == {"0000", "l0", "l1", "l2", "l3"}
    told = json.loads(found["l1"]["output"])
    assert list(told) == ["logprobs", "tokens"]
    assert [len(told["logprobs"]), len(told["tokens"])] == [3, 3]
    assert found["l1"]["tokens"] == sum(told["tokens"])
    assert all(value == round(value, 5) < 0 for value in told["logprobs"])


def test_a_score_that_is_not_a_number_fails_the_job_and_writes_nothing(workshop: Any, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    broken = Path(shutil.copytree(workshop.model, tmp_path / "broken"))
    weights = load_file(broken / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"][0] = float("inf")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    folder = workshop.generate("broken-job", [], model={"base": str(broken), "adapters": []})
    (folder / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    outcome = workshop.run(folder)

    assert outcome["status"] == "error"
    assert "not a finite number" in outcome["message"]
    assert (folder / "responses.jsonl").read_bytes() == b""
