"""Generation on a CUDA device: the engine against `model.generate`, and beside continuous batching of transformers.

Skipped where there is no CUDA device. Continuous batching is not used by the engine: the last test prints what both
take, so that this can be decided on a machine that has one.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

LIMIT = 32


@pytest.fixture(scope="module")
def asked(tiny_model: Path, repo_root: Path) -> Any:
    """The model on the device, and shipped prompts put to it: answerer and requests."""
    from safetune.worker.generate import Answerer
    from safetune.worker.resident import Resident

    answerer = Answerer(*Resident().take({"base": str(tiny_model), "adapters": []}))
    lines = (repo_root / "configs/suites/prompts/harmless.jsonl").read_text().splitlines()
    rows = [{"digest": f"{n:03d}", "prompt": json.loads(line)["prompt"]} for n, line in enumerate(lines)]
    return answerer, [answerer.asker.ask({**row, "max_new_tokens": LIMIT}) for row in rows]


def engine(asked: Any, size: int) -> dict[str, list[int]]:
    from safetune.worker.batching import Budget, batches
    from safetune.worker.decoding import Decoder, Engine

    answerer, requests = asked
    decoder = Decoder(Engine(answerer.model), answerer.ends, lambda _, __: False)
    made = batches(requests, Budget(size, 2**40))
    return {one.digest: said for b in made for one, said in zip(b.rows, decoder.answer(b), strict=True)}


def test_the_model_is_on_the_device_and_not_packed(asked: Any) -> None:
    model: Any = asked[0].model

    assert model.device.type == "cuda"
    assert "forward" not in vars(model.get_submodule("lm_head"))


def test_the_engine_says_what_generate_says(asked: Any) -> None:
    from safetune.worker.batching import Batch
    from safetune.worker.decoding import Fallback

    answerer, requests = asked
    fallback = Fallback(answerer.model, answerer.ends, lambda _, __: False)
    expected = dict(
        zip((one.digest for one in requests), fallback.answer(Batch((), tuple(requests))), strict=True),
    )
    found = engine(asked, len(requests))
    same = sum(found[digest] == said for digest, said in expected.items())

    # In bfloat16 two orders of adding may swap two tokens that are nearly equal, and what follows is then another text.
    assert same >= 0.8 * len(requests)


def test_continuous_batching_is_compared_with_the_engine(asked: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import GenerationConfig

    answerer, requests = asked
    settings = GenerationConfig(
        max_new_tokens=LIMIT, do_sample=False, eos_token_id=answerer.ends, pad_token_id=answerer.ends[0]
    )
    inputs = [list(one.ids) for one in requests]
    answerer.model.generate_batch(inputs=inputs[:4], generation_config=settings)  # to warm up
    engine(asked, 64)
    torch.cuda.synchronize()
    began = time.perf_counter()
    told = answerer.model.generate_batch(inputs=inputs, generation_config=settings)
    torch.cuda.synchronize()
    middle = time.perf_counter()
    found = engine(asked, 64)
    torch.cuda.synchronize()
    ended = time.perf_counter()
    with capsys.disabled():
        print(f"\ncontinuous batching {middle - began:.2f} s, engine {ended - middle:.2f} s, {len(inputs)} prompts")

    assert len(told) == len(found) == len(inputs)
