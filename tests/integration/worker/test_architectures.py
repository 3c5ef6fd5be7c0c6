"""Decoding and likelihood on tiny models of several families: our own cache where it fits, else `model.generate`."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from safetune.core.errors import RunError
from safetune.worker.asking import LIKELIHOOD, Asked
from safetune.worker.batching import Batch, Budget, batches
from safetune.worker.decoding import Decoder, Engine, Fallback, why_not
from safetune.worker.likelihood import score

ENDS = (3, 9, 15, 21)
SIZE = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.3,
    "eos_token_id": 3,
    "pad_token_id": 0,
    "bos_token_id": 1,
}
GROUPED = {**SIZE, "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 256}
OURS: dict[str, dict[str, Any]] = {
    "qwen3": {**GROUPED, "head_dim": 8},
    "gemma": {**GROUPED, "head_dim": 8},
    "gpt2": {"vocab_size": 40, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3, "pad_token_id": 0},
    "opt": {**SIZE, "ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 256},
    "mixtral": {**GROUPED, "num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": None},
    "falcon": SIZE,
}
THEIRS: dict[str, dict[str, Any]] = {
    "gemma2": {**GROUPED, "head_dim": 8, "sliding_window": 6},
    "bloom": {"vocab_size": 40, "hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3},
    "mamba": {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
}


def made(kind: str) -> Any:
    torch.manual_seed(5)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**OURS, **THEIRS}[kind])).eval()


def requests() -> list[Asked]:
    torch.manual_seed(1)
    return [
        Asked(str(n), (4, 5, 6, 7, 8, *torch.randint(4, 40, (1 + n * 5 % 9,)).tolist()), 12 if n % 3 else 20)
        for n in range(7)
    ]


@pytest.mark.parametrize("kind", OURS)
def test_a_plain_decoder_says_what_generate_says(kind: str) -> None:
    model, rows = made(kind), requests()
    alone = Fallback(model, ENDS, lambda _, __: False)
    expected = {one.digest: alone.answer(Batch((), (one,)))[0] for one in rows}
    decoder = Decoder(Engine(model), ENDS, lambda _, __: False)
    found = {
        one.digest: said
        for batch in batches(rows, Budget(4, 10**6))
        for one, said in zip(batch.rows, decoder.answer(batch), strict=True)
    }

    assert why_not(model) == ""
    assert found == expected


@pytest.mark.parametrize("kind", THEIRS)
def test_a_model_with_another_cache_is_left_to_generate(kind: str) -> None:
    assert why_not(made(kind))


@pytest.mark.parametrize("kind", THEIRS)
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_what_generate_says_from_logits_that_are_not_numbers_is_an_error(kind: str, value: str) -> None:
    model: Any = made(kind)
    weights = [weight for name, weight in model.named_parameters() if ".1." in name and weight.dim() == 2]
    with torch.no_grad():
        weights[-1][3] = float(value)

    with pytest.raises(RunError, match="not finite"):
        Fallback(model, ENDS, lambda _, __: False).answer(Batch((), tuple(requests())))


@pytest.mark.parametrize("kind", [*OURS, *THEIRS])
def test_choices_are_scored_alike_with_our_cache_and_without_any(kind: str) -> None:
    model: Any = made(kind)
    rows = [
        Asked(str(n), (4, 5, 6, 7, *[10] * n), 0, LIKELIHOOD, choices=((11, 12, 13), (14,), (15, 16))) for n in range(3)
    ]
    (batch,) = batches(rows, Budget(9, 10**6))
    for one, scored in zip(batch.rows, score(Engine(model), batch, cached=kind in OURS), strict=True):
        for choice, found in zip(one.choices, scored.logprobs, strict=True):
            whole = torch.tensor([[*one.ids, *choice]])
            with torch.inference_mode():
                told = model(whole, use_cache=False).logits[0].double().log_softmax(-1)
            places = range(len(one.ids), whole.shape[1])
            assert found == pytest.approx(float(sum(told[at - 1, whole[0, at]] for at in places)), abs=1e-4)
