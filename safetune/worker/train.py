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
from safetune.worker import arguments, lineage, resume, wording
from safetune.worker.lineage import Recorder
from safetune.worker.model import load, quiet
from safetune.worker.reporter import Reporter
from safetune.worker.rows import NumberedRow, Row, read_rows

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
    sources = _sources(job, job["sources"], trainer_plugin.row_problem)
    world, given = int(job["world_size"]), job["train"]
    steps = arguments.steps(given, [row for rows in sources.values() for row in rows], world)
    ordered = mix(sources, _shares(job["sources"]), steps * arguments.rows_per_step(given, world), int(job["seed"]))

    from safetune.worker.progress import Progress  # after the checks: it imports torch and transformers

    quiet(int(job["threads"]))
    model, tokenizer = load(job["model"], _dtype(job))
    wording.use(job, tokenizer)
    if not tokenizer.chat_template:
        raise UsageError("the model has no chat template, so rows of messages cannot be put into words for it")
    wording.check(job, tokenizer, ordered)
    worded = wording.told(job, ordered)
    if worded:
        reporter.say("note", text=wording.note(worded))
    techniques: list[TrainingTechnique[Any]] = [load_plugin("technique", t["name"]) for t in job["techniques"]]  # type: ignore[misc]
    recorder = Recorder()
    progress = Progress(reporter, steps, "save_steps" not in given, recorder)
    setup = TrainingSetup(
        model=model,
        tokenizer=tokenizer,
        rows=[row.content for row in ordered],
        arguments=arguments.complete(given, job, steps),
        adapter=job["adapter"],
        techniques=techniques,
        callbacks=(progress,),
        numbers=[row.number for row in ordered],
        saw=recorder.saw,
    )
    trainer: Any = trainer_plugin.build(setup)
    _check_processes(trainer, job)
    with trainer.accelerator.autocast():  # the reference in the same precision as the policy
        for technique, content in zip(techniques, job["techniques"], strict=True):
            technique.prepare(_technique_setup(trainer, technique, content, job))
    outcome = _run(trainer, job, recorder, progress.resumed)
    return {**outcome, "metrics": {**outcome["metrics"], **worded}}


def _run(
    trainer: Any, job: Mapping[str, Any], recorder: Recorder, resumed: Callable[[int, int], None]
) -> dict[str, Any]:
    """Train to the end and save; what comes out does not depend on whether training was interrupted."""
    started = time.monotonic()
    if trainer.is_world_process_zero():
        resume.remove_incomplete(Path(job["state"]), verify=True)
    trainer.accelerator.wait_for_everyone()
    found = resume.newest(Path(job["state"]))
    if found:
        # TRL counts tokens from 0 again after a resume; what was read before is in the state.
        trainer._total_train_tokens = _logged(json.loads((found[1] / "trainer_state.json").read_bytes()), "num_tokens")
        recorder.restore(found[1], trainer.accelerator.process_index, found[0])
        resumed(found[0], int(trainer._total_train_tokens))
    trainer.train(resume_from_checkpoint=str(found[1]) if found else None)
    _check_finite(trainer.model)
    output = Path(job["output"])
    _save(trainer, job, output)
    seen = lineage.write(trainer, job, recorder)
    history = {"log_history": trainer.state.log_history}
    return {
        "output": str(output),
        "kind": "lora" if job["adapter"] else "full",
        "lineage": str(seen),
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


def _sources(
    job: Mapping[str, Any], sources: list[Mapping[str, Any]], problem: Callable[[Row], str]
) -> dict[str, tuple[NumberedRow, ...]]:
    """Return the rows of sources by name, without those that the job leaves out.

    Raises:
        UsageError: when nothing of a source is left.
    """
    left_out = frozenset(job.get("skip", ()))
    found = {s["name"]: tuple(r for r in read_rows(s, problem) if r.number not in left_out) for s in sources}
    found = {name: wording.worded(job, rows) for name, rows in found.items()}
    empty = next((name for name, rows in found.items() if not rows), None)
    if empty is not None:
        raise UsageError(f"source {empty}: every row of it is left out", hint="look at its findings, or remove it")
    return found


def _technique_setup(
    trainer: Any, technique: TrainingTechnique[Any], content: Mapping[str, Any], job: Mapping[str, Any]
) -> TechniqueSetup:
    if content["sources"] and not hasattr(technique, "seen"):
        raise UsageError(f"technique {content['name']} has sources, but cannot say which rows it was computed on")
    sources = _sources(job, content["sources"], technique.row_problem)
    return TechniqueSetup(
        model=trainer.model,
        tokenizer=trainer.processing_class,
        rows={name: [row.content for row in rows] for name, rows in sources.items()},
        shares=_shares(content["sources"]),
        options=content["options"],
        seed=int(job["seed"]),
        steps=int(trainer.args.max_steps),
        numbers={name: [row.number for row in rows] for name, rows in sources.items()},
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
    if not job["adapter"]:
        wording.give_back(job, output)
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
