"""Train one stage: rows in order, TRL underneath, techniques in the loss, a complete state to resume from."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetune.core.digest import JSON
from safetune.core.errors import RunError, UsageError
from safetune.core.mixing import mix
from safetune.plugins import load as load_plugin
from safetune.protocols import TechniqueSetup, Trainer, TrainingSetup, TrainingTechnique
from safetune.worker import arguments, resume
from safetune.worker.model import load, quiet
from safetune.worker.reporter import Reporter
from safetune.worker.rows import read_rows

if TYPE_CHECKING:
    import torch

_LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate")
_KEPT_SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".model")


def train(job: Mapping[str, Any], reporter: Reporter) -> Mapping[str, JSON]:
    """Train the job's stage, continuing from the last complete state, and save what came out.

    Raises:
        UsageError: when an argument, a row or the model cannot be used.
        RunError: when the launch is not the one asked for, or a number stops being finite.
    """
    _check_world_size(job)
    trainer_plugin: Trainer = load_plugin("trainer", str(job["trainer"]))  # type: ignore[assignment]
    arguments.check_names(job["train"], trainer_plugin)
    sources = {s["name"]: read_rows(s, trainer_plugin.row_problem) for s in job["sources"]}
    world, given = int(job["world_size"]), job["train"]
    steps = arguments.steps(given, [row for rows in sources.values() for row in rows], world)
    ordered = mix(sources, _shares(job["sources"]), steps * arguments.rows_per_step(given, world), int(job["seed"]))

    from safetune.worker.progress import Progress  # after the checks: it imports torch and transformers

    quiet(int(job["threads"]))
    model, tokenizer = load(job["model"], _dtype(job))
    if not tokenizer.chat_template:
        raise UsageError("the model has no chat template, so rows of messages cannot be put into words for it")
    techniques: list[TrainingTechnique[Any]] = [load_plugin("technique", t["name"]) for t in job["techniques"]]  # type: ignore[misc]
    progress = Progress(reporter, steps, by_time="save_steps" not in given)
    completed = arguments.complete(given, job, steps)
    setup = TrainingSetup(model, tokenizer, ordered, completed, job["adapter"], techniques, (progress,))
    trainer: Any = trainer_plugin.build(setup)
    _check_processes(trainer, job)
    with trainer.accelerator.autocast():  # the reference in the same precision as the policy
        for technique, content in zip(techniques, job["techniques"], strict=True):
            technique.prepare(_technique_setup(trainer, technique, content, (int(job["seed"]), steps)))
    return _run(trainer, job, progress.resumed)


def _run(trainer: Any, job: Mapping[str, Any], resumed: Callable[[int, int], None]) -> Mapping[str, JSON]:
    """Train to the end and save; what comes out does not depend on whether training was interrupted."""
    started = time.monotonic()
    if trainer.is_world_process_zero():
        resume.remove_incomplete(Path(job["state"]), verify=True)
    trainer.accelerator.wait_for_everyone()
    found = resume.newest(Path(job["state"]))
    if found:
        # TRL counts tokens from 0 again after a resume; what was read before is in the state.
        trainer._total_train_tokens = _logged(json.loads((found[1] / "trainer_state.json").read_bytes()), "num_tokens")
        resumed(found[0], int(trainer._total_train_tokens))
    trainer.train(resume_from_checkpoint=str(found[1]) if found else None)
    _check_finite(trainer.model)
    output = Path(job["output"])
    _save(trainer, job, output)
    history = {"log_history": trainer.state.log_history}
    return {
        "output": str(output),
        "kind": "lora" if job["adapter"] else "full",
        "metrics": {
            "steps": int(trainer.state.global_step),
            "train_loss": round(_logged(history, "loss"), 6),
            "tokens": int(_logged(history, "num_tokens")),
            "seconds": round(time.monotonic() - started, 3),
        },
        "resumed_from": found[0] if found else None,
        "versions": {name: version(name) for name in _LIBRARIES},
    }


def _logged(state: Mapping[str, Any], name: str) -> float:
    """Return the last logged value of a figure, or 0 when there is none."""
    return float(next((row[name] for row in reversed(state["log_history"]) if name in row), 0.0))


def _check_world_size(job: Mapping[str, Any]) -> None:
    """Refuse another number of processes than asked for; accelerate can start one and say nothing."""
    found = int(os.environ.get("WORLD_SIZE", "1"))
    if found != int(job["world_size"]):
        raise RunError(
            f"the launcher started {found} process(es), the playbook asks for {job['world_size']}",
            hint="check `launch` in the playbook and its accelerate config file",
        )


def _check_processes(trainer: Any, job: Mapping[str, Any]) -> None:
    """Refuse to train when the processes do not really work together in the way asked for."""
    state = trainer.accelerator
    kind = str(state.distributed_type).rpartition(".")[2]
    wanted = str(job.get("distributed") or "")
    alone = int(job["world_size"]) > 1 and kind == "NO"
    if state.num_processes != int(job["world_size"]) or alone or wanted not in ("", kind):
        raise RunError(
            f"accelerate runs {state.num_processes} process(es) as {kind}; the playbook asks for {job['world_size']}"
            + (f" as {wanted}" if wanted else ""),
            hint="check `launch` in the playbook and its accelerate config file",
        )


def _dtype(job: Mapping[str, Any]) -> torch.dtype | None:
    """Return float32 when all weights are trained: small updates vanish in bfloat16 weights."""
    import torch

    return None if job["adapter"] else torch.float32


def _shares(sources: list[Mapping[str, Any]]) -> dict[str, float]:
    return {source["name"]: float(source["share"]) for source in sources}


def _technique_setup(
    trainer: Any, technique: TrainingTechnique[Any], content: Mapping[str, Any], run: tuple[int, int]
) -> TechniqueSetup:
    return TechniqueSetup(
        model=trainer.model,
        tokenizer=trainer.processing_class,
        rows={source["name"]: read_rows(source, technique.row_problem) for source in content["sources"]},
        shares=_shares(content["sources"]),
        options=content["options"],
        seed=run[0],
        steps=run[1],
    )


def _check_finite(model: Any) -> None:
    """Refuse to save a weight that is not a finite number: the last update comes after the last loss."""
    for name, weight in model.named_parameters():
        if weight.requires_grad and not bool(weight.isfinite().all()):
            raise RunError(f"{name} is not finite after the last step", hint="lower learning_rate")


def _save(trainer: Any, job: Mapping[str, Any], output: Path) -> None:
    """Save the adapter alone, or the whole model with its tokenizer, and nothing that is pickled."""
    first = trainer.is_world_process_zero()
    if first:
        shutil.rmtree(output, ignore_errors=True)  # what an interrupted worker left
    trainer.accelerator.wait_for_everyone()
    trainer.save_model(str(output))
    if not first:
        return
    for path in output.iterdir():
        kept = path.name.startswith("adapter_") if job["adapter"] else path.suffix in _KEPT_SUFFIXES
        if not kept or path.suffix not in _KEPT_SUFFIXES:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if job["adapter"]:
        _settle_adapter_config(output / "adapter_config.json", str(job["model"]["base_digest"]))


def _settle_adapter_config(path: Path, base: str) -> None:
    """Make equal training give equal bytes: peft writes the folder of the base model and module names in set order."""
    content = {**json.loads(path.read_bytes()), "base_model_name_or_path": base or None}
    if isinstance(content["target_modules"], list):
        content["target_modules"] = sorted(content["target_modules"])
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
