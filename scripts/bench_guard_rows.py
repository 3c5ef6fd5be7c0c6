"""Rows for the benchmark of the guards: sentences of real texts, put together anew, the same on every machine.

A row asks with sentences of one or two texts and answers with sentences of others, up to about 1 KB of JSON. Sentences
come again, rows do not: what counts phrases and answers sees the wording of real data, and a chosen share of
rows are copies, exact and near, and personal data, as in data that was collected.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

from safetune.core.digest import canonical

SIZE = 1000  # bytes of a row's texts, about
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_OWN = Path(__file__).resolve().parent.parent
_COPIES, _NEAR, _PERSONAL = 0.01, 0.01, 0.005  # shares of rows


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)
    elif isinstance(value, dict):
        for one in value.values():
            yield from _strings(one)


def _texts(root: Path | None) -> Iterator[str]:
    """Yield the texts of public data sets, of safetune's own where there are none."""
    if root is None:
        for path in sorted((*_OWN.glob("docs/**/*.md"), *_OWN.glob("safetune/**/*.py"))):
            yield path.read_text()
        return
    for name in ("gsm8k/train_first2000.jsonl", "finetuning_attacks/databricks-dolly-15k-safety-only.jsonl"):
        for line in (root / name).read_text().splitlines():
            yield from _strings(json.loads(line))
    with gzip.open(root / "hh_rlhf_harmless" / "harmless_base_test.jsonl.gz", "rt") as file:
        for line in file:
            text = json.loads(line)["chosen"]
            yield from (part.strip() for part in re.split(r"\n\n(?:Human|Assistant):", text))
    with (root / "hatecheck" / "test_suite_cases.csv").open() as table:
        yield from (row["test_case"] for row in csv.DictReader(table) if row["label_gold"] == "non-hateful")


def sentences(root: Path | None) -> list[str]:
    """Return the sentences that rows are made of, each once, in the order of the texts."""
    found: dict[str, None] = {}
    for text in _texts(root):
        found.update((one, None) for one in _SENTENCE.split(text) if 20 <= len(one) <= 400)
    return list(found)


def data_root() -> Path | None:
    """Return the folder of public data sets, None where there is none."""
    root = Path(os.environ.get("SAFETUNE_DATA_ROOT") or _OWN.parent / "shared" / "data")
    return root if (root / "gsm8k").is_dir() else None


def _joined(draw: random.Random, pool: list[str], size: int) -> str:
    said: list[str] = []
    while size > 0:
        said.append(pool[int(draw.random() * len(pool))])
        size -= len(said[-1]) + 1
    return " ".join(said)


def write_rows(path: Path, count: int, seed: int = 1) -> None:
    """Write `count` rows to `path`, one conversation with one answer each."""
    draw = random.Random(seed)
    pool = sentences(data_root())
    kept: list[tuple[str, str]] = []
    with path.open("wb") as file:
        for number in range(count):
            asks, says = _row(draw, pool, kept)
            if len(kept) < 10_000:
                kept.append((asks, says))
            else:
                kept[number % 10_000] = asks, says
            asked = [{"role": "user", "content": asks}]
            file.write(canonical({"prompt": asked, "completion": [{"role": "assistant", "content": says}]}) + b"\n")


def _row(draw: random.Random, pool: list[str], kept: list[tuple[str, str]]) -> tuple[str, str]:
    kind = draw.random()
    if kept and kind < _COPIES:
        return draw.choice(kept)
    if kept and kind < _COPIES + _NEAR:
        asks, says = draw.choice(kept)
        words = says.split()
        words[draw.randrange(len(words))] = "indeed"
        return asks, " ".join(words)
    asks, says = _joined(draw, pool, SIZE * 2 // 5 - 60), _joined(draw, pool, SIZE * 3 // 5 - 60)
    if kind > 1 - _PERSONAL:
        asks += f" Write to ann.smith{draw.randrange(10_000)}@mail.example.org."
    return asks, says
