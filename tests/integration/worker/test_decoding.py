"""Greedy decoding with our own cache against what `model.generate` says, on tiny models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from transformers import GenerationConfig, LlamaConfig, MistralConfig, PreTrainedModel
from transformers.models.llama import LlamaForCausalLM
from transformers.models.mistral import MistralForCausalLM

from safetune.core.errors import RunError
from safetune.worker.asking import Asked
from safetune.worker.batching import Batch, Budget, batches
from safetune.worker.decoding import Decoder, Engine, Fallback, plain_generation, why_not
from safetune.worker.packing import pack

END, ENDS = 3, (3, 9, 15, 21)


@pytest.fixture
def model() -> PreTrainedModel:
    """A tiny Llama with few words, so that it often says the one that ends an answer."""
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
        eos_token_id=END,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def requests(count: int, header: int = 6) -> list[Asked]:
    torch.manual_seed(count)
    beginning = tuple(range(4, 4 + header))
    return [
        Asked(str(n), (*beginning, *torch.randint(4, 40, (1 + n * 5 % 9,)).tolist()), 12 if n % 3 else 20)
        for n in range(count)
    ]


def never(_: Asked, __: Sequence[int]) -> bool:
    return False


def told(model: PreTrainedModel, rows: Sequence[Asked], ends: Sequence[int] = ENDS) -> dict[str, list[int]]:
    """What `model.generate` says to each request alone."""
    answers = {}
    for one in rows:
        said: Any = model.generate(
            torch.tensor([one.ids]),
            attention_mask=torch.ones((1, len(one.ids)), dtype=torch.long),
            max_new_tokens=one.max_new_tokens,
            do_sample=False,
            eos_token_id=list(ends),
            pad_token_id=0,
        )
        answers[one.digest] = said[0, len(one.ids) :].tolist()
    return answers


def ours(model: PreTrainedModel, rows: Sequence[Asked], size: int, ends: Sequence[int] = ENDS) -> Any:
    decoder = Decoder(Engine(model), ends, never)
    made = batches(rows, Budget(size, 10**6))
    return {one.digest: said for batch in made for one, said in zip(batch.rows, decoder.answer(batch), strict=True)}


@pytest.mark.parametrize("header", [0, 6])
@pytest.mark.parametrize("size", [1, 4, 16])
def test_answers_are_those_of_generate_whatever_the_batch(model: PreTrainedModel, size: int, header: int) -> None:
    rows = requests(11, header)
    expected = told(model, rows)

    assert len({len(said) for said in expected.values()}) > 3, "answers must end at different times"
    assert ours(model, rows, size) == expected


def test_packed_layers_give_the_same_answers(model: PreTrainedModel) -> None:
    rows = requests(9)
    expected = told(model, rows)
    if not pack(model):
        pytest.skip("this build of torch cannot pack weights")

    assert "forward" in vars(model.get_submodule("lm_head"))
    assert ours(model, rows, 4) == expected


def test_every_token_of_a_list_ends_an_answer(model: PreTrainedModel) -> None:
    rows = requests(9)
    ends = [told(model, rows, (0,))[digest][at] for digest, at in (("0", 2), ("1", 5))]
    expected = told(model, rows, ends)

    assert {said[-1] for said in expected.values()} >= set(ends)
    assert ours(model, rows, 4, ends) == expected


def test_a_judge_is_asked_every_eight_tokens_and_ends_only_its_row(model: PreTrainedModel) -> None:
    rows = [Asked(str(n), (5, 6, 7, 8 + n), 20, judge="quick" if n % 2 else "") for n in range(6)]
    seen: list[tuple[str, int]] = []

    def second_time(asked: Asked, said: Sequence[int]) -> bool:
        seen.append((asked.digest, len(said)))
        return len(said) >= 16

    batch = Batch((), tuple(rows))
    for answerer in (Decoder(Engine(model), (99,), second_time), Fallback(model, [99], second_time)):
        seen.clear()
        assert [len(said) for said in answerer.answer(batch)] == [20, 16, 20, 16, 20, 16]
        assert sorted(seen) == [(digest, count) for digest in "135" for count in (8, 16)]


def test_settings_of_the_model_do_not_change_greedy_decoding(model: PreTrainedModel) -> None:
    rows = requests(5)
    expected = told(model, rows)
    model.generation_config = GenerationConfig(
        repetition_penalty=9.0, do_sample=True, temperature=3.0, num_beams=2, min_new_tokens=5, eos_token_id=END
    )
    plain_generation(model)
    fallback = Fallback(model, ENDS, never)

    assert dict(zip("01234", fallback.answer(Batch((), tuple(rows))), strict=True)) == expected
    assert ours(model, rows, 4) == expected


def test_a_sliding_window_is_left_to_generate(tmp_path: Path) -> None:
    torch.manual_seed(6)
    config = MistralConfig(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=4,
        initializer_range=0.3,
        eos_token_id=END,
        pad_token_id=0,
    )
    model: Any = MistralForCausalLM(config).eval()
    rows = requests(5, 0)
    answers = Fallback(model, ENDS, never).answer(Batch((), tuple(rows)))

    assert why_not(model) == "its cache is not the plain one"
    assert dict(zip("01234", answers, strict=True)) == told(model, rows)


def test_a_plain_decoder_is_not_left_to_generate(model: PreTrainedModel) -> None:
    assert why_not(model) == ""


def test_logits_that_are_not_numbers_are_an_error(model: PreTrainedModel) -> None:
    with torch.no_grad():
        model.get_submodule("model.layers.1.mlp.down_proj").weight[3] = float("nan")

    with pytest.raises(RunError, match="not finite"):
        ours(model, requests(3), 2)
