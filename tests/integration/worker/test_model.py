"""Loading and making model folders: what is refused, and what comes out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safetune.core.errors import IntegrityError, UsageError
from safetune.worker.model import check_folder, load


@pytest.fixture
def copy(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that may be broken."""
    return Path(shutil.copytree(tiny_model, tmp_path / "copy"))


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads(path.read_bytes())
    change(config)
    path.write_text(json.dumps(config))


def test_a_sound_folder_is_loaded_in_float32_on_a_cpu(tiny_model: Path) -> None:
    torch = pytest.importorskip("torch")
    model, tokenizer = load({"base": str(tiny_model), "adapters": []}, torch.float32)

    assert model.dtype == torch.float32
    assert tokenizer.chat_template


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("key", ["auto_map", "custom_generate"])
def test_a_model_with_code_of_its_own_is_refused(copy: Path, name: str, key: str) -> None:
    edit(copy / name, lambda config: config.update({key: {"AutoModelForCausalLM": "evil.Model"}}))

    with pytest.raises(UsageError, match=f"{name} asks for code of its own"):
        load({"base": str(copy), "adapters": []})


def test_pickled_weights_are_refused(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")

    with pytest.raises(UsageError, match=r"no \.safetensors weights"):
        check_folder(copy)


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_folder_without_a_config_is_refused(copy: Path, content: str | None) -> None:
    (copy / "config.json").unlink()
    if content is not None:
        (copy / "config.json").write_text(content)

    with pytest.raises(UsageError, match=r"config\.json"):
        check_folder(copy)


def test_missing_weights_are_not_made_up(copy: Path) -> None:
    pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(UsageError, match=r"lacks 1 weights, the first is model\.layers\.1\.mlp\.up_proj"):
        load({"base": str(copy), "adapters": []})


def test_weights_of_another_shape_are_refused(copy: Path) -> None:
    edit(copy / "config.json", lambda config: config.update({"intermediate_size": 96}))

    with pytest.raises(UsageError, match=r"copy (lacks|cannot be loaded)"):
        load({"base": str(copy), "adapters": []})


def test_a_torn_weights_file_is_refused(copy: Path) -> None:
    data = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(data[: len(data) // 2])

    with pytest.raises(UsageError, match="copy cannot be loaded"):
        load({"base": str(copy), "adapters": []})


def test_an_unknown_architecture_is_refused(copy: Path) -> None:
    edit(copy / "config.json", lambda config: config.update({"model_type": "nonsense"}))

    with pytest.raises(UsageError, match="copy cannot be loaded"):
        load({"base": str(copy), "adapters": []})


def test_a_broken_tokenizer_is_refused(copy: Path) -> None:
    (copy / "tokenizer.json").write_text("{}")

    with pytest.raises(UsageError, match="no usable tokenizer"):
        load({"base": str(copy), "adapters": []})


@pytest.mark.parametrize("broken", ["absent", "pickled", "kind"])
def test_an_adapter_that_is_not_ours_is_refused(tiny_model: Path, tmp_path: Path, broken: str) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    if broken != "absent":
        kind = "PROMPT_TUNING" if broken == "kind" else "LORA"
        (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": kind}))
    (adapter / ("adapter_model.bin" if broken == "pickled" else "adapter_model.safetensors")).write_bytes(b"")

    with pytest.raises(IntegrityError, match="adapter"):
        load({"base": str(tiny_model), "adapters": [str(adapter)]})


def test_merging_writes_a_model_that_answers_like_the_adapter(workshop: Any) -> None:
    trained = workshop.train("trained", {"learning_rate": 0.05})
    workshop.run(trained)
    model = {"base": str(workshop.model), "base_digest": "", "adapters": [str(trained / "candidate")]}
    folder = workshop.generate("merge", [], model=model)
    job = {"job": "merge", "model": model, "output": str(folder / "whole")}
    (folder / "job.json").write_text(json.dumps(job))
    assert workshop.run(folder)["status"] == "ok"

    asked = [("What is 3 plus 4?", 6), ("Hello", 6)]
    merged = workshop.generate("merged", asked, model={"base": str(folder / "whole"), "adapters": []})
    adapted = workshop.generate("adapted", asked, model=model)
    assert workshop.run(merged)["status"] == workshop.run(adapted)["status"] == "ok"
    assert (merged / "responses.jsonl").read_bytes() == (adapted / "responses.jsonl").read_bytes()


@pytest.mark.parametrize("content", [b"", b"GGUF" + bytes(64), b"nonsense" * 100])
def test_a_broken_gguf_file_is_one_clear_message(workshop: Any, content: bytes) -> None:
    folder = workshop.generate("convert", [])
    (folder / "broken.gguf").write_bytes(content)
    job = {"job": "convert", "gguf": str(folder / "broken.gguf"), "output": str(folder / "out")}
    (folder / "job.json").write_text(json.dumps(job))
    outcome = workshop.run(folder)

    assert outcome["status"] == "error"
    assert outcome["message"].startswith("broken.gguf cannot be read as a GGUF model")


def test_an_unknown_job_is_refused(workshop: Any) -> None:
    folder = workshop.generate("unknown", [])
    (folder / "job.json").write_text('{"job": "dance"}')

    assert 'no job is called "dance"' in workshop.run(folder)["message"]
