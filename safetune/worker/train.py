"""Train one stage: rows in order, TRL underneath, techniques in the loss, a complete state to resume from."""

from __future__ import annotations

import difflib
import math
import os
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from safetune.core.digest import JSON
from safetune.core.errors import RunError, UsageError
from safetune.core.mixing import mix
from safetune.plugins import load as load_plugin
from safetune.protocols import TechniqueSetup, Trainer, TrainingSetup, TrainingTechnique
from safetune.worker import resume
from safetune.worker.rows import read_rows
from safetune.worker.model import load, quiet

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from safetune.worker.__main__ import Reporter

_LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate")


def train(job: Mapping[str, Any], reporter: Reporter) -> Mapping[str, JSON]:
    """Train the job's stage, continuing from the last complete state, and save what came out."""
    quiet(int(job["threads"]))
    _check_world(job)
    trainer_plugin: Trainer = load_plugin("trainer", str(job["trainer"]))  # type: ignore[assignment]
    arguments = _arguments(job, trainer_plugin)
    steps = int(str(arguments["max_steps"]))
    rows = {s["name"]: read_rows(s) for s in job["sources"]}
    shares = {s["name"]: float(s["share"]) for s in job["sources"]}
    ordered = mix(rows, shares, steps * _rows_per_step(arguments, job), int(job["seed"]))
    model, tokenizer = load(job["model"])
    techniques = [_technique(t) for t in job["techniques"]]
    progress = _Progress(reporter, steps)
    setup = TrainingSetup(model, tokenizer, ordered, arguments, job["adapter"], techniques, (progress,))
    trainer: Any = trainer_plugin.build(setup)
    for technique, content in zip(techniques, job["techniques"], strict=True):
        technique.prepare(_technique_setup(trainer, tokenizer, content, (int(job["seed"]), steps)))
    return _run(trainer, job, progress)


def _run(trainer: Any, job: Mapping[str, Any], progress: _Progress) -> Mapping[str, JSON]:
    complete = resume.newest_complete(Path(job["state"]))
    if complete:
        step = int(complete.name.rpartition("-")[2])
        progress.resumed(step)
    started = time.monotonic()
    result = trainer.train(resume_from_checkpoint=str(complete) if complete else None)
    if not math.isfinite(float(result.training_loss)):
        raise RunError("the training loss is not a finite number", hint="lower learning_rate")
    output = Path(job["output"])
    trainer.save_model(str(output))
    if trainer.is_world_process_zero():
        _keep_only_safe_files(output)
    return {
        "output": str(output),
        "kind": "lora" if job["adapter"] else "full",
        "metrics": {
            "steps": int(trainer.state.global_step),
            "train_loss": round(float(progress.last_loss), 6),
            "tokens": int(trainer.state.num_input_tokens_seen or progress.tokens),
            "seconds": round(time.monotonic() - started, 3),
        },
        "resumed_from": progress.resumed_from,
        "versions": {name: version(name) for name in _LIBRARIES},
    }


def _check_world(job: Mapping[str, Any]) -> None:
    """Refuse to train with another number of processes than asked for; accelerate can start one and say nothing."""
    found = int(os.environ.get("WORLD_SIZE", "1"))
    if found != int(job["world_size"]):
        raise RunError(
            f"the launcher started {found} process(es), the playbook asks for {job['world_size']}",
            hint="check `launch` in the playbook and the accelerate config file",
        )


def _arguments(job: Mapping[str, Any], plugin: Trainer) -> dict[str, JSON]:
    """Return the TRL arguments: the playbook's, checked by name, then the ones that safetune must hold."""
    given = dict(job["train"])
    known = plugin.argument_names()
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            meant = f'; did you mean "{close[0]}"?' if close else ""
            raise UsageError(f'trainer {job["trainer"]} has no argument "{name}"{meant}')
    given["max_steps"] = _steps(given, job)
    given.pop("num_train_epochs", None)
    # A state every sixth of the run: at most that much is trained twice after a kill.
    given.setdefault("save_steps", max(1, round(int(given["max_steps"]) / 6)))
    return {
        "max_length": 1024,
        **given,
        "output_dir": job["state"],
        "seed": int(job["seed"]),
        "data_seed": int(job["seed"]),
        "save_strategy": "steps",
        "save_total_limit": 2,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        "remove_unused_columns": True,
    }


def _rows_per_step(arguments: Mapping[str, JSON], job: Mapping[str, Any]) -> int:
    batch = int(str(arguments.get("per_device_train_batch_size", 8)))
    return batch * int(str(arguments.get("gradient_accumulation_steps", 1))) * int(job["world_size"])


def _steps(given: Mapping[str, Any], job: Mapping[str, Any]) -> int:
    """Return the number of optimizer steps: `max_steps`, or what the epochs over all rows come to."""
    if int(given.get("max_steps", 0)) > 0:
        return int(given["max_steps"])
    rows = sum(len(read_rows(s)) for s in job["sources"])
    return max(1, math.ceil(float(given.get("num_train_epochs", 1)) * rows / _rows_per_step(given, job)))


def _technique(content: Mapping[str, Any]) -> TrainingTechnique[object]:
    plugin: TrainingTechnique[object] = load_plugin("technique", content["name"])  # type: ignore[assignment]
    return plugin


def _technique_setup(
    trainer: Any, tokenizer: object, content: Mapping[str, Any], run: tuple[int, int]
) -> TechniqueSetup:
    sources = content["sources"]
    return TechniqueSetup(
        model=trainer.model,
        tokenizer=tokenizer,
        rows={s["name"]: read_rows(s) for s in sources},
        shares={s["name"]: float(s["share"]) for s in sources},
        options=content["options"],
        seed=run[0],
        steps=run[1],
    )


def _keep_only_safe_files(output: Path) -> None:
    """Remove what a Trainer leaves beside the weights: pickled arguments, cards, optimizer state."""
    for path in output.iterdir():
        if path.is_file() and path.suffix not in (".safetensors", ".json", ".jinja", ".txt", ".model"):
            path.unlink()


class _Progress(TrainerCallback):
    """Says every step, seals every saved state, and stops at the first loss that is not a number."""

    def __init__(self, reporter: Reporter, steps: int) -> None:
        self._reporter = reporter
        self._steps = steps
        self._first = 0
        self._started = time.monotonic()
        self.resumed_from: int | None = None
        self.last_loss = math.nan
        self.tokens = 0

    def resumed(self, step: int) -> None:
        """Remember and say that training goes on after `step`."""
        self.resumed_from = self._first = step
        self._reporter.say("resumed", step=step)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Say that the first step is about to begin."""
        self._started = time.monotonic()
        self._reporter.say("start", steps=self._steps)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Report one step."""
        if not logs or "loss" not in logs:
            return
        self.last_loss = float(logs["loss"])
        if not math.isfinite(self.last_loss):
            raise RunError(f"the loss at step {state.global_step} is not a finite number", hint="lower learning_rate")
        self.tokens = int(logs.get("num_tokens", self.tokens))
        seconds = max(time.monotonic() - self._started, 1e-9)
        done = state.global_step - self._first
        extra = {k: float(v) for k, v in logs.items() if k.startswith("technique/")}
        self._reporter.say(
            "step",
            step=state.global_step,
            steps=self._steps,
            loss=round(self.last_loss, 4),
            tokens_per_s=round(self.tokens / seconds, 1),
            seconds_left=round(seconds / max(done, 1) * (self._steps - state.global_step), 1),
            metrics={k.removeprefix("technique/"): round(v, 5) for k, v in extra.items()},
        )

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Seal the state that was just saved."""
        if state.is_world_process_zero:
            resume.seal(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}", state.global_step)
            self._reporter.say("saved", step=state.global_step)


