"""One base in memory for several subjects: merged as peft merges, and back to the very bits of the file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file, save_file

from safetune.core.errors import IntegrityError
from safetune.worker import packing
from safetune.worker.model import load_weights
from safetune.worker.resident import Resident, stored

ADAPTED = ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj")


def adapter(folder: Path, seed: int, **settings: Any) -> Path:
    """Write a LoRA adapter for the tiny model with random matrices, in the form in which peft saves one."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig
    from transformers.models.llama import LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig.from_pretrained(settings.pop("base"))
    names = [name.rpartition(".")[2] for name in ADAPTED]
    lora: Any = {"r": 4, "lora_alpha": 7, "target_modules": names, "task_type": "CAUSAL_LM", **settings}
    adapted = get_peft_model(LlamaForCausalLM(config), LoraConfig(**lora))
    for name, value in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(value, std=0.2)
    adapted.save_pretrained(str(folder))
    return folder


@pytest.fixture
def make(tiny_model: Path, tmp_path: Path) -> Any:
    """A function that makes an adapter for the tiny model: make(seed, **settings)."""
    return lambda seed, **settings: adapter(tmp_path / f"adapter-{seed}", seed, base=tiny_model, **settings)


def bits(model: Any) -> dict[str, bytes]:
    return {name: value.detach().float().numpy().tobytes() for name, value in model.named_parameters()}


def merged_by_peft(base: Path, adapters: list[Path]) -> dict[str, bytes]:
    from peft import PeftModel

    model: Any = load_weights(base, torch.float32)
    for folder in adapters:
        model = PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    return bits(model)


def content(base: Path, adapters: list[Path]) -> Mapping[str, Any]:
    return {"base": str(base), "adapters": [str(folder) for folder in adapters]}


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"use_dora": True}, {"rank_pattern": {"q_proj": 2}}])
def test_merging_gives_the_bits_that_peft_gives(make: Any, tiny_model: Path, settings: Any) -> None:
    adapters = [make(1, **settings), make(2)]
    model, _ = Resident().take(content(tiny_model, adapters))

    assert bits(model) == merged_by_peft(tiny_model, adapters)


def test_the_next_subject_begins_with_the_bits_of_the_file(make: Any, tiny_model: Path) -> None:
    one, two = make(1), make(2)
    pristine = bits(load_weights(tiny_model, torch.float32))
    resident = Resident()
    first, _ = resident.take(content(tiny_model, [one]))
    assert bits(first) != pristine
    for adapters in ([], [two], [one, two], []):
        model, _ = resident.take(content(tiny_model, adapters))
        assert model is first, "the base must not be loaded again"
        assert bits(model) == merged_by_peft(tiny_model, adapters)
    assert bits(model) == pristine


def test_the_products_are_those_of_the_weights_after_every_change(make: Any, tiny_model: Path) -> None:
    """A packed copy of a weight that was not made anew would answer for the subject before."""
    resident, ids = Resident(), torch.arange(5, 25)[None]
    for adapters in ([], [make(1)], [make(2)], []):
        model, _ = resident.take(content(tiny_model, adapters))
        fresh, _ = Resident().take(content(tiny_model, adapters))
        plain: Any = load_weights(tiny_model, torch.float32)
        plain.load_state_dict(fresh.state_dict())
        with torch.inference_mode():
            found, expected = model(ids).logits, plain(ids).logits
        assert found.allclose(expected, atol=1e-4)
    if not resident.packed:
        pytest.skip("this build of torch cannot pack weights: only the plain products were compared")


def test_after_an_adapter_of_another_kind_the_base_is_loaded_again(make: Any, tiny_model: Path) -> None:
    resident = Resident()
    resident.take(content(tiny_model, [make(1, use_dora=True)]))
    model, _ = resident.take(content(tiny_model, []))

    assert bits(model) == bits(load_weights(tiny_model, torch.float32))


def test_another_base_takes_the_place_of_the_first(make: Any, tiny_model: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(tiny_model, tmp_path / "other"))
    weights = {name: value * 1.5 for name, value in load_file(other / "model.safetensors").items()}
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    resident, one = Resident(), make(1)
    resident.take(content(tiny_model, [one]))
    model, _ = resident.take(content(other, [one]))

    assert bits(model) == merged_by_peft(other, [one])


def test_only_weights_that_the_file_holds_bit_by_bit_can_be_copied_back(tiny_model: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(tiny_model, tmp_path / "other"))
    model = load_weights(tiny_model, torch.float32)
    weights = load_file(other / "model.safetensors")
    names = sorted(weights)
    weights[f"x.{names[0]}"] = weights.pop(names[0])
    weights[names[1]][0] += 1e-3
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})

    assert stored(model, tiny_model) == set(names)
    assert stored(model, other) == set(names[2:])


def test_a_base_that_cannot_be_copied_back_is_loaded_again(make: Any, tiny_model: Path, tmp_path: Path) -> None:
    renamed = Path(shutil.copytree(tiny_model, tmp_path / "renamed"))
    weights = {name.removeprefix("model."): value for name, value in load_file(renamed / "model.safetensors").items()}
    save_file(weights, renamed / "model.safetensors", metadata={"format": "pt"})
    resident = Resident()
    first, _ = resident.take(content(renamed, [make(1)]))
    model, _ = resident.take(content(renamed, []))

    assert bits(model) == bits(load_weights(tiny_model, torch.float32))
    assert model is not first


def test_weights_in_several_files_are_restored(tiny_model: Path, tmp_path: Path, make: Any) -> None:
    parts = tmp_path / "parts"
    load_weights(tiny_model, torch.float32).save_pretrained(parts, max_shard_size="300KB")
    for path in tiny_model.glob("token*"):
        shutil.copy(path, parts)
    assert (parts / "model.safetensors.index.json").is_file()
    resident = Resident()
    first, _ = resident.take(content(parts, [make(1)]))
    model, _ = resident.take(content(parts, []))

    assert model is first
    assert bits(model) == bits(load_weights(tiny_model, torch.float32))


@pytest.mark.parametrize("broken", ["shape", "half", "module", "torn"])
def test_an_adapter_that_does_not_fit_is_refused(make: Any, tiny_model: Path, broken: str) -> None:
    folder = make(1)
    file = folder / "adapter_model.safetensors"
    weights = load_file(file)
    name = next(key for key in weights if key.endswith("lora_A.weight"))
    if broken == "torn":
        file.write_bytes(file.read_bytes()[:100])
    else:
        value = weights.pop(name)
        if broken == "shape":
            weights[name] = value[:, :5].contiguous()
        elif broken == "module":
            weights[name.replace("layers.0", "layers.77")] = value
        save_file(weights, file)

    with pytest.raises(IntegrityError, match="does not fit its base model"):
        Resident().take(content(tiny_model, [folder]))


def test_several_subjects_are_answered_in_one_process_without_peft(workshop: Any, make: Any, repo_root: Path) -> None:
    one = make(1)
    prompts = [(f"Tell me about {n}", 6) for n in range(5)]
    subjects, folders = [], []
    for label, adapters in (("base", []), ("tuned", [one]), ("base again", [])):
        folder = workshop.generate(label, prompts, model=content(workshop.model, adapters))
        subjects += json.loads((folder / "job.json").read_bytes())["subjects"]
        folders.append(folder)
    together = workshop.generate("together", [])
    for subject in subjects:
        subject["responses"] = str(together / f"{subject['label']}.jsonl")
    job = json.loads((together / "job.json").read_bytes())
    (together / "job.json").write_text(json.dumps({**job, "subjects": subjects}))
    code = (
        "import sys; from pathlib import Path; from safetune.worker.__main__ import main; "
        "code = main(Path(sys.argv[1])); sys.exit(code or 3 * ('peft' in sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(together)], cwd=repo_root, capture_output=True, timeout=300)
    assert ended.returncode == 0, ended.stderr.decode()[-2000:]

    for folder, subject in zip(folders, subjects, strict=True):
        assert workshop.run(folder)["status"] == "ok"
        assert Path(subject["responses"]).read_bytes() == (folder / "responses.jsonl").read_bytes()
    base, tuned = (Path(subject["responses"]).read_bytes() for subject in subjects[:2])
    assert base != tuned
    said = [row for row in workshop.progress(together) if row["kind"] == "generated"]
    assert [(row["subject"], row["done"]) for row in said] == [
        (label, done) for label in ("base", "tuned", "base again") for done in (0, 4, 5)
    ]
    outcome = json.loads((together / "outcome.json").read_bytes())
    assert (outcome["status"], outcome["done"]) == ("ok", 15)


def test_a_broken_adapter_after_a_sound_subject_is_an_error_not_an_answer(workshop: Any, make: Any) -> None:
    """Layers that stayed packed with the weights of the subject before would answer in the name of the broken one."""
    broken = make(1)
    file = broken / "adapter_model.safetensors"
    weights = load_file(file)
    save_file({name: value * float("nan") if "lora_B" in name else value for name, value in weights.items()}, file)
    prompts = [(f"Tell me about {n}", 4) for n in range(3)]
    folders = [
        workshop.generate(label, prompts, model=content(workshop.model, adapters))
        for label, adapters in (("sound", []), ("broken", [broken]))
    ]
    jobs = [json.loads((folder / "job.json").read_bytes()) for folder in folders]
    both = workshop.generate("both", [], subjects=[subject for job in jobs for subject in job["subjects"]])
    outcome = workshop.run(both)

    assert outcome["status"] == "error"
    assert "not finite" in outcome["message"]
    assert len((folders[0] / "responses.jsonl").read_bytes().splitlines()) == 3
    assert not (folders[1] / "responses.jsonl").read_bytes()


def outputs(model: Any) -> bytes:
    with torch.inference_mode():
        return bytes(model(torch.arange(5, 25)[None]).logits.numpy().tobytes())


@pytest.mark.parametrize("refused", [1, 2])
def test_what_cannot_be_packed_any_more_is_answered_as_if_it_were_alone(
    make: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    works, calls = packing._works, 0

    def until_now(module: torch.nn.Linear) -> bool:
        nonlocal calls
        calls += 1
        return calls != refused + 1 and works(module)

    def alone(adapters: list[Path], packed: bool) -> bytes:
        with monkeypatch.context() as patch:
            patch.setattr(packing, "_works", works if packed else lambda _: False)
            return outputs(Resident().take(content(tiny_model, adapters))[0])

    subjects = [[], [make(1)], [make(2)], [], [make(3)]]
    expected = [alone(adapters, at != refused) for at, adapters in enumerate(subjects)]
    monkeypatch.setattr(packing, "_works", until_now)
    resident = Resident()

    assert [outputs(resident.take(content(tiny_model, adapters))[0]) for adapters in subjects] == expected


def test_no_layer_stays_packed_when_packing_breaks_off(
    make: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resident, one = Resident(), make(1)
    model, _ = resident.take(content(tiny_model, []))
    expected = outputs(Resident().take(content(tiny_model, [one]))[0])

    def full(module: torch.nn.Linear) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(packing, "_works", lambda _: True)
        patch.setattr(packing, "_packed", full)
        with pytest.raises(MemoryError):
            resident.take(content(tiny_model, [one]))
    assert torch.frombuffer(bytearray(outputs(model)), dtype=torch.float32).allclose(
        torch.frombuffer(bytearray(expected), dtype=torch.float32), atol=1e-4
    )
    assert outputs(resident.take(content(tiny_model, [one]))[0]) == expected


def test_the_layer_that_is_tried_is_the_same_whatever_changed(
    make: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Any] = []

    def refuse(module: torch.nn.Linear) -> bool:
        tried.append(module)
        return False

    monkeypatch.setattr(packing, "_works", refuse)
    resident = Resident()
    for adapters in ([], [make(1)], [make(2)], []):
        model, _ = resident.take(content(tiny_model, adapters))

    assert len(tried) == 4
    assert all(module is model.get_submodule("model.layers.0.self_attn.q_proj") for module in tried)


def test_a_layer_that_shares_a_changed_weight_is_packed_anew(tiny_model: Path) -> None:
    model: Any = load_weights(tiny_model, torch.float32)
    one, other = (model.get_submodule(f"model.layers.{n}.self_attn.q_proj") for n in range(2))
    other.weight = one.weight
    packed = packing.pack(model)
    with torch.no_grad():
        one.weight += 1.0
        packing.pack(model, ["model.layers.0.self_attn.q_proj.weight"])
        states = torch.ones(1, one.in_features)
        assert other(states).allclose(torch.nn.functional.linear(states, one.weight), atol=1e-3)
    if not packed:
        pytest.skip("this build of torch cannot pack weights: only the plain products were compared")
