"""What happens around the steps of a run: say them, keep states to resume from, stop at a loss that is no number."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from safetune.core.errors import RunError
from safetune.worker import resume
from safetune.worker.lineage import Recorder
from safetune.worker.reporter import Reporter

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

# A state is saved when a minute has passed and at least twenty times what saving last took: a kill costs about a
# minute of work (more only where saving itself is slow), and at most a twentieth of the time goes into saving.
_SAVE_SECONDS = 60.0
_SAVE_SHARE = 20.0


class Progress(TrainerCallback):  # type: ignore[misc]
    """Says every step, seals every saved state, and stops at the first loss that is not a finite number."""

    def __init__(self, reporter: Reporter, steps: int, by_time: bool, recorder: Recorder) -> None:
        self._reporter = reporter
        self._recorder = recorder
        self._steps = steps
        self._by_time = by_time
        self._first_step = 0
        self._first_tokens = 0
        self._started = self._saved = time.monotonic()
        self._save_began = 0.0
        self._save_took = 0.0

    def resumed(self, step: int, tokens: int) -> None:
        """Remember and say that training goes on after `step`, with `tokens` read before."""
        self._first_step, self._first_tokens = step, tokens
        self._reporter.say("resumed", step=step)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Say that the first step is about to begin."""
        self._started = self._saved = time.monotonic()
        self._reporter.say("start", steps=self._steps)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Ask for a state to be saved when it is time; the first process decides for all."""
        if not self._by_time or state.global_step >= self._steps:
            return
        passed = time.monotonic() - self._saved
        due = torch.tensor(passed >= max(_SAVE_SECONDS, _SAVE_SHARE * self._save_took), device=args.device)
        if args.world_size > 1:
            torch.distributed.broadcast(due, src=0)
        if bool(due):
            self._save_began = time.monotonic()
            control.should_save = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Report one step.

        Raises:
            RunError: when the loss or, without loss scaling, the gradient is not finite.
        """
        if not logs or "loss" not in logs:
            return
        for name in ("loss", "grad_norm"):
            if not math.isfinite(float(logs.get(name, 0.0))) and not (name == "grad_norm" and args.fp16):
                raise RunError(
                    f"the {name.replace('grad_norm', 'gradient')} at step {state.global_step} is not a finite number",
                    hint="lower learning_rate, or look for a row that cannot be learnt",
                )
        seconds = max(time.monotonic() - self._started, 1e-9)
        tokens = int(logs.get("num_tokens", 0)) - self._first_tokens
        left = (self._steps - state.global_step) * seconds / max(state.global_step - self._first_step, 1)
        self._reporter.say(
            "step",
            step=state.global_step,
            steps=self._steps,
            loss=round(float(logs["loss"]), 4),
            tokens_per_s=round(tokens / seconds, 1),
            seconds_left=round(left, 1),
            metrics=_metrics(logs),
        )

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Put the rows that were seen beside the state that was just saved, and seal it."""
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        self._recorder.save(folder, args.process_index)
        if args.world_size > 1:
            torch.distributed.barrier()  # every process has written its part
        if state.is_world_process_zero:
            resume.seal(folder, state.global_step)
            self._reporter.say("saved", step=state.global_step)
        self._saved = time.monotonic()
        self._save_took = self._saved - self._save_began


def _metrics(logs: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite figures worth showing beside the loss."""
    chosen = {k.removeprefix("technique/"): v for k, v in logs.items() if k.startswith("technique/")}
    chosen |= {k: logs[k] for k in ("task_loss", "grad_norm", "learning_rate", "mean_token_accuracy") if k in logs}
    chosen |= {k: v for k, v in logs.items() if k.startswith("rewards/")}
    return {name: float(f"{float(v):.6g}") for name, v in chosen.items() if math.isfinite(float(v))}
