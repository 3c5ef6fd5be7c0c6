"""Damaged results files of every kind: items, or one UsageError; never another exception, and never a false whole."""

from __future__ import annotations

import copy
import io
import json
import math
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from safetune.core.errors import UsageError
from safetune.engine.importing import Choice, Imported, as_recorded, read_results

COUNT = 3
HOSTILE: list[Any] = [
    *(None, True, -1, 0.5, 10**400, float("nan"), float("inf"), "", "x", "\ud800", "\x1b[2J", "../x"),
    *([], [[]], [None], {}, {"a": {}}, {"value": "C"}, "attachment://x"),
]


def inspect_log() -> dict[str, Any]:
    samples = [
        {
            **{"id": n, "epoch": 1, "input": [{"role": "user", "content": f"Q{n}"}], "metadata": {"topic": "t"}},
            "output": {"choices": [{"message": {"content": [{"type": "text", "text": f"A{n}"}]}}]},
            "scores": {"exact": {"value": "C", "history": []}},
        }
        for n in range(COUNT)
    ]
    spec = {"task": "t", "dataset": {"sample_ids": list(range(COUNT))}, "config": {"epochs": 1}}
    header = {"status": "success", "eval": {**spec, "packages": {"inspect_ai": "0.3.285"}}}
    return {**header, "results": {"total_samples": COUNT}, "samples": samples}


def lm_eval_rows() -> list[dict[str, Any]]:
    requests = {f"gen_args_{m}": {"arg_0": "Q", "arg_1": f" {m}"} for m in range(2)}
    return [
        {
            **{"doc_id": n, "doc": {"q": "Q"}, "arguments": requests, "resps": [[["-1.5", "False"]], [["-2.5", "x"]]]},
            **{"filter": "none", "metrics": ["acc"], "acc": 1.0},
        }
        for n in range(COUNT)
    ]


def garak_rows() -> list[dict[str, Any]]:
    prompt = {"turns": [{"role": "user", "content": {"text": "Q"}}]}
    attempts = [
        {
            **{"entry_type": "attempt", "uuid": f"u{n}", "seq": n, "status": 2, "probe_classname": "p.P"},
            **{"prompt": prompt, "outputs": [{"text": "A"}], "detector_results": {"d.D": [1.0]}},
        }
        for n in range(COUNT)
    ]
    counted = {"entry_type": "eval", "probe": "p.P", "detector": "d.D", "fails": COUNT, "total_processed": COUNT}
    init = {"entry_type": "init", "garak_version": "0.17.1"}
    return [{"entry_type": "start_run setup"}, init, *attempts, counted, {"entry_type": "completion"}]


def own_rows() -> list[dict[str, Any]]:
    head = {"schema": "safetune-items/1", "tool": "checker", "version": "1", "expected": COUNT, "labels": ["good"]}
    item = {"prompt": "Q", "output": "A", "judge": "r", "judge_score": 1.0, "label": "good", "sample": 0}
    return [head, *({**item, "item_id": str(n)} for n in range(COUNT))]


WHOLE: dict[str, Any] = {
    "inspect": inspect_log(),
    "lm-eval": lm_eval_rows(),
    "garak": garak_rows(),
    "own": own_rows(),
}


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every (container, key) inside a JSON value."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield value, key
        yield from places(value[key])


def damaged(value: Any, chance: random.Random) -> Any:
    """Return a copy with one place removed, doubled or replaced."""
    result = copy.deepcopy(value)
    container, key = chance.choice(list(places(result)))
    kind = chance.randrange(4)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, list):
        container.append(copy.deepcopy(container[key]))
    else:
        container[key] = copy.deepcopy(chance.choice(HOSTILE))
    return result


def encoded(value: Any) -> bytes:
    if isinstance(value, dict):
        return json.dumps(value).encode()
    return b"".join(json.dumps(row).encode() + b"\n" for row in value)


def read(folder: Path, data: bytes) -> Imported | None:
    path = folder / "samples_t_2026-03-01T10-11-12.131415.jsonl"
    path.write_bytes(data)
    try:
        return read_results(path, "s", "candidate", Choice(expected=COUNT))
    except UsageError as error:
        said = error.message
    assert 0 < len(said) < 500
    return None


def check_sound(found: Imported) -> None:
    """What is read must be fit for evidence: complete or said not to be, and every field of the right kind."""
    assert found.complete == (len(found.items) == found.expected)
    assert found.complete or found.incomplete
    assert all(item.label in found.labels for item in found.items)
    assert all(math.isfinite(item.judge_score) and 0 <= item.judge_score <= 1 for item in found.items)
    for item in found.items:
        json.dumps(dict(item.row), ensure_ascii=False, allow_nan=False).encode()
    assert len(as_recorded(found)) <= len(found.items)


@pytest.mark.parametrize("kind", WHOLE)
def test_what_is_not_damaged_is_whole(tmp_path: Path, kind: str) -> None:
    found = read(tmp_path, encoded(WHOLE[kind]))
    assert found is not None
    assert found.complete
    assert len(found.items) == COUNT
    check_sound(found)


@pytest.mark.parametrize("kind", WHOLE)
def test_a_damaged_field_never_crashes_and_never_makes_a_false_whole(tmp_path: Path, kind: str) -> None:
    chance = random.Random(kind)
    refused = 0
    for _ in range(600):
        found = read(tmp_path, encoded(damaged(WHOLE[kind], chance)))
        refused += found is None
        if found is not None:
            check_sound(found)
    assert 0 < refused < 600


@pytest.mark.parametrize("kind", WHOLE)
def test_damaged_bytes_never_crash(tmp_path: Path, kind: str) -> None:
    chance, data = random.Random(kind), encoded(WHOLE[kind])
    for _ in range(200):
        broken = bytearray(data)
        for _ in range(chance.randrange(1, 4)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        found = read(tmp_path, bytes(broken[: chance.choice((len(broken), chance.randrange(len(broken))))]))
        if found is not None:
            check_sound(found)


def test_a_damaged_archive_never_crashes(tmp_path: Path) -> None:
    content = inspect_log()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for row in content.pop("samples"):
            archive.writestr(f"samples/{row['id']}_epoch_1.json", json.dumps(row))
        archive.writestr("header.json", json.dumps(content))
    data, chance = stream.getvalue(), random.Random(7)
    whole = read(tmp_path, data)
    assert whole is not None
    assert whole.complete
    for _ in range(400):
        broken = bytearray(data)
        for _ in range(chance.randrange(1, 4)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        found = read(tmp_path, bytes(broken))
        if found is not None:
            check_sound(found)
            assert found.items == whole.items or not found.complete
