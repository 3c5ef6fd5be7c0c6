"""Copied to the front of a worker's path: a training job is watched by `row_probe`, whatever safetune records itself.

What really went through the model lies beside this file afterwards, as `probe-STAGEKEY.json`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent


def _job() -> dict[str, Any]:
    """Return the training job of this process; nothing when it has none."""
    words = sys.orig_argv
    if words[-3:-1] != ["-m", "safetune.worker"] or any("accelerate" in word for word in words):
        return {}
    found: dict[str, Any] = json.loads((Path(words[-1]) / "job.json").read_bytes())
    return found if found["job"] == "train" else {}


def _watch(job: dict[str, Any]) -> None:
    from row_probe import Probe

    from safetune.worker.progress import Progress

    probe = Probe(Path(job["model"]["base"]))
    probe.watch(setattr)
    end = Progress.on_step_end

    def on_step_end(progress: Any, *rest: Any, **more: Any) -> None:
        end(progress, *rest, **more)
        steps = [[[topic, n, count] for (topic, n), count in step.items()] for step in probe.steps]
        (_HERE / f"probe-{job['stage_key']}.json").write_text(json.dumps(steps))

    Progress.on_step_end = on_step_end  # type: ignore[method-assign, assignment]


if _FOUND := _job():
    _watch(_FOUND)
