"""Greedy decoding: safetune's engine beside bare `model.generate`: `python scripts/bench_decoding.py`.

Both answer the same prompts in the same process, in turn, on one thread; figures are CPU seconds of generation alone
(user and system), start-up apart. Bare transformers gets what a careful person would give it: the longest prompts
first, padded on the left, in batches of 16. Every engine row says how many responses differ from the bare ones.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
_PROMPTS = ("harmless", "harmful-requests", "safe-lookalikes")
_EVERY = 5  # of the shipped prompts: some of each file

Said = Mapping[str, list[int]]
Way = Callable[[], Said]


@dataclass(slots=True)
class _Measured:
    """What one way of decoding took in each round, and what it said in the first."""

    cpu: list[float] = field(default_factory=list)
    said: Said = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return sum(len(tokens) for tokens in self.said.values())


def main() -> int:
    """Measure in rounds, print a Markdown table, and return 1 when the engine is slower at an equal batch."""
    wanted = _arguments()
    wanted.model = wanted.model or _embedded()
    started: list[tuple[str, float]] = []
    ways = _ways(wanted, started)
    found = {name: _Measured() for name in ways}
    for turn in range(wanted.rounds):
        for name, way in ways.items():
            began = time.process_time()
            said = way()
            found[name].cpu.append(time.process_time() - began)
            found[name].said = found[name].said or said
            print(f"bench: round {turn + 1}, {name}: {found[name].cpu[-1]:.1f} CPU s", file=sys.stderr, flush=True)
    print(_table(found))
    print("\nStart-up, CPU s: " + ", ".join(f"{name} {seconds:.2f}" for name, seconds in started))
    bare, equal = (median(found[name].cpu) for name in ("bare 16", "engine 16"))
    return 0 if equal <= bare else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a folder with safetensors weights; the embedded model when absent")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="*", default=[16, 32, 64], help="batch rows of the engine")
    return parser.parse_args()


def _embedded() -> Path:
    from safetune.core.playbook import ModelRef
    from safetune.engine.models import make_ready, resolve
    from safetune.engine.sums import Sums

    model = resolve(ModelRef("embedded", "smollm2-135m-instruct"), Sums(None))
    with tempfile.TemporaryDirectory() as scratch:
        return make_ready(model, Path(scratch), lambda _: None)


def _prompts(count: int) -> list[str]:
    folder = _ROOT / "configs" / "suites" / "prompts"
    lines = [line for name in _PROMPTS for line in (folder / f"{name}.jsonl").read_text().splitlines()]
    return [str(json.loads(line)["prompt"]) for line in lines][::_EVERY][:count]


def _ways(wanted: argparse.Namespace, started: list[tuple[str, float]]) -> dict[str, Way]:
    """Load the model twice, packed for the engine and as it is for bare transformers, and return the ways to decode."""
    at = time.process_time()

    def lap(name: str) -> None:
        nonlocal at
        now = time.process_time()
        started.append((name, now - at))
        at = now

    import torch

    lap("import torch")
    import transformers  # noqa: F401

    lap("import transformers")
    from safetune.worker.generate import Answerer
    from safetune.worker.model import load_weights, quiet
    from safetune.worker.resident import Resident

    quiet(1)
    model, tokenizer = Resident().take({"base": str(wanted.model), "adapters": []})
    lap("load and pack the model, load the tokenizer")
    answerer = Answerer(model, tokenizer)
    rows = [
        {"digest": f"{n:04d}", "prompt": prompt, "max_new_tokens": wanted.tokens}
        for n, prompt in enumerate(_prompts(wanted.prompts))
    ]
    asked = sorted((answerer.asker.ask(row) for row in rows), key=lambda one: (-len(one.ids), one.digest))
    bare: Any = load_weights(wanted.model, torch.float32).eval()
    ways: dict[str, Way] = {"bare 16": lambda: _bare(bare, asked, tokenizer)}
    for size in sorted({16, *wanted.sizes}):
        ways[f"engine {size}"] = lambda size=size: _engine(answerer, asked, size)  # type: ignore[misc]
    return ways


def _bare(model: Any, asked: Sequence[Any], tokenizer: Any) -> Said:
    import torch

    said: dict[str, list[int]] = {}
    for start in range(0, len(asked), 16):
        batch = asked[start : start + 16]
        width = max(len(one.ids) for one in batch)
        ids = [[tokenizer.pad_token_id] * (width - len(one.ids)) + list(one.ids) for one in batch]
        mask = [[0] * (width - len(one.ids)) + [1] * len(one.ids) for one in batch]
        with torch.inference_mode():
            told = model.generate(
                input_ids=torch.tensor(ids),
                attention_mask=torch.tensor(mask),
                max_new_tokens=batch[0].max_new_tokens,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )
        for one, row in zip(batch, told, strict=True):
            tokens = row[width:].tolist()
            end = tokens.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in tokens else len(tokens)
            said[one.digest] = tokens[:end]
    return said


def _engine(answerer: Any, asked: Sequence[Any], size: int) -> Said:
    from safetune.worker.batching import Budget, batches
    from safetune.worker.decoding import Decoder, Engine

    # A new engine each time: the shared beginning is computed in every round, as in every job.
    decoder = Decoder(Engine(answerer.model), answerer.ends, lambda _, __: False)
    said: dict[str, list[int]] = {}
    for batch in batches(asked, Budget(size, 2**40)):
        for one, tokens in zip(batch.rows, decoder.answer(batch), strict=True):
            said[one.digest] = tokens
    return said


def _table(found: Mapping[str, _Measured]) -> str:
    lines = [
        "| decoding | CPU s, median | min - max | tokens | tokens per CPU s | against bare | responses that differ |",
        "|---|---|---|---|---|---|---|",
    ]
    bare = found["bare 16"]
    for name, one in found.items():
        middle = median(one.cpu)
        rate = one.tokens / middle
        times = rate / (bare.tokens / median(bare.cpu))
        differ = sum(one.said[digest] != tokens for digest, tokens in bare.said.items())
        spread = f"{min(one.cpu):.1f} - {max(one.cpu):.1f}"
        cells = (name, f"{middle:.1f}", spread, str(one.tokens), f"{rate:.1f}", f"{times:.2f}x")
        lines.append(f"| {' | '.join(cells)} | {differ} of {len(bare.said)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
